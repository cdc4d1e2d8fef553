"""Tidy tables from logs: `read_tables`."""

from self_steering.analysis.tables.read import Tables, empty_tables, read_tables, worked_out_once

__all__ = ["Tables", "empty_tables", "read_tables", "worked_out_once"]
