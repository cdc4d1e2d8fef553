"""The picture of what was steered in one turn, as Inspect View shows it."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from self_steering.steering.picture import Drawn, steering_picture
from self_steering.steering.request import Receipt

ROLES = ["system", "user", "assistant"]


def receipt(label: str, strength: float, start: int, steered: int) -> Receipt:
    return Receipt(
        label=label,
        direction="d",
        strength=strength,
        layers=[1],
        start=start,
        stop=None,
        planned=steered,
        steered=steered,
        reused=0,
        monitor_layer=1,
        projection_before=0.0,
        projection_after=1.0,
        expected_shift=1.0,
    )


def tokens(count: int, first: int, each: int = 10) -> list[Drawn]:
    return [Drawn(f" word{i}", i // each, [0] if i >= first else []) for i in range(count)]


def pixels(markdown: str) -> np.ndarray:
    """Return the picture in a page, [height, width, 3]."""
    start = "![what was steered](data:image/png;base64,"
    assert markdown.startswith(start)
    image = Image.open(io.BytesIO(base64.b64decode(markdown.removeprefix(start).removesuffix(")"))))
    return np.asarray(image.convert("RGB"))


def colours(picture: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(one) for one in picture.reshape(-1, 3).tolist()}


def test_nothing_is_drawn_where_nothing_is_steered():
    """A turn without windows has no picture."""
    assert steering_picture(tokens(30, 99), ROLES, []) == ""


def test_steered_tokens_have_their_windows_colour():
    """The first window's is orange; at strength zero there is none, only an outline."""
    full = pixels(steering_picture(tokens(30, 12), ROLES, [receipt("calm", 0.6, 12, 18)]))
    placebo = pixels(steering_picture(tokens(30, 12), ROLES, [receipt("calm", 0.0, 12, 18)]))
    assert (230, 159, 0) in colours(full)
    assert (230, 159, 0) not in colours(placebo)
    assert full.shape == placebo.shape


def test_projections_are_drawn_below_where_there_are_any():
    """An engine that tells means only has no curve."""
    one = [receipt("calm", 0.6, 12, 18)]
    trace = np.stack([np.zeros(18), np.ones(18)]).astype(np.float32)
    bare, with_trace = (pixels(steering_picture(tokens(30, 12), ROLES, one, traces)) for traces in ([], [trace]))
    assert with_trace.shape[0] > bare.shape[0] + 100


def test_one_projection_far_beyond_the_others_does_not_flatten_them():
    """The first token of a text often has such a one: it is drawn at the edge, and counted."""
    trace = np.stack([np.arange(18), np.arange(18) + 5.0]).astype(np.float32)
    far = trace.copy()
    far[:, 0] = 4000
    one = [receipt("calm", 0.6, 12, 18)]
    rows = []
    for drawn in (trace, far):
        picture = pixels(steering_picture(tokens(30, 12), ROLES, one, [drawn]))[-120:]
        rows.append(np.flatnonzero((picture == (230, 159, 0)).all(-1).any(1)))
    assert np.ptp(rows[1]) > 0.5 * np.ptp(rows[0])


@pytest.mark.parametrize("count", [700, 5000])
def test_a_long_conversation_makes_no_endless_picture(count: int):
    """Its beginning and its end are drawn."""
    made = steering_picture(tokens(count, 0, each=100), ["user"] * 60, [receipt("calm", 0.6, 0, count)])
    assert pixels(made).shape[0] < 2500
    assert len(made) < 120_000
