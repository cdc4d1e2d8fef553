"""The data of the evals, and the scripts that made them."""
