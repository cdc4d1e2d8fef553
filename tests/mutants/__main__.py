"""`make mutants`: lets mutmut change the core, one place at a time, and counts the changes that some test notices.

Modules are mutated in groups, each in a folder of its own under `.mutants`, and judged by the few test files that speak for them
(`modules.toml`). A change that no test notices has its reason in `survivors.toml`, or a test is missing. Results are kept: what
is run again is what has changed, and what survived without a reason; without the folder `.mutants` all is.
"""

import argparse
import contextlib
import difflib
import json
import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import libcst as cst
from mutmut.mutation.data import MutantLineSpans
from mutmut.stats import status_by_exit_code
from mutmut.utils.format_utils import mangled_name_from_mutant_name, parse_mutant_key

from self_steering.analysis.drawing.words import text_table

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WORK = ROOT / ".mutants"
CORE = Path("src/self_steering/steering")
ENOUGH = 0.95  # of a module's mutants
_KILLED, _NOT_RUN = ("killed", "timeout", "segfault"), "not checked"
_MANGLED = re.compile(r"x\w*__mutmut_\w+(?=\()")  # what mutmut calls a function and its mutants where they are made
_SETTINGS = """
source_paths = {sources}
pytest_add_cli_args_test_selection = {tests}
pytest_add_cli_args = ["-m", "not slow", "-k", "{chosen}", "-n", "0", "-p", "no:cacheprovider"]
# Errors' and warnings' words are the business of tests that read them.
do_not_mutate_patterns = ['^\\s*raise \\w+\\(', '^\\s*logger\\.']
# A process that has run nothing yet: in one that has, caches would hold what the unchanged code made.
process_isolation = "forkserver"
timeout_constant = 4.0
use_git_change_detection = false
"""


@dataclass(frozen=True)
class Group:
    """Modules that are mutated together.

    Attributes:
        name: What the group is called.
        modules: Paths under `steering`.
        tests: The test files that judge.
        without: Parts of the names of tests in them that do not.
    """

    name: str
    modules: list[str]
    tests: list[str]
    without: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        """Where mutmut works."""
        return WORK / self.name


GROUPS = {one["name"]: Group(**one) for one in tomllib.loads((HERE / "modules.toml").read_text())["group"]}


@dataclass(frozen=True)
class Mutant:
    """One change of one function.

    Attributes:
        change: Module, function, and the lines before and after, which tell it apart for good.
        name: What mutmut calls it; another one once the function is edited.
        status: What became of it, in mutmut's word.
    """

    change: str
    name: str
    status: str


class _Undecorated(cst.CSTTransformer):
    """Writes `@property` above a function as a call behind it, as mutmut leaves out what is decorated."""

    def leave_FunctionDef(  # noqa: N802 - libcst's name
        self,
        original_node: cst.FunctionDef,  # noqa: ARG002 - libcst's protocol
        updated_node: cst.FunctionDef,
    ) -> cst.FunctionDef | cst.FlattenSentinel[cst.BaseStatement]:
        """Move the decorators, the innermost first."""
        if not updated_node.decorators:
            return updated_node
        name = updated_node.name
        applied: list[cst.BaseStatement] = [
            cst.SimpleStatementLine([cst.Assign([cst.AssignTarget(name)], cst.Call(one.decorator, [cst.Arg(name)]))])
            for one in reversed(updated_node.decorators)
        ]
        return cst.FlattenSentinel([updated_node.with_changes(decorators=[]), *applied])


def main() -> int:
    """Run mutmut on some groups; the exit code is 1 where a mutant survives without a reason, or too few are killed."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description="Test the tests of the core.")
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"{', '.join(GROUPS)} (default: all)")
    parser.add_argument("--report", action="store_true", help="run nothing; tell what is known from earlier runs")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.groups) - set(GROUPS)):
        parser.error(f"no group {', '.join(unknown)}; choose from {', '.join(GROUPS)}")
    reasons = _reasons()
    rows, missing, short, gone = [], [], [], []
    for group in (GROUPS[name] for name in arguments.groups or GROUPS):
        if not arguments.report:
            _run(group, reasons)
        for module in group.modules:
            found = list(_mutants(group, module))
            counts = Counter(one.status for one in found)
            killed = sum(counts[status] for status in _KILLED)
            survived = [one for one in found if one.status not in (*_KILLED, _NOT_RUN)]
            unargued = [one for one in survived if one.change not in reasons]
            missing += unargued
            changes = {one.change for one in found}
            gone += [change for change in reasons if change.startswith(f"{module}: ") and change not in changes]
            if counts[_NOT_RUN] or not found or killed < ENOUGH * len(found):
                short.append(module)
            told = {
                "module": module,
                "mutants": f"{len(found):,}",
                "killed": f"{killed:,}",
                "%": f"{100 * killed / max(1, len(found) - counts[_NOT_RUN]):.1f}",
                "argued": str(len(survived) - len(unargued)),
                "not argued": str(len(unargued)),
                "not run": str(counts[_NOT_RUN]),
            }
            rows.append(told)
    for one in missing:
        sys.stdout.write(f"{one.status}: {one.change}\n")
    for change in gone:
        sys.stdout.write(f"argued in survivors.toml, but there is no such mutant any more: {change}\n")
    sys.stdout.write("\n" + text_table(rows) + "\n")
    if short:
        sys.stdout.write(f"not run to the end, or less than {ENOUGH:.0%} killed: {', '.join(short)}\n")
    return 1 if missing or short or gone else 0


def _reasons() -> dict[str, str]:
    """Return for every change that may survive why it may."""
    kinds = tomllib.loads((HERE / "survivors.toml").read_text()).get("kind", [])
    return {change: kind["why"] for kind in kinds for change in kind["changes"]}


def _run(group: Group, reasons: Collection[str]) -> None:
    """Mutate the modules of a group, and let its tests judge what is new and what survived without a reason."""
    _lay_out(group)
    for module in group.modules:
        again = {one.name for one in _mutants(group, module) if one.status not in _KILLED and one.change not in reasons}
        if again:
            meta = _meta(group, module)
            known = json.loads(meta.read_text())
            known["exit_code_by_key"] |= dict.fromkeys(again)
            meta.write_text(json.dumps(known))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONHASHSEED": "0"}
    mutmut = [sys.executable, "-m", "mutmut", "run", "--max-children", "1"]
    if subprocess.run(mutmut, cwd=group.folder, env=environment, check=False).returncode:  # noqa: S603 - our own command
        sys.exit(f"mutmut stopped in {group.folder.relative_to(ROOT)} and says why above; results so far are kept")


def _lay_out(group: Group) -> None:
    """Give mutmut a tree in which what is mutated are files of its own, and all else is the project's by links."""
    for module in group.modules:
        mutable = cst.parse_module((ROOT / "steering" / module).read_text()).visit(_Undecorated()).code
        source = group.folder / CORE / module
        source.parent.mkdir(parents=True, exist_ok=True)
        if not source.exists() or source.read_text() != mutable:  # mutmut goes by its date
            source.write_text(mutable)
    settings = (ROOT / "pyproject.toml").read_text().partition("[tool.pytest.ini_options]")[2].partition("\n[")[0]
    sources = json.dumps([f"{CORE}/{module}" for module in group.modules])
    chosen = " and ".join(f"not {part}" for part in group.without)
    mine = _SETTINGS.format(sources=sources, tests=json.dumps(group.tests), chosen=chosen)
    (group.folder / "pyproject.toml").write_text(f"[tool.pytest.ini_options]{settings}\n[tool.mutmut]{mine}")
    own = frozenset(ROOT / "steering" / module for module in group.modules)
    tree = group.folder / "mutants"
    for path in ROOT.iterdir():
        if not path.name.startswith(".") and path.name != "pyproject.toml":
            _link(path, tree / path.name, frozenset())
        if (path / "__init__.py").exists() and path.name != "tests":
            _link(path, tree / CORE.parent / path.name, own)


def _link(original: Path, place: Path, own: frozenset[Path]) -> None:
    """Link to a file or folder; of a folder with files that mutmut writes, to all else in it."""
    if original in own:
        return
    if any(original in one.parents for one in own):
        for path in original.iterdir():
            _link(path, place / path.name, own)
    elif not place.is_symlink():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(original)


def _meta(group: Group, module: str) -> Path:
    return group.folder / "mutants" / CORE / f"{module}.meta"


def _mutants(group: Group, module: str) -> Iterator[Mutant]:
    """Return the mutants of a module, as far as mutmut has made them."""
    meta = _meta(group, module)
    if not meta.exists():
        return
    with contextlib.chdir(group.folder):
        index = MutantLineSpans.load(CORE / module)
    assert index is not None
    lines = _MANGLED.sub("", meta.with_suffix("").read_text()).splitlines()
    for name, code in json.loads(meta.read_text())["exit_code_by_key"].items():
        mangled = mangled_name_from_mutant_name(name).rpartition(".")[2]
        before, after = (
            lines[span.start - 1 : span.end]
            for span in (
                index.span_by_function_name[one] for one in (f"{mangled}__mutmut_orig", name.rpartition(".")[2])
            )
        )
        told = [line for line in difflib.ndiff(before, after) if line[:2] in ("- ", "+ ")]
        old, new = (" ".join(line[2:].strip() for line in told if line[0] == sign) for sign in "-+")
        function = ".".join(filter(None, reversed(parse_mutant_key(mangled))))
        yield Mutant(f"{module}: {function}: {old} → {new}", name, status_by_exit_code[code])


if __name__ == "__main__":
    sys.exit(main())
