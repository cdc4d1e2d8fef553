"""Plan, chat, engine and provider: from a tool call to exactly the steering it asked for."""

import os

# Before torch is imported, whose GNU OpenMP reads it once. Its threads wait for each other by spinning, 300,000 times where nothing
# is said: beside any other busy process that takes the cores from the very threads they wait for, and generation took several
# times as long as with these few, which cost an idle machine nothing that could be measured.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
