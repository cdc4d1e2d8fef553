"""The examples in docstrings of what users import are run, and the names that the README shows have one."""

import doctest
import importlib
from pathlib import Path

import pytest

from self_steering.analysis.tables import read_tables
from tests.support.hand_made_logs import said, sample, took, write_log

# Where a user's own code meets ours.
IMPORTED = {
    "vectors.catalogue": ("catalogue",),
    "vectors.library": ("load_library",),
    "vectors.making.corpus": ("load_corpus",),
    "steering.plan": ("Direction", "Treatment", "Window", "Plan", "plan_windows"),
    "steering.request": ("SteeringRequest", "steering_report"),
    "steering.calls": ("steering_calls",),
    "solvers.self_steer": ("self_steer",),
    "solvers.session": ("session_tools",),
    "scorers.metrics": ("clustered_mean",),
}


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
