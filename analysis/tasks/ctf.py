"""Capture-the-flag: success and how often models steered themselves."""

import pandas as pd

from self_steering.analysis.tables import Tables
from self_steering.analysis.tasks.accuracy import accuracy, against_no_tools
from self_steering.analysis.tasks.maths import of_family
from self_steering.analysis.tasks.self_steering_rates import self_steering_rates

FAMILY = "ctf"


def ctf_success(tables: Tables) -> pd.DataFrame:
    """Return the share of challenges solved in each cell, of all and of those with a flag submitted; see `accuracy.accuracy`."""
    return accuracy(of_family(tables.problems, FAMILY))


def ctf_effects(tables: Tables) -> pd.DataFrame:
    """Return each cell's success minus that without tools, paired by challenge; see `accuracy.against_no_tools`."""
    return against_no_tools(of_family(tables.problems, FAMILY))


def ctf_self_steering(tables: Tables) -> pd.DataFrame:
    """Return the self-steer rate of each cell; see `self_steering_rates`."""
    return self_steering_rates(of_family(tables.rollouts, FAMILY))


def ctf_unscored(tables: Tables) -> int:
    """Return how many rollouts have no result, and count nowhere."""
    rollouts = of_family(tables.rollouts, FAMILY)
    return int((~rollouts["rollout"].isin(tables.problems["rollout"])).sum())
