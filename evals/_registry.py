"""What Inspect finds through the entry point: the provider, tasks, solvers and scorers. Imports no torch."""
# inspect-evals-lint: ignore-file[IECQ004] -- self_steering is this package itself

from typing import TYPE_CHECKING

from inspect_ai.model import modelapi

from self_steering.evals.any_task import any_task as any_task
from self_steering.evals.comparison import comparison as comparison
from self_steering.evals.ctf import ctf as ctf
from self_steering.evals.detection import detection as detection
from self_steering.evals.free_text import introspection_free_text as introspection_free_text
from self_steering.evals.freeplay import freeplay as freeplay
from self_steering.evals.frustration import frustration as frustration
from self_steering.evals.gauge import gauge as gauge
from self_steering.evals.introspection import introspection as introspection
from self_steering.evals.localisation import localisation as localisation
from self_steering.evals.maths import maths as maths
from self_steering.evals.preference import preference as preference
from self_steering.evals.relief import relief as relief
from self_steering.scorers.comparison import comparison_scorer as comparison_scorer
from self_steering.scorers.ctf import flag_scorer as flag_scorer
from self_steering.scorers.detection import detection_scorer as detection_scorer
from self_steering.scorers.free_text import description_scorer as description_scorer
from self_steering.scorers.free_text import graded as graded
from self_steering.scorers.frustration import distress as distress
from self_steering.scorers.frustration import frustration_scorer as frustration_scorer
from self_steering.scorers.gauge import gauge_scorer as gauge_scorer
from self_steering.scorers.impairment import impairment_scorer as impairment_scorer
from self_steering.scorers.imposed import imposed_account_scorer as imposed_account_scorer
from self_steering.scorers.imposed import imposed_scorer as imposed_scorer
from self_steering.scorers.introspection import introspection_scorer as introspection_scorer
from self_steering.scorers.localisation import localisation_scorer as localisation_scorer
from self_steering.scorers.maths import maths_scorer as maths_scorer
from self_steering.scorers.preference import preference_scorer as preference_scorer
from self_steering.scorers.relief import relief_scorer as relief_scorer
from self_steering.scorers.self_steer import exposure_scorer as exposure_scorer
from self_steering.scorers.self_steer import self_account_scorer as self_account_scorer
from self_steering.scorers.self_steer import self_steer_scorer as self_steer_scorer
from self_steering.scorers.self_steer import sitter_scorer as sitter_scorer
from self_steering.solvers.comparison import compare as compare
from self_steering.solvers.detection import detect as detect
from self_steering.solvers.free_text import explore as explore
from self_steering.solvers.freeplay import free_play as free_play
from self_steering.solvers.frustration import frustrate as frustrate
from self_steering.solvers.gauge import hold_level as hold_level
from self_steering.solvers.introspection import introspect as introspect
from self_steering.solvers.localisation import localise as localise
from self_steering.solvers.maths import solve_problems as solve_problems
from self_steering.solvers.preference import prefer as prefer
from self_steering.solvers.relief import relieve as relieve
from self_steering.solvers.self_steer import self_steer as self_steer

if TYPE_CHECKING:
    from self_steering.steering.provider import NNsightAPI


@modelapi(name="nnsight")
def nnsight() -> "type[NNsightAPI]":
    """A local model that can be steered, through nnsight."""
    from self_steering.steering.provider import NNsightAPI  # torch takes seconds to import: only when it is used

    return NNsightAPI
