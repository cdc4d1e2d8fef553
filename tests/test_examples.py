"""The examples in docstrings of what users import are run, and the names that the README shows have one."""

import doctest
import importlib

import pytest

# Where a user's own code meets ours.
IMPORTED = {
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
