"""The examples in docstrings of what users import, and the snippets of the pages, are run."""

import ast
import asyncio
import doctest
import importlib
import inspect
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from self_steering.analysis.tables import read_tables
from self_steering.steering.engine import open as opening
from tests.support.hand_made_logs import said, sample, took, write_log

# Where a user's own code meets ours.
IMPORTED = {
    "vectors.catalogue": ("catalogue",),
    "vectors.library": ("load_library",),
    "vectors.making.corpus": ("load_corpus",),
    "steering.plan": ("Direction", "Treatment", "Window", "Plan", "plan_windows"),
    "steering.request": ("SteeringRequest", "steering_report"),
    "steering.calls": ("steering_calls",),
    "steering.operations": ("in_words",),
    "steering.notebook": ("load",),
    "solvers.self_steer": ("self_steer",),
    "solvers.session": ("session_tools",),
    "scorers.metrics": ("clustered_mean",),
}


@pytest.fixture(scope="module", autouse=True)
def _loaded_once() -> Iterator[None]:
    """Load the bundled model once for all that open it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "load_model", cache(opening.load_model))
        yield


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in IMPORTED.items() for name in names])
def test_a_name_that_users_import_has_an_example_that_runs(module: str, name: str):
    """An example that does not hold is worse than none."""
    found = importlib.import_module(f"self_steering.{module}")
    tests = doctest.DocTestFinder(recurse=False).find(getattr(found, name), name, module=found)
    assert sum(len(test.examples) for test in tests), f"{name} has no example"
    results = [doctest.DocTestRunner(verbose=False).run(test) for test in tests]
    assert not any(result.failed for result in results)


def test_the_example_of_read_tables_runs(tmp_path: Path):
    """Its folder holds a log of each arm."""
    for arm, taken in (("real", ("calm", "creative", "calm")), ("placebo", ("calm",))):
        messages = [part for name in taken for part in took(name)]
        args = {"framing": "drugs", "steering_mode_runtime": arm}
        write_log(
            tmp_path / f"{'ab'[arm == 'placebo']}.eval",
            [sample([*messages, *said()])],
            task=f"fp_{arm}_drugs",
            args=args,
            model="openai/Qwen",
            eval_id=arm,
            task_id=arm,
        )
    (test,) = doctest.DocTestFinder(recurse=False).find(read_tables, "read_tables", extraglobs={"folder": tmp_path})
    assert not doctest.DocTestRunner(verbose=False).run(test).failed


ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "vectors/README.md", "analysis/README.md")


def test_every_page_with_snippets_is_run_here():
    """A page that shows code is missing here until it is added."""
    skip = (".venv", ".src")
    pages = [
        path.relative_to(ROOT) for path in ROOT.rglob("*.md") if not path.relative_to(ROOT).parts[0].startswith(skip)
    ]
    assert {str(page) for page in pages if "```python" in (ROOT / page).read_text(encoding="utf-8")} == set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_the_snippets_of_a_page_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """One after the other as in a notebook, beside a folder of logs and a corpus; each ends without an error."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logs").mkdir()
    write_log(
        tmp_path / "logs" / "a.eval",
        [sample([*took("calm"), *said()])],
        task="fp_real_drugs",
        args={"framing": "drugs"},
    )
    stories = [
        {"emotion": e, "topic": t, "story": f"{e} in the {t}"} for e in ("neutral", "calm", "anxious") for t in "ab"
    ]
    (tmp_path / "stories.jsonl").write_text("\n".join(map(json.dumps, stories)), encoding="utf-8")
    names: dict[str, object] = {}
    try:
        text = re.sub(r"max_tokens=\d+", "max_tokens=4", (ROOT / page).read_text(encoding="utf-8"))
        for number, snippet in enumerate(re.findall(r"```python\n(.*?)```", text, re.DOTALL)):
            made = compile(snippet, f"{page}, snippet {number}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            done = eval(made, names)  # noqa: S307  our own page
            if inspect.iscoroutine(done):
                asyncio.run(done)
    finally:
        if "model" in names:
            names["model"].close()
