"""Clients that two or more services share: Kafka, the state store, the model store, the lake, metrics, settings.

Rule 1. An adapter may import `fraud`; it never imports a service.
"""
