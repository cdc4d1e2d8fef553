"""Self-steer rates: the share of rollouts in which the model took at least one vector by itself."""

from collections.abc import Sequence

import pandas as pd

from self_steering.analysis.drawing.frame_rows import groups
from self_steering.analysis.statistics.cluster_robust import robust_share
from self_steering.analysis.tasks.task_cells import CELL, NO_TOOLS, in_order, problem_clusters

RATE_COLUMNS = ["value", "low", "high", "n", "clusters", "method", "took", "steered", "takes"]


def self_steering_rates(rollouts: pd.DataFrame, by: Sequence[str] = CELL) -> pd.DataFrame:
    """Return the self-steer rate of each cell in which there was something to take.

    A rollout steers itself if the model made at least one take call in it, successful or not; calls that the task inserted do not
    count. Where a problem is repeated, its rollouts are one cluster; where none is, the interval is Wilson's.

    Args:
        rollouts: Rows of the table `rollouts`; those without tools are left out.
        by: Columns that make a cell.

    Returns:
        One row a cell: `by`; `value`, the rate, in 0..1, with `low` and `high`; `n` rollouts in `clusters`; `took`, how many took
        something; `steered`, how many of them successfully; `takes`, their calls in all.
    """
    offered = rollouts[rollouts["framing"] != NO_TOOLS]
    rows = []
    for cell, part in groups(offered, by):
        took = part["takes"] > 0
        rate = robust_share(took, problem_clusters(part))
        rows.append(
            {
                **cell,
                **{name: getattr(rate, name) for name in RATE_COLUMNS[:6]},
                "took": int(took.sum()),
                "steered": int((part["steered"] == True).sum()),  # noqa: E712  missing is not True
                "takes": int(part["takes"].sum()),
            }
        )
    return in_order(pd.DataFrame(rows, columns=[*by, *RATE_COLUMNS]), by)
