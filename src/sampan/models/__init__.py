"""Frozen models: formats without pickle, versions, metrics."""
