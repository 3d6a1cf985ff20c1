"""The console: what the stack does, as pages in a browser that follow it live. One FastAPI process, no build step.

Rule 1. Everything is read from the topics, the services' own metrics, the registry, the lake and the watchers' journals;
        no Prometheus is needed.
Rule 2. What one request or one slow browser does, never delays what the others see.
"""
