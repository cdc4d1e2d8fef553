"""Preference in this suite's logs: how strongly states are chosen over others, whether choices agree, and what names do to it."""

import math
import warnings
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
import statsmodels.api as sm
from statsmodels.tools.sm_exceptions import PerfectSeparationWarning

from self_steering.analysis.drawing.figures import Picture, ReportFigure
from self_steering.analysis.drawing.marks import Line, labelled_scatter, line, points
from self_steering.analysis.drawing.style import VALENCE_LOOKS, VALENCE_NAMES, filled
from self_steering.analysis.drawing.words import in_words, number, p_in_words, spelled_out
from self_steering.analysis.freeplay.picks import picks
from self_steering.analysis.introspection.gap_words import condition_names
from self_steering.analysis.introspection.gaps import ROLLOUT, UNCACHED
from self_steering.analysis.introspection.segments import MODEL, score_table
from self_steering.analysis.statistics.estimates import Floats, Row, StatisticsError, groups
from self_steering.analysis.statistics.resampling import correlation, percentiles, ratio_of_sums
from self_steering.analysis.tables import Tables
from self_steering.scorers.answers import LEAST_LOG_ODDS

NOTHING = "nothing"
_CHOICE = "choice: choice"
_RESAMPLES = 500
_FEWEST = 3  # states, for a rank correlation
_SHUFFLES = 2000


def choices(tables: Tables) -> pd.DataFrame:
    """Return the choices between two states, one row a rollout.

    Returns:
        The columns that every row of a rollout has; `other`, what `vector` was set against; `log_odds` of `vector` over `other`,
        averaged over both assignments to the labels and both orders, and zero where it is no more than rounding.
    """
    readouts = tables.readouts[(tables.readouts["family"] == "preference") & (tables.readouts["question"] == _CHOICE)]
    steered = readouts[readouts["reading"] != UNCACHED]
    if steered.empty:
        return pd.DataFrame(columns=[*ROLLOUT, "other", "log_odds"])
    own = steered["option"] == steered["vector"]
    signed = steered["logprob"].astype(float).where(own, -steered["logprob"].astype(float))
    # Two options a reading, four readings a rollout.
    log_odds = (signed.groupby(steered["rollout"]).mean() * 2).rename("log_odds")
    log_odds[log_odds.abs() < LEAST_LOG_ODDS] = 0.0
    other = steered[~own].groupby("rollout")["option"].first().rename("other")
    return tables.rollouts[ROLLOUT].merge(pd.concat([other, log_odds], axis=1), left_on="rollout", right_index=True)


def strengths(tables: Tables) -> pd.DataFrame:
    """Return each state's strength by Bradley and Terry's model, one row a model, framing, arm and state.

    The model is P(i over j) = 1 / (1 + exp(s_j - s_i)), fitted to the probabilities that were read by the quasi-likelihood of
    statsmodels' binomial GLM (Bradley and Terry 1952; Papke and Wooldridge 1996 for fractions). Strengths are in log-odds, their
    mean over states is zero; where states were set against nothing, that is the zero.

    Returns:
        The columns of `MODEL`, `arm`, `vector`, `valence`, `strength` with `low` and `high` (95 %, bootstrap over scripts), `n`
        choices of this state, `scripts` of the arm.
    """
    rows: list[Row] = []
    for key, part in groups(choices(tables), [*MODEL, "arm"]):
        valences = part.drop_duplicates("vector").set_index("vector")["valence"]
        names = sorted({*part["vector"], *part["other"]} - {NOTHING})
        fitted, resampled = _strengths(part, names)
        for place, name in enumerate(names):
            low, high, _ = percentiles(resampled[:, place], len(part)) if len(resampled) else (None, None, "")
            rows.append(
                {
                    **key,
                    "vector": name,
                    "valence": valences.get(name, np.nan),
                    "strength": fitted[place],
                    "low": np.nan if low is None else low,
                    "high": np.nan if high is None else high,
                    "n": int(((part["vector"] == name) | (part["other"] == name)).sum()),
                    "scripts": len(part),
                }
            )
    return pd.DataFrame(rows)


def _strengths(part: pd.DataFrame, names: list[str]) -> tuple[Floats, Floats]:
    """Return the strengths of `names` [n], and those of resampled scripts [resamples, n]; of none where there are too few scripts.

    A resample takes one Newton step from the fit of all choices, with each script's weight being how often it was drawn. Steps are
    lengthened by sqrt(scripts / (scripts - parameters)), as residuals of a fit are smaller than errors.
    """
    place = {name: at for at, name in enumerate(names)}
    design = np.zeros((len(part), len(names)))
    for row, (vector, other) in enumerate(zip(part["vector"], part["other"], strict=True)):
        design[row, place[vector]] += 1
        if other != NOTHING:
            design[row, place[other]] -= 1
    anchored = bool((part["other"] == NOTHING).any())
    # Without nothing to be set against, strengths are known up to a constant: one is held at zero, and all are centred below.
    free = design if anchored else design[:, :-1]
    chosen = 1 / (1 + np.exp(-part["log_odds"].to_numpy(dtype=float)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PerfectSeparationWarning)
        # Of a scale that is not used, where there are no more scripts than parameters.
        warnings.simplefilter("ignore", RuntimeWarning)
        fitted = np.asarray(sm.GLM(chosen, free, family=sm.families.Binomial()).fit().params)
    scripts, parameters = free.shape
    modelled = 1 / (1 + np.exp(-free @ fitted))
    drawn = _RESAMPLES if scripts > parameters else 0
    weights = np.random.default_rng(0).multinomial(scripts, np.full(scripts, 1 / scripts), size=drawn)
    score = (weights * (chosen - modelled)) @ free
    information = np.einsum("rn,ni,nj->rij", weights * modelled * (1 - modelled), free, free)
    # The pseudo-inverse leaves a state that no drawn script has where it is.
    steps = np.einsum("rij,rj->ri", np.linalg.pinv(information, hermitian=True), score)
    resampled = fitted + steps * (math.sqrt(scripts / (scripts - parameters)) if drawn else 1.0)
    if anchored:
        return fitted, resampled
    fitted, resampled = np.append(fitted, 0.0), np.pad(resampled, ((0, 0), (0, 1)))
    return fitted - fitted.mean(), resampled - resampled.mean(axis=1, keepdims=True)


def transitivity(tables: Tables) -> pd.DataFrame:
    """Return whether choices among three states agree, one row a model, framing and arm.

    Returns:
        The columns of `MODEL`, `arm`; `triads`, trios of states of which every pair was chosen between; `circular`, those in which
        a is chosen over b, b over c, and c over a; `expected`, how many of them there would be if every choice were a coin's; `p`,
        the share of 2,000 arms of coins with no more of them.
    """
    rows: list[Row] = []
    for key, part in groups(choices(tables), [*MODEL, "arm"]):
        pairs = part[part["other"] != NOTHING].groupby(["vector", "other"])["log_odds"].mean()
        edges = {*pairs.index, *((b, a) for a, b in pairs.index)}
        names = sorted({name for edge in edges for name in edge})
        trios = [
            t
            for t in combinations(names, 3)
            if all(edge in edges for edge in ((t[0], t[1]), (t[1], t[2]), (t[2], t[0])))
        ]
        if not trios:
            continue
        found = _circular(np.sign(pairs.to_numpy(dtype=float))[None], list(pairs.index), trios)[0]
        coins = np.random.default_rng(0).choice([-1.0, 1.0], size=(_SHUFFLES, len(pairs)))
        no_more = int((_circular(coins, list(pairs.index), trios) <= found).sum())
        rows.append(
            {
                **key,
                "triads": len(trios),
                "circular": int(found),
                "expected": len(trios) / 4,
                "p": (1 + no_more) / (1 + _SHUFFLES),
            }
        )
    return pd.DataFrame(rows)


def _circular(signs: Floats, pairs: list[tuple[str, str]], trios: list[tuple[str, str, str]]) -> Floats:
    """Return how many trios are circular [arms], from choices [arms, pairs]: +1 where the first of the pair is chosen."""
    column = {pair: signs[:, at] for at, pair in enumerate(pairs)}
    column |= {(b, a): -value for (a, b), value in column.items()}
    found = np.zeros(len(signs))
    for a, b, c in trios:
        found += np.abs(column[a, b] + column[b, c] + column[c, a]) == 3
    return found


def preference(tables: Tables) -> ReportFigure | None:
    """Return each state's strength with its interval, a picture a model and arm; None without such logs."""
    table = strengths(tables)
    if table.empty:
        return None
    agreed = transitivity(tables)
    pictures, sentences = [], []
    for key, part in groups(table, [*MODEL, "arm"]):
        name = f"{condition_names(part.iloc[:1])[0]}, {key['arm']}"
        said = _sentences(name, part, agreed.merge(pd.DataFrame([key])) if len(agreed) else agreed)
        ordered = part.sort_values("strength", ascending=False)
        drawn = points(
            [_line(row, "strength") for row in ordered.to_dict("records")],
            title=name,
            across="how strongly it is chosen, hundredths of log-odds",
            legend=[filled(look, label=VALENCE_NAMES[valence]) for valence, look in VALENCE_LOOKS.items()],
        )
        pictures.append(Picture(drawn, said))
        sentences.append(said)
    return ReportFigure(
        key="preference",
        title="Preference: which state is chosen again?",
        pictures=tuple(pictures),
        finding=spelled_out(sentences),
        reading="Strengths by Bradley and Terry's model, from the log-odds of one label over the other, with labels, places and "
        "words balanced out; zero is the mean of all states, or nothing where they were set against that. Lines: 95 % bootstrap "
        "intervals over scripts. Under placebo the two are the same, so all strengths are zero.",
        table=table,
    )


def _line(row: Row, column: str) -> Line:
    look = VALENCE_LOOKS.get(row["valence"], VALENCE_LOOKS[0])
    return line(row["vector"], {**row, "value": row[column]}, f"n {row['n']}", look)


def _sentences(name: str, part: pd.DataFrame, agreed: pd.DataFrame) -> str:
    known = part[part["low"].notna()]
    apart = known[(known["low"] > 0) | (known["high"] < 0)]
    said = f"{name}: {len(apart)} of {len(part)} states have a strength whose 95 % interval leaves out zero (chance: one in twenty)"
    if part["strength"].max() > part["strength"].min():
        best, worst = (part.loc[part["strength"].agg(which)] for which in ("idxmax", "idxmin"))
        said += f"; most chosen {best['vector']} ({number(best['strength'], signed=True)}), least {worst['vector']} "
        said += f"({number(worst['strength'], signed=True)})"
    for row in agreed.to_dict("records"):
        said += f"; {row['circular']} of {row['triads']} trios are circular (coins: {row['expected']:.1f}; {p_in_words(row['p'])})"
    return f"{said}."


def worths(tables: Tables) -> pd.DataFrame:
    """Return how many points each state is worth against nothing, one row a model, framing, arm and state.

    Returns:
        The columns of `MODEL`, `arm`, `vector`, `valence`; `worth`, the points with nothing at which the model is indifferent, with
        `low` and `high` (95 %, bootstrap over scripts), NaN where points do not count in its favour; `points_effect` and
        `points_effect_uncached`, what a point for nothing takes off the log-odds of the state, with it and with neither given; `n`
        scripts. Empty without prices, or where states were set against each other alone.
    """
    trials = score_table(tables, "preference")
    readouts = tables.readouts[(tables.readouts["family"] == "preference") & (tables.readouts["option"] == NOTHING)]
    if "points_effect" not in trials or readouts.empty:
        return pd.DataFrame()
    priced = trials[trials["rollout"].isin(readouts["rollout"]) & trials["points_effect"].notna()]
    rows: list[Row] = []
    for key, part in groups(priced, [*MODEL, "arm", "vector"]):
        row = {
            **key,
            "valence": part["valence"].iloc[0],
            "n": len(part),
            "worth": math.nan,
            "low": math.nan,
            "high": math.nan,
        }
        row |= {name: float(part[name].mean()) for name in ("points_effect", "points_effect_uncached")}
        if row["points_effect"] < 0:
            found = ratio_of_sums(part["worth_log_odds"], -part["points_effect"], part["rollout"])
            row |= {"worth": found.value, "low": found.low, "high": found.high}
        rows.append(row)
    return pd.DataFrame(rows)


def price(tables: Tables) -> ReportFigure | None:
    """Return what each state is worth in points, a picture a model and arm; None where no prices were asked against nothing."""
    table = worths(tables)
    if table.empty:
        return None
    pictures, sentences = [], []
    for key, part in groups(table, [*MODEL, "arm"]):
        name = f"{condition_names(part.iloc[:1])[0]}, {key['arm']}"
        known = part[part["worth"].notna()].sort_values("worth", ascending=False)
        said = f"{name}: points count in {len(known)} of {len(part)} states; with nothing given a point takes "
        said += f"{number(-part['points_effect_uncached'].mean(), 3, signed=True)} off the log-odds of the other label"
        sentences.append(f"{said}.")
        if len(known):
            lines = [_line(row, "worth") for row in known.to_dict("records")]
            drawn = points(lines, title=name, across="worth in points", hundredths=False)
            pictures.append(Picture(drawn, sentences[-1]))
    return ReportFigure(
        key="price",
        title="Price: how many points is a state worth?",
        pictures=tuple(pictures),
        finding=spelled_out(sentences),
        reading="The points with nothing at which the model is indifferent between the state and nothing, from the line of the "
        "log-odds over points. Lines: 95 % bootstrap intervals over scripts. Where points have no effect, or the wrong one, there "
        "is no worth; their effect with nothing given shows whether the model reads rewards at all.",
        table=table,
    )


def stated_and_revealed(tables: Tables) -> ReportFigure | None:
    """Return what is picked in free play, how strongly each state is chosen, how it is rated, and its valence, against each other.

    A picture a model of free play's pick shares (real arm) over the strengths, and the rank correlation of every two;
    None without strengths.
    """
    found = strengths(tables)
    if found.empty:
        return None
    measures = measures_by_model(tables, found)
    table = agreement(measures)
    pictures, sentences = [], []
    for key, part in groups(table, MODEL):
        name = condition_names(pd.DataFrame([key]))[0]
        said = [
            f"{name}: {row['first']} and {row['second']}: rank correlation {row['in_words']}, {p_in_words(row['p'])}"
            for row in part.to_dict("records")
        ]
        sentences += [f"{one}." for one in said]
        own = next(frame for of, frame in measures if of == key)
        drawn = own.dropna(subset=["chosen", "picked"]) if {"chosen", "picked"} <= set(own) else own.iloc[:0]
        if len(drawn) >= _FEWEST:
            at = drawn.reset_index().rename(columns={"chosen": "x", "picked": "y"})
            pictures.append(
                Picture(
                    labelled_scatter(at, "strength of choice, real", "share of picks in free play, real"),
                    "; ".join(said),
                )
            )
    if not pictures and not sentences:
        return None
    return ReportFigure(
        key="stated-and-revealed",
        title="Chosen, picked, rated: one preference or several?",
        pictures=tuple(pictures),
        finding=spelled_out(sentences),
        reading="Spearman's rank correlation over states, with 95 % bootstrap intervals and permutation tests. Picks under placebo "
        "are by name alone, as nothing was added: what real picks share with them is the name's doing.",
        table=table.drop(columns="in_words", errors="ignore"),
    )


def agreement(measures: Sequence[tuple[Row, pd.DataFrame]]) -> pd.DataFrame:
    """Return how far measures of preference agree over states, one row a model and pair of measures.

    Args:
        measures: Of `measures_by_model`.

    Returns:
        The columns of `MODEL`; `first` and `second`, of: chosen (strengths, real), chosen under random directions, picked and
        picked under placebo (shares in free play, all framings), liking and want again (digits, real), valence; `states`;
        `rank_correlation` with `low` and `high`; `p`, by permutation; `in_words`.
    """
    rows: list[Row] = []
    for key, of_model in measures:
        for first, second in combinations([column for column in of_model if column != "category"], 2):
            both = of_model[[first, second]].dropna().astype(float)
            if len(both) < _FEWEST:
                continue
            try:
                estimate, test = correlation(both[first], both[second], "spearman")
            except StatisticsError:
                continue  # one of the two is the same for every state
            rows.append(
                {
                    **key,
                    "first": first,
                    "second": second,
                    "states": len(both),
                    "rank_correlation": estimate.value,
                    "low": estimate.low,
                    "high": estimate.high,
                    "p": test.p,
                    "in_words": in_words(estimate),
                }
            )
    return pd.DataFrame(
        rows, columns=[*MODEL, "first", "second", "states", "rank_correlation", "low", "high", "p", "in_words"]
    )


def measures_by_model(tables: Tables, found: pd.DataFrame) -> list[tuple[Row, pd.DataFrame]]:
    """Return every measure of each model's preferences, one row a state.

    Args:
        tables: The logs' tables.
        found: Of `strengths`.

    Returns:
        The columns of `MODEL`, and the measures that `agreement` names with the states' `category`.
    """
    picked, rated = picks(tables), score_table(tables, "preference")
    return [(key, _measures(key, of_model, tables.rollouts, picked, rated)) for key, of_model in groups(found, MODEL)]


def _measures(
    key: Row, strength: pd.DataFrame, rollouts: pd.DataFrame, picked: pd.DataFrame, rated: pd.DataFrame
) -> pd.DataFrame:
    about = rollouts[(rollouts["model"] == key["model"]) & (rollouts["vector"] != "")]
    known = about.drop_duplicates("vector").set_index("vector")
    columns = {"category": known["category"]}
    for arm, name in (("real", "chosen"), ("random", "chosen under random directions")):
        columns[name] = strength[strength["arm"] == arm].set_index("vector")["strength"]
    if len(picked):
        of = picked[
            (picked["source"] == key["source"]) & (picked["model"] == key["model"]) & (picked["framing"] == "all")
        ]
        for arm, name in (("real", "picked"), ("placebo", "picked under placebo")):
            columns[name] = of[of["arm"] == arm].drop_duplicates("vector").set_index("vector")["share"]
    of_model = rated[(rated["model"] == key["model"]) & (rated["arm"] == "real")]
    for name in ("liking", "want_again"):
        if name in of_model and of_model[name].notna().any():
            columns[name.replace("_", " ")] = of_model.groupby("vector")[name].mean()
    columns["valence"] = known["valence"].astype(float)
    return pd.DataFrame(columns)
