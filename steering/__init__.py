"""Steering: from a tool call to additions in a model's residual stream, and back to what was done."""

import os

# Before torch is imported, whose GNU OpenMP reads it once. Its threads wait for each other by spinning, some 300,000 times where nothing
# is said: beside any other busy process that takes the cores from the very threads they wait for, and a generation took four times as
# long as with these few, which bridge the pauses between two operations all the same.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
