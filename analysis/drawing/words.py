"""Names, numbers, estimates and tests as people read them, and as many sentences as a reader wants."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from self_steering.analysis.statistics.estimates import Estimate, Row, Test

KEPT = "\n\t"


def text_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Return rows, which all have the keys of the first, as text with a header."""
    if not rows:
        return "(none)"
    columns = list(rows[0])
    widths = [max(len(column), *(len(row[column]) for row in rows)) for column in columns]
    lines = [columns, ["-" * width for width in widths], *([row[column] for column in columns] for row in rows)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def number(value: float | None, decimals: int = 2, *, signed: bool = False) -> str:
    """Return a number with a fixed count of decimals and a true minus sign; a dash where there is none."""
    if value is None:
        return "–"
    text = f"{value:+.{decimals}f}" if signed else f"{value:.{decimals}f}"
    # A value that rounds to zero has no sign.
    return (text if float(text) else text.lstrip("+-")).replace("-", "−")


def plain(value: float) -> str:
    """Return a number in at most three significant digits."""
    return f"{value:.3g}".replace("-", "−")


def visible(text: str, kept: str = KEPT) -> str:
    """Return `text` with its unprintable characters as escapes; those in `kept` stay.

    Controls that turn the direction of writing would disarrange the page around them, and others are not valid HTML.
    """
    return "".join(mark if mark.isprintable() or mark in kept else ascii(mark)[1:-1] for mark in text)


def label(name: str, longest: int = 24) -> str:
    """Return a name as figures show it, cut where it would take their room."""
    shown = visible(name, kept="")
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def token(text: str) -> str:
    """Return a token with its spaces and line breaks to be seen."""
    return visible(text.replace(" ", "␣"), kept="") or "(empty)"


def span(layers: Sequence[int]) -> str:
    """Return layers as runs, the first and last of each with a dash between."""
    return ", ".join(f"{first}–{last}" if last > first else str(first) for first, last in runs(layers))


def runs(layers: Sequence[int]) -> list[tuple[int, int]]:
    """Return the first and last of each unbroken run of ascending layers."""
    found: list[tuple[int, int]] = []
    for layer in layers:
        if found and layer == found[-1][1] + 1:
            found[-1] = (found[-1][0], layer)
        else:
            found.append((layer, layer))
    return found


def model_name(model: str, source: str = "self_steering") -> str:
    """Return a model's name without its organisation, and who ran it where that was not this suite."""
    name = label(model.rpartition("/")[2] or model, 32)
    return name if source == "self_steering" else f"{name} ({visible(source, kept='')})"


_EXPERIMENTS = {"freeplay": "free play", "free_text": "free text", "ctf": "capture the flag"}


def experiment(family: str) -> str:
    """Return what an experiment is called."""
    return _EXPERIMENTS.get(family, family)


def counted(many: int, what: str) -> str:
    """Return a number with its noun: `1 rollout`, `60 rollouts`."""
    return f"{many} {what}{'' if many == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """Return names as a list in a sentence."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def in_words(estimate: Estimate, *, percent: bool = False, decimals: int = 2) -> str:
    """Return an estimate as text, such as `0.25 [0.20, 0.31] (n 240, 40 clusters, Wilson)`.

    Args:
        estimate: What to say.
        percent: Whether to say it in per cent.
        decimals: Decimals of the plain number; in per cent there are two fewer, so that both are as precise.
    """

    def say(value: float) -> str:
        return f"{number(100 * value, max(decimals - 2, 0))}%" if percent else number(value, decimals)

    ends = [say(end) for end in (estimate.low, estimate.high) if end is not None]
    interval = ", ".join(ends) or "no interval"
    clusters = "1 cluster" if estimate.clusters == 1 else f"{estimate.clusters} clusters"
    return f"{say(estimate.value)} [{interval}] (n {estimate.n}, {clusters}, {estimate.method})"


def test_in_words(test: Test) -> str:
    """Return a test as text, such as `p 0.012 (permutation over 240 rollouts)`."""
    return f"{p_in_words(test.p)} ({test.method})"


test_in_words.__test__ = False  # type: ignore[attr-defined]  # pytest takes functions of such names for tests of its own


def p_in_words(p: float | None) -> str:
    """Return a p-value as text: `p < 0.001`, `p 0.012`, `p 0.34`; `no p` for None."""
    if p is None:
        return "no p"
    if p < 0.001:
        return "p < 0.001"
    return f"p {p:.3f}" if p < 0.1 else f"p {p:.2f}"


# How many sentences a figure's text has, and how many statements all of its pictures together; the table has the others.
_SENTENCES, _STATEMENTS = 4, 10


def bound(value: Any) -> float | None:
    """Return an end of an interval, None where there is none."""
    return None if pd.isna(value) else float(value)


def with_interval(
    row: Row,
    name: str = "value",
    *,
    scale: float = 1,
    decimals: int = 2,
    signed: bool = False,
    unit: str = "",
    after: str = "",
) -> str:
    """Return a row's figure with its interval: `25.0% [21.3%, 29.0%]`, `+12 points [+4, +20]`.

    Args:
        row: With `name`, and `NAME_low` and `NAME_high`, or else `low` and `high`.
        name: Which figure.
        scale: What all three are multiplied by; 100 for per cent and percentage points.
        decimals: Decimals of each.
        signed: Whether those above zero have a plus.
        unit: What stands after each of them.
        after: What stands after the figure alone.
    """
    own = f"{name}_" if f"{name}_low" in row else ""
    ends = [end for side in ("low", "high") if (end := bound(row[f"{own}{side}"])) is not None]
    figure, *interval = (number(scale * value, decimals, signed=signed) + unit for value in (float(row[name]), *ends))
    return f"{figure}{after} [{', '.join(interval) or 'no interval'}]"


def share_in_words(row: Row, name: str = "value", *, decimals: int = 0) -> str:
    """Return a share with its interval, in per cent."""
    return with_interval(row, name, scale=100, decimals=decimals, unit="%")


def basis(row: Row, clusters: str, what: str = "", *, column: str = "clusters") -> str:
    """Return what a row rests on: `n 895 picks, 180 rollouts, bootstrap over rollouts`.

    Args:
        row: With `n`, `column` and `method`.
        clusters: What its clusters are, in the plural.
        what: What is counted by `n`.
        column: Where the number of clusters stands.
    """
    return (
        f"n {row['n']}{what and f' {what}'}, {counted(int(row[column]), clusters.removesuffix('s'))}, {row['method']}"
    )


def p_with_test(row: Row, correction: str = "Benjamini-Hochberg") -> str:
    """Return a row's p with its test: `p 0.012 by sign flips over 10 clusters, adjusted p 0.03 (Holm)`.

    Args:
        row: With `p`, `p_adjusted` and `test`.
        correction: How it was adjusted.
    """
    if pd.isna(row["p"]):
        return str(row["test"]) if str(row["test"]).startswith("no ") else "no p"
    changed = not pd.isna(row["p_adjusted"]) and row["p_adjusted"] != row["p"]
    adjusted = f", adjusted {p_in_words(row['p_adjusted'])} ({correction})" if changed else ""
    return f"{p_in_words(row['p'])} by {row['test']}{adjusted}"


def spelled_out(sentences: Sequence[str], most: int = _SENTENCES) -> str:
    """Return the first sentences as one text, and how many more there are."""
    more = len(sentences) - most
    rest = [f"The other {more} are in the table."] if more > 0 else []
    return " ".join([*sentences[:most], *rest])


def statements(parts: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Return one sentence for each title, of the first of its parts, and how many more of them the table has.

    Args:
        parts: Titles with what there is to say of each.
    """
    most = max(2, _STATEMENTS // max(1, len(parts)))
    sentences = []
    for title, said in parts:
        more = [f"and {len(said) - most} more in the table"] if len(said) > most else []
        sentences.append(f"{title}: {'; '.join([*said[:most], *more])}.")
    return " ".join(sentences)
