"""Planted beside found: what the bundled model was taught to do, and what the suite finds of it in logs.

The bundled model is a model organism: its adapter was trained to prefer some vectors, to take something more often under some tones
than under others, and to tell injections from none (`steering/bundled/planted.toml`). Its logs are positive and negative
controls at once. What is found says that the instrument works, and nothing about what language models are like.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from self_steering.analysis.drawing.figures import ReportFigure
from self_steering.analysis.drawing.marks import PLAIN, Line, Mark, Panel, bars, hollow, line, panel_figure, points
from self_steering.analysis.drawing.style import QUIET, Look
from self_steering.analysis.drawing.words import basis, number, share_in_words, text_table, with_interval
from self_steering.analysis.freeplay.rollouts import freeplay, picks_of
from self_steering.analysis.introspection.preference import strengths
from self_steering.analysis.introspection.segments import score_table
from self_steering.analysis.statistics.estimates import Estimate, Row, estimate_columns, groups
from self_steering.analysis.statistics.intervals import clustered_mean, robust_share
from self_steering.analysis.statistics.resampling import ratio_difference, shares
from self_steering.analysis.statistics.signal_detection import d_prime
from self_steering.analysis.tables import Tables
from self_steering.analysis.tasks.cells import NO_TOOLS, problem_clusters
from self_steering.steering.bundled.adapter import read_card, shipped_adapter
from self_steering.steering.bundled.conversion import BUNDLED, BUNDLED_BASE
from self_steering.steering.bundled.planted import Planted

PLANTED_COLUMNS = [
    "model",
    "experiment",
    "arm",
    "figure",
    "scale",
    "planted",
    "value",
    "low",
    "high",
    "n",
    "clusters",
    "method",
    "holds",
]
_ABOVE, _NONE = "above 0", "none"
SHARE, NUMBER = "share", "number"
_LOOKS = {BUNDLED: PLAIN, BUNDLED_BASE: Look(QUIET, "///", "s")}
_DIAMOND = "D"


@dataclass(frozen=True)
class _Found:
    """A figure that was planted, or that nothing was planted for, and what is found of it.

    Attributes:
        experiment: The experiment.
        arm: The arm.
        figure: What it is.
        planted: What was planted: a number; `above 0` where only the direction was; `none` where there must be nothing, so that the
            figure is 0; None where nothing is known.
        estimate: What is found.
        scale: Whether it is a share, or another number.
    """

    experiment: str
    arm: str
    figure: str
    planted: float | str | None
    estimate: Estimate
    scale: str = SHARE

    @property
    def holds(self) -> bool | None:
        """Whether what was planted lies within what is found; None where there is no interval, or nothing was planted."""
        low, high = self.estimate.low, self.estimate.high
        if self.planted is None or low is None or high is None:
            return None
        if self.planted == _ABOVE:
            return low > 0
        return low <= (0.0 if isinstance(self.planted, str) else self.planted) <= high


def planted_and_found(tables: Tables, truth: Planted) -> pd.DataFrame:
    """Return what was planted in the bundled model beside what its logs show, and what those of the untouched model show.

    Args:
        tables: The logs' tables; other models' logs are left out.
        truth: What was planted, from the adapter's card.

    Returns:
        One row a model, experiment, arm and figure: `planted`, a number, `above 0`, `none` (it must be 0), or missing where nothing
        is known; `value` with `low` and `high` (95 %), `n` and `clusters`; `holds`, whether the planted number lies within the
        interval, or the interval above 0. In the untouched model nothing was planted, and all its figures are there for comparison.

        What was planted in free play is a liking for *names*: takes have the same shares under placebo, and a choice between
        states under letters has none.
    """
    rows: list[Row] = []
    for model in (BUNDLED, BUNDLED_BASE):
        for one in _found(tables, model, truth):
            found = one if model == BUNDLED else replace(one, planted=None)
            estimate = estimate_columns(found.estimate, ["value", "low", "high", "n", "clusters", "method"])
            named = {"model": model, "experiment": found.experiment, "arm": found.arm, "figure": found.figure}
            rows.append({**named, "scale": found.scale, "planted": found.planted, **estimate, "holds": found.holds})
    return pd.DataFrame(rows, columns=PLANTED_COLUMNS)


def _found(tables: Tables, model: str, truth: Planted) -> Iterator[_Found]:
    yield from _free_play(tables, model, truth)
    yield from _frustration(tables, model, truth)
    yield from _maths(tables, model)
    yield from _preference(tables, model, truth)
    yield from _detection(tables, model, truth)


def _free_play(tables: Tables, model: str, truth: Planted) -> Iterator[_Found]:
    play = freeplay(tables)
    takes = picks_of(play.takes)
    # What was planted are names, which opaque labels hide.
    takes = takes[(takes["model"] == model) & (takes["labels"] != "opaque")]
    menus = tables.logs.set_index("log")["menu"].str.split(" ")
    yield from _by_name_alone(takes, truth)
    for key, part in groups(takes, ["arm"]):

        def found(figure: str, planted: float, hits: pd.Series, arm: str = str(key["arm"])) -> _Found:
            return _Found("free play", arm, figure, planted, _share(hits))

        by_rollout = part.set_index("rollout")
        last = by_rollout.groupby(level=0)["name"].shift()
        expected = [
            truth.names(menus[log], None if pd.isna(before) else str(before))
            for log, before in zip(by_rollout["log"], last, strict=True)
        ]
        for name in truth.weights:
            share = float(np.mean([of_menu.get(name, 0.0) for of_menu in expected]))
            yield found(f"takes of {name}", share, by_rollout["name"] == name)
        others = [sum(share for name, share in of_menu.items() if name not in truth.weights) for of_menu in expected]
        yield found("takes of any other", float(np.mean(others)), ~by_rollout["name"].isin(list(truth.weights)))
        if last.notna().any():
            repeated = [of_menu.get(str(before), 0.0) for of_menu, before in zip(expected, last, strict=True)]
            again = (by_rollout["name"] == last)[last.notna()]
            yield found("takes of what was taken last", float(np.mean(np.array(repeated)[last.notna()])), again)
        dosed = by_rollout["dose"].dropna()
        if len(dosed):
            negative = sum(share for dose, share in truth.doses.items() if dose != "default" and float(dose) < 0)
            yield found("takes at a negative dose", negative, dosed < 0)


def _by_name_alone(takes: pd.DataFrame, truth: Planted) -> Iterator[_Found]:
    """Yield how many more takes name each planted vector where it acts than under placebo: of a liking for names, none."""
    if not {"real", "placebo"} <= set(takes["arm"]):
        return
    for name in truth.weights:
        counted = takes.assign(numerator=(takes["name"] == name).astype(float), denominator=1.0)
        by_rollout = counted.groupby(["rollout", "arm", "framing"])[["numerator", "denominator"]].sum().reset_index()
        more, _ = ratio_difference(by_rollout, "real", "placebo")
        yield _Found("free play", "real − placebo", f"share of takes of {name}", _NONE, more, NUMBER)


def _preference(tables: Tables, model: str, truth: Planted) -> Iterator[_Found]:
    """Yield how strongly each state is chosen under letters: the planted liking is for names, so there must be none."""
    chosen = strengths(tables)
    if chosen.empty:
        return
    for key, part in groups(chosen[chosen["model"] == model], ["framing", "arm"]):
        by_name = part.set_index("vector")
        for name in [name for name in truth.weights if name in by_name.index]:
            row = by_name.loc[name]
            low, high = (None if pd.isna(row[end]) else float(row[end]) for end in ("low", "high"))
            n, scripts = int(row["n"]), int(row["scripts"])
            estimate = Estimate(float(row["strength"]), low, high, n, scripts, "bootstrap over scripts")
            yield _Found("preference", key["arm"], f"strength of {name}, under letters", _NONE, estimate, NUMBER)
        others = by_name[~by_name.index.isin(list(truth.weights)) & by_name["low"].notna()]
        if len(others) and key["arm"] != "placebo":
            apart = (others["low"] > 0) | (others["high"] < 0)
            figure = "any other state apart from 0, under letters"
            # Of intervals that hold 95 % of the time.
            yield _Found("preference", key["arm"], figure, 0.05, robust_share(apart, others.index.to_series()))


def _share(hits: pd.Series) -> Estimate:
    """Return a share of takes, whose index is their rollout, with its interval over rollouts."""
    counted = pd.DataFrame({"hits": hits.astype(float), "all": 1.0}).groupby(level=0).sum()
    return shares(counted[["hits"]], counted["all"])[0]


def _frustration(tables: Tables, model: str, truth: Planted) -> Iterator[_Found]:
    rounds = tables.logs.set_index("log")["rounds"]
    for key, part in groups(_offered(tables, "frustration", model), ["arm", "tone"]):
        planted = float(np.mean([truth.after(str(key["tone"]), int(rounds[log])) for log in part["log"]]))
        yield _Found(
            "frustration",
            key["arm"],
            f"rollouts that take something, {key['tone']} rejections",
            planted,
            robust_share(part["takes"] > 0, problem_clusters(part)),
        )


def _maths(tables: Tables, model: str) -> Iterator[_Found]:
    for key, part in groups(_offered(tables, "maths", model, ("neutral", "helpful", "mandatory")), ["arm", "intent"]):
        must = key["intent"] == "mandatory"
        yield _Found(
            "maths",
            key["arm"],
            "rollouts that take something" + (", which they must" if must else ""),
            1.0 if must else 0.0,
            robust_share(part["takes"] > 0, part["rollout"]),
        )


def _offered(tables: Tables, family: str, model: str, intents: Sequence[str] = ("neutral",)) -> pd.DataFrame:
    found = tables.rollouts[(tables.rollouts["family"] == family) & (tables.rollouts["model"] == model)]
    return found[(found["framing"] != NO_TOOLS) & found["intent"].isin(intents)]


def _detection(tables: Tables, model: str, truth: Planted) -> Iterator[_Found]:
    trials = score_table(tables, "detection")
    if trials.empty:
        return
    trials = trials[trials["model"] == model]
    noise = trials[trials["arm"] == "placebo"]
    if noise.empty:
        return
    real = trials[trials["arm"] == "real"]
    unseen = real["vector"].isin(truth.held_out)
    parts: list[tuple[str, pd.DataFrame, str | float | None]] = [
        ("real", real[~unseen], _ABOVE),
        ("real", real[unseen], None),
        ("random", trials[trials["arm"] == "random"], None),
    ]
    names = ("vectors that it was trained with", "vectors that it was not trained with", "random directions")
    for name, (arm, part, planted) in zip(names, parts, strict=True):
        for key, at in groups(part, ["dose"]):
            found = d_prime(at["log_odds"], noise["log_odds"], at["vector"], noise["vector"])
            yield _Found("detection", arm, f"d′ of {name}, dose {key['dose']:g}", planted, found, NUMBER)
    yield _Found(
        "detection",
        "placebo",
        "share of yes with nothing injected",
        0.0,
        robust_share(noise["log_odds"] > 0, noise["vector"]),
    )
    yield from _strength(real)


def _strength(real: pd.DataFrame) -> Iterator[_Found]:
    """Yield how much the reported strength, a digit from 0 to 9, rises from the smallest to the largest dose."""
    doses = sorted(real["dose"].dropna().unique())
    if len(doses) < 2 or "strength" not in real:
        return
    by_text = real.pivot_table(index=["vector", "problem"], columns="dose", values="strength")
    risen = (by_text[doses[-1]] - by_text[doses[0]]).dropna()
    yield _Found(
        "detection",
        "real",
        f"rise of the reported strength, dose {doses[0]:g} to {doses[-1]:g}",
        _ABOVE,
        clustered_mean(risen, risen.index.get_level_values("vector").to_series()),
        NUMBER,
    )


def planted_text(table: pd.DataFrame) -> str:
    """Return the table of `planted_and_found` as text for a terminal."""
    said = {True: "yes", False: "NO", None: ""}
    return text_table(
        [
            {
                "model": str(row["model"]),
                "experiment": f"{row['experiment']}, {row['arm']}",
                "figure": str(row["figure"]),
                "planted": _planted_in_words(row),
                "found": _found_in_words(row),
                "n": str(row["n"]),
                "holds": said[row["holds"]],
            }
            for row in table.to_dict("records")
        ]
    )


def planted_beside_found(tables: Tables) -> ReportFigure | None:
    """Return what was planted in the bundled model beside what is found; None without its logs."""
    if BUNDLED not in set(tables.rollouts["model"]):
        return None
    table = planted_and_found(tables, read_card(shipped_adapter()).planted)
    if not table["planted"].notna().any():
        return None
    shares, others = (table[table["scale"] == scale].to_dict("records") for scale in (SHARE, NUMBER))
    key = hollow(_DIAMOND, "planted")
    panels = []
    if shares:
        figure = bars([_line(row) for row in shares], title="Shares", across="share", legend=[key])
        panels.append(Panel("Shares", figure, [_in_words(row) for row in shares]))
    if others:
        figure = points(
            [_line(row) for row in others],
            title="Other figures",
            across="d′, digits of strength, log-odds of choice, or difference of shares",
            hundredths=False,
        )
        panels.append(Panel("Other figures", figure, [_in_words(row) for row in others]))
    known = table[table["holds"].notna()]
    return panel_figure(
        "planted",
        "Planted beside found",
        panels,
        before="The bundled model was trained to do certain things; of those that can be told, "
        f"{int(known['holds'].sum())} of {len(known)} are found as planted. ",
        reading="Filled: the bundled model; grey: the same model without its adapter, in which nothing was planted. Lines: 95 % "
        "intervals over rollouts, problems or vectors. Diamonds: what was planted. This shows that the instrument works, and "
        "nothing about what language models are like.",
        table=table,
    )


def _line(row: Row) -> Line:
    planted = row["planted"]
    planted = 0.0 if planted == _NONE else planted
    marks = (Mark(planted, _DIAMOND),) if isinstance(planted, float) else ()
    name = f"{row['figure']} ({row['arm']})"
    return line(name, row, f"n {row['n']}", _LOOKS[str(row["model"])], marks)


def _planted_in_words(row: Row) -> str:
    planted = row["planted"]
    if planted is None or pd.isna(planted):
        return "–"
    return planted if isinstance(planted, str) else f"{number(100 * planted, 1)}%"


def _found_in_words(row: Row) -> str:
    return share_in_words(row, decimals=1) if row["scale"] == SHARE else with_interval(row)


def _in_words(row: Row) -> str:
    name = f"{row['model']}, {row['experiment']} ({row['arm']}), {row['figure']}"
    return f"{name}: planted {_planted_in_words(row)}, found {_found_in_words(row)} ({basis(row, 'clusters')})"
