"""The house: each folder uses only those before it, no module is a sliver of another, and the registry is quick to import."""

import ast
import json
import re
import subprocess
import sys
from collections import defaultdict
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# From the ground up. A folder within a folder is a floor of its own where it uses more than the folder does.
FLOORS = ("vectors", "steering", "vectors/making", "solvers", "scorers", "evals", "analysis", "analysis/cli")
HEAVY = ("torch", "transformers", "nnsight", "scipy", "pandas", "statsmodels", "matplotlib", "datasets")
# Started by a person, by Inspect or by an engine, not by another module.
ENTRY_POINTS = {
    "evals/ctf.py",
    "analysis/cli/__init__.py",
    "evals/_registry.py",
    "evals/data/make_maths_problems.py",
    "steering/on_vllm/worker.py",
    "steering/provider.py",
}
# Modules that one other module alone uses, and what makes each a page of its own right.
PAGES = {
    # vectors and their making
    "vectors/making/build.py": "from stories to a library: the command's work",
    "vectors/making/calibration.py": "how default doses are found",
    "vectors/making/quality.py": "how good vectors are",
    "vectors/exported.py": "a library's vectors as files of other tools: the command's work",
    "vectors/making/imported.py": "from files of other tools to a library: the command's work",
    "vectors/making/stories.py": "how a corpus is written",
    "vectors/making/story_prompts.py": "what is asked for one story: prompts as data",
    # steering
    "steering/notebook.py": "the door that a notebook imports",
    "steering/picture.py": "a turn as Inspect View shows it",
    "steering/options.py": "what becomes of each field of Inspect's GenerateConfig",
    "steering/output.py": "from generated tokens to Inspect's output",
    "steering/bundled/training.py": "the training loop",
    "steering/engine/memory.py": "how much memory there is",
    "steering/engine/open.py": "which engine a model gets",
    "steering/engine/packed.py": "oneDNN's packed products",
    "steering/on_vllm/engine.py": "the engine that vLLM runs",
    "steering/on_vllm/step.py": "one forward pass",
    # analysis: numbers apart from their figures, a topic each
    "analysis/freeplay/course.py": "a topic",
    "analysis/freeplay/picks_figures.py": "figures of a topic",
    "analysis/freeplay/redosing_figures.py": "figures of a topic",
    "analysis/freeplay/stacking.py": "numbers of a topic",
    "analysis/freeplay/stacking_figures.py": "figures of a topic",
    "analysis/introspection/imposed.py": "a ledger and its figure",
    "analysis/introspection/introspection_table.py": "what `table` prints of introspection",
    "analysis/introspection/preference.py": "numbers and figures of a topic",
    "analysis/introspection/relief.py": "numbers and figure of a topic",
    "analysis/introspection/segments.py": "a topic",
    "analysis/introspection/vector_figures.py": "figures of a topic",
    "analysis/library/library_figures.py": "figures of a library's page",
    "analysis/library/library_page.py": "a library's page",
    "analysis/report/answers.py": "what a report answers",
    "analysis/report/headline.py": "what a report says first",
    "analysis/report/report.py": "all of a report",
    "analysis/report/side_by_side.py": "the page of `compare`",
    "analysis/report/register.py": "the reports of `register`",
    "analysis/report/report_page.py": "a report's page",
    "analysis/report/summary.py": "what a log's samples say, score by score",
    "analysis/report/terminal.py": "what `table` prints of any log",
    "analysis/tables/store.py": "what is kept of logs between runs",
    "analysis/tables/study_scores.py": "scores of the study's own logs",
    "analysis/tables/suite.py": "rows of Inspect logs of this suite",
    "analysis/tasks/accuracy_figures.py": "figures of a topic",
    "analysis/tasks/frustration_figures.py": "figures of a topic",
    "analysis/tasks/gauge.py": "numbers and figure of a topic",
    "analysis/tasks/impairment.py": "numbers of a topic",
    "analysis/tasks/timeline.py": "numbers of a topic",
    "analysis/tasks/timeline_figure.py": "figures of a topic",
}


EXAMPLES = {"task.py", "my_task.py", "shards.toml"}


@cache
def files() -> set[str]:
    """Return the project's files, the tests' among them, by their path from the root."""
    tops = {floor.partition("/")[0] for floor in FLOORS} | {"tests"}
    found = [*ROOT.glob("*"), *(path for top in tops for path in (ROOT / top).rglob("*"))]
    return {path.relative_to(ROOT).as_posix() for path in found if path.is_file()}


@cache
def imports() -> dict[str, set[str]]:
    """Return for each module the modules of the project that it imports, whether at once, when called, or for types."""
    modules = {file for file in files() if file.endswith(".py") and not file.startswith("tests/")}
    found: dict[str, set[str]] = {}
    for file in modules:
        names = set()
        for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                # What is imported may be a module of the package, or something in the module.
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                names |= {name for name in inner if _file(name, modules)} or {node.module}
        found[file] = {target for name in names if (target := _file(name, modules))} - {file}
    return found


def _file(name: str, modules: set[str]) -> str | None:
    if not name.startswith("self_steering."):
        return None
    path = name.removeprefix("self_steering.").replace(".", "/")
    return next((file for file in (f"{path}.py", f"{path}/__init__.py") if file in modules), None)


def floor(file: str) -> int:
    """Return the number of the floor that a module is on."""
    return FLOORS.index(max((name for name in FLOORS if file.startswith(f"{name}/")), key=len))


def test_each_folder_uses_only_those_before_it():
    """A module imports from its own floor and the floors below."""
    assert [f"{one} -> {two}" for one, used in imports().items() for two in used if floor(two) > floor(one)] == []


def test_no_modules_import_each_other_in_a_circle():
    """There is an order in which all modules can be read, each after what it uses."""
    assert len(list(TopologicalSorter(imports()).static_order())) == len(imports())


def test_a_module_has_two_importers_or_is_a_page_of_its_own():
    """What one module alone uses belongs into that module, unless it is started from outside, is data, or says why."""
    importers: dict[str, set[str]] = defaultdict(set)
    for one, used in imports().items():
        for two in used:
            importers[two].add(one)
    # What a package passes on is used by whoever imports it from there.
    for file in [file for file in imports() if file.endswith("/__init__.py")]:
        for passed_on in imports()[file]:
            importers[passed_on] |= importers[file]
    alone = {
        file
        for file in imports()
        if len(importers[file]) < 2
        and not file.endswith("__init__.py")
        and not file.startswith(("analysis/cli/", "solvers/prompts/"))
    }
    assert sorted(alone - ENTRY_POINTS - set(PAGES)) == []


def test_the_registry_is_quick_to_import():
    """Every `inspect` command imports it: what takes seconds to import is left to those who use it."""
    code = (
        "import json, sys; import self_steering.evals._registry as found; assert callable(found.nnsight); "
        f"print(json.dumps([n for n in {HEAVY} if n in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize("page", sorted(file for file in files() if file.endswith(".md")))
def test_every_file_that_a_readme_names_is_there(page: str):
    """A module or page in backticks, or behind a link, is found from the page's own folder, from the root, or in a folder."""
    text = (ROOT / page).read_text(encoding="utf-8")
    named = re.findall(r"`([\w/-]+\.(?:py|md|toml))`|\]\(([\w/.-]+)\)", text)
    for name in {one or two for one, two in named} - EXAMPLES:
        beside = (ROOT / page).parent / name
        assert beside.exists() or any(f"/{file}".endswith(f"/{name}") for file in files()), f"{page} names {name}"
