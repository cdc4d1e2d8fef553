"""From what the solvers left behind to scores and metrics in standard Inspect logs."""
