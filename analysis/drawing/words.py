"""Names, numbers and lists as people read them."""

from collections.abc import Mapping, Sequence

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


def counted(many: int, what: str) -> str:
    """Return a number with its noun: `1 rollout`, `60 rollouts`."""
    return f"{many} {what}{'' if many == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """Return names as a list in a sentence."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
