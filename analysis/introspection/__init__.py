"""Introspection (RQ2): gaps between the cached and the uncached reading, and the bias-free tasks."""
