"""The examples in docstrings of what users import, and the snippets of the pages, are run."""

import ast
import asyncio
import doctest
import importlib
import inspect
import json
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from inspect_ai._cli.main import inspect as inspect_command
from inspect_ai.log import read_eval_log

from self_steering.analysis.cli import main as self_steering_command
from self_steering.analysis.tables import read_tables
from self_steering.steering.engine import open as opening
from self_steering.vectors.card import read_card
from self_steering.vectors.foreign import open_foreign
from tests.support.hand_made_logs import said, sample, took, write_log
from tests.support.html_tree import read
from tests.support.inspect_runs import ROOT

pytestmark = pytest.mark.slow

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


PAGES = ("README.md", "vectors/README.md", "analysis/README.md")


def test_every_page_with_snippets_is_run_here():
    """A page that shows code is missing here until it is added."""
    skip = (".venv", ".src")
    pages = [
        path.relative_to(ROOT) for path in ROOT.rglob("*.md") if not path.relative_to(ROOT).parts[0].startswith(skip)
    ]
    assert {str(page) for page in pages if "```python" in (ROOT / page).read_text(encoding="utf-8")} == set(PAGES)


STRANGER = "With your vectors"  # README's section that is run whole


def blocks(page: str, only: str | None = None, but: str | None = None) -> list[tuple[str, str]]:
    """Return (language, text) of each block of code in a page: of one section, or of all but one."""
    sections = re.split(r"^## ", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
    titles = [section.partition("\n")[0] for section in sections]
    kept = [s for s, title in zip(sections, titles, strict=True) if title == only or (only is None and title != but)]
    return re.findall(r"^```(python|bash)\n(.*?)^```", "".join(kept), flags=re.DOTALL | re.MULTILINE)


def test_a_stranger_takes_a_vector_from_a_file_to_every_tool_as_readme_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    """README's own lines, one after the other in a clone: imported, in two evals, in a notebook, compared, reported, exported."""
    for name in ("evals", "vectors"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", str(tmp_path))
    monkeypatch.setenv("INSPECT_DISPLAY", "none")
    monkeypatch.delenv("INSPECT_LOG_DIR", raising=False)
    names: dict[str, Any] = {}
    commands = 0
    for language, text in blocks("README.md", only=STRANGER):
        if language == "python":
            exec(compile(text, "README.md", "exec"), names)  # noqa: S102  our own page
            commands += 1
            continue
        for line in text.replace("\\\n", " ").splitlines():
            program, *arguments = shlex.split(line, comments=True)
            if program == "inspect":
                done = CliRunner().invoke(inspect_command, arguments, catch_exceptions=False)
                assert done.exit_code == 0, done.output
            else:
                assert program == "self-steering"
                assert self_steering_command(arguments) == 0, capsys.readouterr().err
            commands += 1
    assert commands <= 15
    vector = np.load("pirate.npy")
    card = read_card(Path("own"))
    shipped = read_card(ROOT / "vectors/libraries/smollm2-135m-instruct").default_doses
    assert card.default_doses == {"pirate": 0.15, **shipped}
    assert names["answer"].receipts[0]["steered"] == names["answer"].receipts[0]["planned"] > 0
    assert names["answer"].receipts[0]["label"] == "pirate"
    logs = {log.eval.task: log for log in map(read_eval_log, Path("logs").glob("*.eval"))}
    assert {log.status for log in logs.values()} == {"success"}
    asked = {
        sample.metadata["arm"]: sample.scores["introspection_scorer"].value for sample in logs["introspection"].samples
    }
    assert asked["placebo"]["gap"] == 0 != asked["real"]["gap"]
    assert all(value["clean_receipt"] == 1 for value in asked.values())
    played = {sample.metadata["arm"]: sample for sample in logs["freeplay"].samples}
    assert set(played) == {"real", "placebo"}
    assert "pirate" in played["real"].store["SelfSteerState:condition"]["menu"]
    page = read(Path("compare.html").read_text(encoding="utf-8"))
    assert {"real", "placebo"} <= {heading.text for heading in page.all("h3")}
    assert any("pirate" in table.read_text(encoding="utf-8") for table in Path("report").rglob("*.csv"))
    (exported,) = Path("files").iterdir()
    (written,) = open_foreign(exported).place(card.hidden, names["loaded"].model.config.num_hidden_layers)
    assert all(np.array_equal(written.layers[layer], row) for layer, row in zip(card.layers, vector, strict=True))


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
        for number, (language, snippet) in enumerate(blocks(page, but=STRANGER)):
            if language != "python":
                continue
            short = re.sub(r"max_tokens=\d+", "max_tokens=4", snippet)
            made = compile(short, f"{page}, block {number}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            done = eval(made, names)  # noqa: S307  our own page
            if inspect.iscoroutine(done):
                asyncio.run(done)
    finally:
        if "model" in names:
            names["model"].close()
