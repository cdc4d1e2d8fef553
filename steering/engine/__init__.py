"""Batched generation that steers each row at the planned tokens, and measures what it did."""
