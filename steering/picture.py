"""A picture of one generation for Inspect View: its tokens, coloured by what was added there, and the projections below."""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from itertools import groupby
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from self_steering.steering.operations import in_words
from self_steering.steering.request import Receipt

_COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (204, 121, 167), (213, 94, 0), (0, 114, 178))
_PAPER, _INK, _QUIET = (255, 255, 255), (20, 20, 20), (130, 130, 130)
_WIDTH, _MARGIN, _LINE, _SIZE, _TRACE = 860, 10, 19, 13, 110
_MOST, _TAIL = 600, 150  # tokens that are drawn
_FAINTEST = 0.2
_SHOWN = {"\n": "⏎", "\t": "⇥", "\r": "␍"}


@dataclass(frozen=True)
class Drawn:
    """One token.

    Attributes:
        text: Its text.
        message: Index of its message.
        windows: Indices of the windows that cover it.
    """

    text: str
    message: int
    windows: Sequence[int]


def steering_picture(
    tokens: Sequence[Drawn],
    roles: Sequence[str],
    receipts: Sequence[Receipt],
    traces: Sequence[NDArray[np.float32]] = (),
) -> str:
    """Return Markdown with a picture of the steered stretch; nothing where nothing is steered.

    Each window has a colour, the stronger the fuller; one at strength zero is outlined. Messages are numbered as View does, from
    1. Below, h·v/‖v‖ of each window's vector by position, before (thin) and after the addition.

    Args:
        tokens: All tokens, those that were generated among them.
        roles: Role of each message, the generated one's last.
        receipts: One a window.
        traces: One a window, projections before and after [2, positions]; none where the engine does not tell them.
    """
    first = next((i for i, token in enumerate(tokens) if token.windows), None)
    if first is None:
        return ""
    first = next(i for i, token in enumerate(tokens) if token.message == tokens[first].message)
    canvas = _Canvas()
    for number, receipt in enumerate(receipts):
        how = in_words(receipt.operation, receipt.strength, receipt.target)
        canvas.swatch(_fill(receipt, receipts, number), f"{receipt.label} {how}, {receipt.steered} tokens")
    canvas.newline()
    if first:
        canvas.note(f"messages 1 to {tokens[first].message}: {first} tokens, nothing added")
    for message, members in groupby(_kept(tokens[first:]), key=lambda token: token.message):
        if message < 0:
            canvas.note(f"… {len(tokens) - first - _MOST} tokens …")
            continue
        canvas.note(f"message {message + 1} · {roles[message] if message < len(roles) else 'template'}", _INK)
        for token in members:
            canvas.token(
                "".join(_SHOWN.get(c, c) for c in token.text), [_fill(receipts[w], receipts, w) for w in token.windows]
            )
        canvas.newline()
    if any(trace.size for trace in traces):
        canvas.traces(
            [(receipt.start - first, trace) for receipt, trace in zip(receipts, traces, strict=True)],
            len(tokens) - first,
        )
    return f"![what was steered](data:image/png;base64,{canvas.png()})"


def _kept(tokens: Sequence[Drawn]) -> Iterator[Drawn]:
    if len(tokens) <= _MOST:
        yield from tokens
        return
    yield from tokens[: _MOST - _TAIL]
    yield Drawn("", -1, ())
    yield from tokens[-_TAIL:]


def _fill(receipt: Receipt, receipts: Sequence[Receipt], number: int) -> tuple[int, int, int] | None:
    """Return a window's colour, mixed with the paper's by its strength; None for one that adds nothing."""
    # Strengths of different operations cannot be compared.
    strongest = max(abs(one.strength) for one in receipts if one.operation == receipt.operation)
    if not receipt.strength or not strongest:
        return None
    share = _FAINTEST + (1 - _FAINTEST) * abs(receipt.strength) / strongest
    colour = _COLOURS[number % len(_COLOURS)]
    return tuple(round(paper + share * (own - paper)) for own, paper in zip(colour, _PAPER, strict=True))  # type: ignore[return-value]


@cache
def _font() -> ImageFont.FreeTypeFont:
    path = Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    # The other layout, raqm, raises on some of the text that a model can write.
    return ImageFont.truetype(path, _SIZE, layout_engine=ImageFont.Layout.BASIC)


def _frame(values: NDArray[np.float32]) -> tuple[float, float]:
    """Return the range that is drawn: the first token of a text, which attention rests on, may lie a hundred times beyond."""
    low, high = (float(q) for q in np.nanquantile(values, (0.05, 0.95)))
    room = 0.5 * (high - low)
    return max(low - room, float(np.nanmin(values))), min(high + room, float(np.nanmax(values)))


class _Canvas:
    """Text that flows down a picture, which grows with it."""

    def __init__(self) -> None:
        self._image = Image.new("RGB", (_WIDTH, 40 * _LINE), _PAPER)
        self._draw = ImageDraw.Draw(self._image)
        self._x, self._y = _MARGIN, _MARGIN

    def newline(self) -> None:
        """Go to the next line, unless at the beginning of one."""
        if self._x > _MARGIN:
            self._x, self._y = _MARGIN, self._y + _LINE

    def note(self, text: str, colour: tuple[int, int, int] = _QUIET) -> None:
        """Write a line of its own."""
        self.newline()
        self._reach(self._y + _LINE)
        self._draw.text((_MARGIN, self._y), text, colour, _font())
        self._y += _LINE

    def swatch(self, fill: tuple[int, int, int] | None, text: str) -> None:
        """Write an entry of the legend."""
        self.token("   ", [fill])
        self.token(f" {text}   ", [])

    def token(self, text: str, fills: Sequence[tuple[int, int, int] | None]) -> None:
        """Write a token on its colours, one below the other where there are several."""
        width = self._draw.textlength(text, _font())
        if self._x + width > _WIDTH - _MARGIN:
            self.newline()
        self._reach(self._y + _LINE)
        for place, fill in enumerate(fills):
            top = self._y + place * (_LINE - 2) // len(fills)
            bottom = self._y + (place + 1) * (_LINE - 2) // len(fills) - 1
            box = (self._x, top, self._x + width - 1, max(top, bottom))
            self._draw.rectangle(box, fill, None if fill is not None else _QUIET)
        self._draw.text((self._x, self._y), text, _INK, _font())
        self._x += round(width)

    def traces(self, traces: Sequence[tuple[int, NDArray[np.float32]]], length: int) -> None:
        """Draw projections by position."""
        self.newline()
        top = self._y + _LINE
        self._reach(top + _TRACE + _LINE)
        values = np.concatenate([trace.ravel() for _, trace in traces if trace.size])
        low, high = _frame(values)
        span = max(high - low, 1e-6)
        beyond = int(((values < low) | (values > high)).sum())
        text = f"projection h·v/‖v‖ by position, {low:.1f} to {high:.1f}" + (f"; {beyond} beyond" if beyond else "")
        self._draw.text((_MARGIN, self._y), text, _QUIET, _font())
        self._draw.rectangle((_MARGIN, top, _WIDTH - _MARGIN, top + _TRACE), None, _QUIET)
        for number, (start, trace) in enumerate(traces):
            for row, width in ((0, 1), (1, 2)) if trace.size else ():
                points = [
                    (
                        _MARGIN + (start + i + 0.5) * (_WIDTH - 2 * _MARGIN) / max(length, 1),
                        top + _TRACE * (1 - min(max((float(value) - low) / span, 0.0), 1.0)),
                    )
                    for i, value in enumerate(trace[row])
                ]
                colour = _COLOURS[number % len(_COLOURS)]
                if len(points) == 1:
                    x, y = points[0]
                    self._draw.ellipse((x - 2, y - 2, x + 2, y + 2), colour)
                self._draw.line(points, colour, width)
        self._y = top + _TRACE + _LINE

    def png(self) -> str:
        """Return the picture so far in base 64."""
        self.newline()
        stream = BytesIO()
        self._image.crop((0, 0, _WIDTH, self._y + _MARGIN)).quantize(48).save(stream, "PNG", optimize=True)
        return base64.b64encode(stream.getvalue()).decode()

    def _reach(self, bottom: int) -> None:
        if bottom + _MARGIN > self._image.height:
            taller = Image.new("RGB", (_WIDTH, bottom + 20 * _LINE), _PAPER)
            taller.paste(self._image)
            self._image, self._draw = taller, ImageDraw.Draw(taller)
