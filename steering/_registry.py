"""What Inspect finds through the entry point: the provider, tasks, solvers and scorers. Imports no torch."""

from typing import TYPE_CHECKING

from inspect_ai.model import modelapi

from self_steering.evals.introspection import introspection as introspection
from self_steering.scorers.introspection import introspection_scorer as introspection_scorer
from self_steering.solvers.introspect import introspect as introspect

if TYPE_CHECKING:
    from self_steering.steering.provider import NNsightAPI


@modelapi(name="nnsight")
def nnsight() -> "type[NNsightAPI]":
    """A local model that can be steered, through nnsight."""
    from self_steering.steering.provider import NNsightAPI  # torch takes seconds to import: only when it is used

    return NNsightAPI
