"""What Inspect finds through the entry point: the provider, tasks, solvers and scorers. Imports no torch."""

from typing import TYPE_CHECKING

from inspect_ai.model import modelapi

from self_steering.evals.comparison import comparison as comparison
from self_steering.evals.detection import detection as detection
from self_steering.evals.introspection import introspection as introspection
from self_steering.evals.introspection_free_text import introspection_free_text as introspection_free_text
from self_steering.evals.localisation import localisation as localisation
from self_steering.scorers.comparison import comparison_scorer as comparison_scorer
from self_steering.scorers.description import description_scorer as description_scorer
from self_steering.scorers.description import graded as graded
from self_steering.scorers.detection import detection_scorer as detection_scorer
from self_steering.scorers.introspection import introspection_scorer as introspection_scorer
from self_steering.scorers.localisation import localisation_scorer as localisation_scorer
from self_steering.solvers.compare import compare as compare
from self_steering.solvers.detect import detect as detect
from self_steering.solvers.explore import explore as explore
from self_steering.solvers.introspect import introspect as introspect
from self_steering.solvers.localise import localise as localise

if TYPE_CHECKING:
    from self_steering.steering.provider import NNsightAPI


@modelapi(name="nnsight")
def nnsight() -> "type[NNsightAPI]":
    """A local model that can be steered, through nnsight."""
    from self_steering.steering.provider import NNsightAPI  # torch takes seconds to import: only when it is used

    return NNsightAPI
