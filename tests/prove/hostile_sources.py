"""Nothing from elsewhere is run: no pickle, no remote code, no network at import, nothing a log says becomes part of a page."""

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.prove.judge import command
from tests.support.hand_made_logs import asked, said, sample, took, write_log

_ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = ("analysis", "evals", "scorers", "solvers", "steering", "vectors")
_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib", "runpy"}
_NAMES = {"eval", "exec", "compile", "__import__"}
_CALLS = {"yaml.load", "yaml.unsafe_load", "pd.read_pickle", "os.system", "os.popen"}
# These run nothing with this argument, which must be written out.
_SAFE_WITH = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}
_MARKUP = "<script>alert(1)</script><img src=x onerror=alert(2)>"
_BARRED = """
import importlib, socket, sys
def refuse(*args, **kwargs):
    raise SystemExit(f"{current} opens a connection at import")
socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = refuse
for current in sys.argv[1:]:
    try:
        importlib.import_module(current)
    except ModuleNotFoundError as error:  # what makes the data wants packages that nobody else needs
        if not error.name or error.name.startswith("self_steering"):
            raise
"""


def checks(folder: Path) -> list[tuple[str, Callable[[], list[str]]]]:
    """Return what must hold, each with what finds that it does not."""
    return [
        ("sources", source_faults),
        ("imports", import_faults),
        ("a log's words on a page", lambda: page_faults(folder)),
    ]


def source_faults() -> list[str]:
    """Return every place of the packages that could run code from elsewhere."""
    found = []
    for path in sorted(path for package in _PACKAGES for path in (_ROOT / package).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        where = path.relative_to(_ROOT)
        found += [f"{where}:{node.lineno}: {what}" for node in ast.walk(tree) if (what := _danger(node))]
    return found


def _danger(node: ast.AST) -> str | None:
    if isinstance(node, ast.Import) and (names := {n.name.split(".")[0] for n in node.names} & _MODULES):
        return f"imports {', '.join(names)}"
    if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in _MODULES:
        return f"imports from {node.module}"
    if isinstance(node, ast.keyword) and node.arg in ("trust_remote_code", "allow_pickle", "shell"):
        value = node.value.value if isinstance(node.value, ast.Constant) else "not a constant"
        return None if value is False else f"{node.arg} is {value}"
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func)
        # Inspect's own `eval` runs a task, not text; ours never calls it.
        if name in _NAMES or name in _CALLS:
            return f"calls {name}"
        if name in _SAFE_WITH:
            argument, safe = _SAFE_WITH[name]
            given = {k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)}
            return None if given.get(argument) is safe else f"calls {name} without {argument}={safe}"
    return None


def import_faults() -> list[str]:
    """Import every module of the packages in a process that may open no connection."""
    names = [
        ".".join(("self_steering", *path.relative_to(_ROOT).with_suffix("").parts)).removesuffix(".__init__")
        for package in _PACKAGES
        for path in sorted((_ROOT / package).rglob("*.py"))
    ]
    done = subprocess.run(  # noqa: S603  our own modules
        [sys.executable, "-c", _BARRED, *names], capture_output=True, text=True, timeout=170, check=False
    )
    return [] if done.returncode == 0 else [f"importing: {done.stderr.strip().splitlines()[-1][:300]}"]


def page_faults(folder: Path) -> list[str]:
    """Report a log whose every name and text is markup, and return where it is not shown as text."""
    messages = [
        *asked(_MARKUP),
        *said(_MARKUP),
        *took(_MARKUP, dose=1.0),
        *took("calm", _MARKUP),
        *took("calm", error=_MARKUP),
    ]
    rollout = sample(messages, name=_MARKUP, metadata={"framing": _MARKUP, "arm": _MARKUP, "category": _MARKUP})
    write_log(folder / "logs" / "log.eval", [rollout], task=_MARKUP, model=_MARKUP, args={_MARKUP: _MARKUP})
    (folder / "logs" / "<script>alert(1)<script>.eval").write_text(_MARKUP)
    out = folder / "report"
    command("report", str(folder / "logs"), "--out", str(out))
    found = []
    for path in sorted([*out.rglob("*.html"), *out.rglob("*.svg")]):
        text = path.read_text(encoding="utf-8").lower()
        if "<script>alert" in text or "<img src=x" in text:
            found.append(f"{path.relative_to(out)} holds the log's markup as markup")
    if "&lt;script&gt;alert(1)" not in (out / "index.html").read_text(encoding="utf-8").lower():
        found.append("the log's words are not on the page at all")
    return found
