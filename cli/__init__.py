"""The `fraudstream` command and the local runner."""
