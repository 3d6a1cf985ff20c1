"""Grafana's dashboards as code: `python -m monitoring.grafana` writes dashboards/*.json.

Rule 1. A dashboard is changed here and generated again; a test compares the files with what this code makes.
Rule 2. A query names metrics by the catalogue's constants, or a recording rule by its name.
"""
