"""The vLLM engine's part, measured in that engine's own environment, where `make test-vllm` has built one."""

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

PYTHON = Path(__file__).resolve().parents[2] / ".venv-vllm" / "bin" / "python"


def installed() -> bool:
    """Return whether the environment is there."""
    return PYTHON.exists()


def measure(rounds: int) -> dict[str, Any]:
    """Return what `make bench-vllm` finds.

    Raises:
        RuntimeError: It broke off.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "bench.json"
        command = [str(PYTHON), "-m", "tests.vllm.bench", "--rounds", str(rounds), "--out", str(out)]
        done = subprocess.run(command, cwd=PYTHON.parents[2], capture_output=True, check=False)  # noqa: S603  our own module
        # 1 says that a figure is out of reach, which the table shows.
        if done.returncode not in (0, 1) or not out.exists():
            raise RuntimeError(f"the vLLM part broke off: {done.stderr.decode(errors='replace')[-2000:]}")
        found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        return found
