"""The page of a vector library."""
