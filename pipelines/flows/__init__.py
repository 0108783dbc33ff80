"""Prefect flows: thin compositions of stages."""
