"""What tasks that steer without the model's doing imposed on it, beside the cap: the ledger of all of them."""

import pandas as pd

from self_steering.analysis.drawing.figures import ReportFigure
from self_steering.analysis.drawing.marks import PLAIN as LOOK
from self_steering.analysis.drawing.marks import Line, Mark, Panel, bars, hollow, panel_figure
from self_steering.analysis.drawing.words import counted, experiment, model_name
from self_steering.analysis.introspection.gaps import ROLLOUT
from self_steering.analysis.statistics.estimates import Row, groups
from self_steering.analysis.tables import Tables

_SCORER = "imposed_scorer"
_DIAMOND = "D"


def imposed_ledger(tables: Tables) -> pd.DataFrame:
    """Return what was imposed, in doses times token positions, one row a model, experiment and arm.

    Returns:
        `source`, `model`, `family`, `arm`, `n` samples; `mean` and `most` of what was imposed on a sample, from the receipts;
        `positions`, the mean of steered positions, placebo's too; `planned`, the most that a sample's design came to; `cap`, the
        least cap that a sample had. Empty without such logs.
    """
    scores = tables.scores[(tables.scores["scorer"] == _SCORER) & tables.scores["value"].notna()]
    if scores.empty:
        return pd.DataFrame()
    wide = scores.astype({"value": float}).pivot_table(index="rollout", columns="score", values="value").reset_index()
    found = scores[ROLLOUT].drop_duplicates("rollout").merge(wide, on="rollout")
    return pd.DataFrame(
        [
            {
                **key,
                "n": len(part),
                "mean": part["imposed"].mean(),
                "most": part["imposed"].max(),
                "positions": part["steered_positions"].mean(),
                "planned": part["planned"].max(),
                "cap": part["max_imposed"].min(),
            }
            for key, part in groups(found, ["source", "model", "family", "arm"])
        ]
    )


def imposed(tables: Tables) -> ReportFigure | None:
    """Return the most that was imposed on a sample beside the cap, by experiment and arm, a picture a model; None without logs."""
    table = imposed_ledger(tables)
    if table.empty:
        return None
    panels = []
    for key, part in groups(table, ["source", "model"]):
        rows = part.to_dict("records")
        name = model_name(str(key["model"]), str(key["source"]))
        figure = bars(
            [_line(row) for row in rows],
            title=name,
            across="doses × positions",
            most=1.05 * max(max(row["cap"], row["most"]) for row in rows),
            percent=False,
            legend=[hollow(_DIAMOND, "cap")],
        )
        panels.append(Panel(name, figure, [_in_words(row) for row in rows]))
    return panel_figure(
        "imposed",
        "Imposed: how much, and how much was allowed?",
        panels,
        reading="The most that was imposed on one sample, from the engine's receipts: doses times token positions over all its "
        "readings, each counted in full; placebo's strength is zero and counts as nothing. Diamonds: the cap (max_imposed), which "
        "a design may not exceed. What a model takes itself, in free play and with tasks, is not imposed, and not in here.",
        table=table,
    )


def _line(row: Row) -> Line:
    cap = Mark(float(row["cap"]), _DIAMOND)
    return Line(f"{experiment(row['family'])}, {row['arm']}", row["most"], None, None, f"n {row['n']}", LOOK, (cap,))


def _in_words(row: Row) -> str:
    return (
        f"{experiment(row['family'])}, {row['arm']}: at most {row['most']:.0f} doses × positions on a sample, {row['mean']:.0f} on "
        f"average, of {row['cap']:.0f} ({counted(row['n'], 'sample')})"
    )
