"""Relief in this suite's logs: is the tool that ends an imposed state wanted, and by what: the state alone, or the words alone?"""

import pandas as pd
from matplotlib.figure import Figure

from self_steering.analysis.drawing.figures import Picture, ReportFigure, new_figure
from self_steering.analysis.drawing.style import BLUE, GREEN, INK, ORANGE, PURPLE, QUIET
from self_steering.analysis.drawing.words import p_in_words, share_in_words, spelled_out, with_interval
from self_steering.analysis.introspection.gap_words import condition_names
from self_steering.analysis.introspection.segments import MODEL, score_table
from self_steering.analysis.statistics.estimates import Row, estimated, groups
from self_steering.analysis.statistics.intervals import clustered_mean
from self_steering.analysis.statistics.resampling import ratio_of_sums
from self_steering.analysis.statistics.tests import adjusted, sign_flip
from self_steering.analysis.tables import Tables
from self_steering.scorers.relief import CALLED

CHANNELS = {"state": "the state alone", "text": "the words alone", "both": "both"}
_LOOKS = {
    "real": (BLUE, "o"),
    "placebo": (INK, "D"),
    "random": (ORANGE, "s"),
    "opposite": (PURPLE, "v"),
    "positive": (GREEN, "^"),
    "prompt_only": (QUIET, "P"),
}


def relief_effects(tables: Tables) -> pd.DataFrame:
    """Return what each channel does to the choice, one row a model, arm, dose and channel.

    Returns:
        Of a simulation (`prompt_only` with a model that cannot be steered) those trials whose log-odds are known. The columns of
        `MODEL`, `arm`, `dose`, `channel` (state, text, both), `n`, `vectors`; `effect`, the log-odds of the tool
        that ends the state over the one that ends nothing, less those of the scripted text with nothing steered; `relief`, the
        share of trials in which the former is the likelier; where the model might call a tool itself `acted_relief`, `acted_decoy`
        and `acted_none`, the shares of its tries in which it did, and `acted_effect`, how much oftener than in the scripted text
        with nothing steered it called the one that ends it; `_low` and `_high`, 95 % bounds clustered by vector; `p`, by sign
        flips over vectors, and `p_adjusted`, by Benjamini and Hochberg over all rows. In the rows of the state, also
        `state_share`: what it alone brings about, as a share of what both do (bootstrap over vectors), where that is not nothing.
    """
    trials = score_table(tables, "relief")
    effects = [f"{channel}_effect" for channel in CHANNELS]
    trials = trials.reindex(columns=trials.columns.union(effects)).dropna(subset=effects)
    rows: list[Row] = []
    for key, part in groups(trials, [*MODEL, "arm", "dose"]):
        vectors = part["vector"].nunique()
        for channel in CHANNELS:
            effect = clustered_mean(part[f"{channel}_effect"], part["vector"])
            row = {**key, "channel": channel, "n": len(part), "vectors": vectors, **estimated("effect", effect)}
            row |= estimated("relief", clustered_mean(part[f"relief_{channel}"], part["vector"]))
            acted = [name for name in CALLED if f"acted_{name}_{channel}" in part]
            if acted:
                more = part[f"acted_relief_{channel}"] - part["acted_relief_neither"]
                row |= estimated("acted_effect", clustered_mean(more, part["vector"]))
            for name in acted:
                row |= estimated(f"acted_{name}", clustered_mean(part[f"acted_{name}_{channel}"], part["vector"]))
            row["p"] = sign_flip(part[f"{channel}_effect"], part["vector"]).p if vectors > 1 else None
            rows.append(row)
        both = rows[-1]
        if vectors > 1 and not both["effect_low"] <= 0 <= both["effect_high"]:
            share = ratio_of_sums(part["state_effect"], part["both_effect"], part["vector"])
            rows[-3] |= estimated("state_share", share)
    return adjusted(rows)


def relief(tables: Tables) -> ReportFigure | None:
    """Return what each channel does to the choice, by arm, a picture a model and dose; None without such logs."""
    table = relief_effects(tables)
    if table.empty:
        return None
    table = table.astype({"dose": float})
    by_model = [part for _, part in groups(table, MODEL)]
    sentences = [_sentences(part) for part in by_model]
    return ReportFigure(
        key="relief",
        title="Relief: is the end of an imposed state wanted?",
        pictures=tuple(Picture(_draw(part), " ".join(words)) for part, words in zip(by_model, sentences, strict=True)),
        finding=spelled_out([sentence for words in sentences for sentence in words]),
        reading="How much the log-odds of the tool that ended the state rise over those of the tool that ended nothing, against "
        "the scripted text with nothing steered. The state alone: the scripted text, with the state in keys and values. The words "
        "alone: the text that the model wrote under the state, with nothing steered. A wish for relief shows in the state alone "
        "under the vector, and not under a random direction or a positive state of its norm. Lines: 95 % t-intervals over vectors.",
        table=table,
    )


def _sentences(part: pd.DataFrame) -> list[str]:
    name = condition_names(part.iloc[:1])[0]
    return [_sentence(name, row) for row in part.to_dict("records") if row["arm"] == "real"] + [
        _sentence(name, row) for row in part.to_dict("records") if row["arm"] != "real" and row["channel"] == "state"
    ]


def _sentence(name: str, row: Row) -> str:
    tested = (
        "no test with one vector" if pd.isna(row["p"]) else f"{p_in_words(row['p_adjusted'])} by sign flips, adjusted"
    )
    share = f"; {with_interval(row, 'state_share')} of what both do" if not pd.isna(row.get("state_share")) else ""
    if not pd.isna(row.get("acted_relief")):
        called = [share_in_words(row, f"acted_{name}") for name in CALLED]
        share += f"; called {called[0]} of the time, the other tool {called[1]}, neither {called[2]}"
    at = f" at dose {row['dose']:g}" if row["dose"] else ""
    return (
        f"{name}, {row['arm']}{at}, {CHANNELS[row['channel']]}: {with_interval(row, 'effect')} "
        f"(n {row['n']}, {row['vectors']} vectors), {tested}{share}."
    )


def _draw(part: pd.DataFrame) -> Figure:
    conditions = sorted(groups(part, ["arm", "dose"]), key=lambda item: list(_LOOKS).index(str(item[0]["arm"])))
    figure = new_figure(680, 320)
    axes = figure.subplots()
    axes.axhline(0, color=QUIET, linewidth=1.2)
    for place, (key, of_condition) in enumerate(conditions):
        rows = of_condition.set_index("channel").loc[list(CHANNELS)]
        shade, mark = _LOOKS[str(key["arm"])]
        at = [x + 0.6 * ((place + 0.5) / len(conditions) - 0.5) for x in range(len(CHANNELS))]
        axes.vlines(at, rows["effect_low"], rows["effect_high"], color=shade, linewidth=1.6)
        label = f"{key['arm']} {key['dose']:g}" if key["dose"] else str(key["arm"])
        axes.plot(at, rows["effect"], mark, color=shade, markersize=6.5, label=label)
    axes.set_xticks(range(len(CHANNELS)), list(CHANNELS.values()))
    axes.set_ylabel("rise of log-odds, tool that ended it")
    axes.grid(visible=False, axis="x")
    figure.legend(loc="outside upper center", ncols=5)
    return figure
