"""Tidy tables from logs: `read_tables`."""

from self_steering.analysis.tables.read import Tables, empty_tables, read_tables

__all__ = ["Tables", "empty_tables", "read_tables"]
