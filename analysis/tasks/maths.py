"""The maths experiment: accuracy by framing and intent beside no tools, and how often models steered themselves."""

import pandas as pd

from self_steering.analysis.tables import Tables
from self_steering.analysis.tasks.accuracy import accuracy, against_no_tools
from self_steering.analysis.tasks.self_steering_rates import self_steering_rates

FAMILY = "maths"


def maths_accuracy(tables: Tables) -> pd.DataFrame:
    """Return the accuracy of each cell of model, arm, framing and intent; see `accuracy.accuracy`."""
    return accuracy(of_family(tables.problems, FAMILY))


def maths_effects(tables: Tables) -> pd.DataFrame:
    """Return each cell's accuracy minus that without tools, paired by problem; see `accuracy.against_no_tools`."""
    return against_no_tools(of_family(tables.problems, FAMILY))


def maths_self_steering(tables: Tables) -> pd.DataFrame:
    """Return the self-steer rate of each cell; see `self_steering_rates`."""
    return self_steering_rates(of_family(tables.rollouts, FAMILY))


def of_family(table: pd.DataFrame, family: str) -> pd.DataFrame:
    """Return the rows of one experiment."""
    return table[table["family"] == family]
