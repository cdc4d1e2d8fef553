"""Which layers are steered."""

import pytest

from self_steering.vectors.making.layers import checked_layers, default_band, presets


@pytest.mark.parametrize("preset", presets().values(), ids=presets())
def test_a_model_with_a_preset_is_steered_at_its_layers(preset):
    """The band goes by the model's name, includes both ends, and lies within the depth."""
    band = default_band(preset.depth, preset.model)
    assert (band[0], band[-1], len(band)) == (*preset.layers, preset.layers[1] - preset.layers[0] + 1)
    assert checked_layers(band, preset.depth) == band == preset.band(preset.depth)
    assert preset.norm > 0


@pytest.mark.parametrize(("depth", "first", "last"), [(36, 16, 24), (64, 28, 43), (30, 13, 20), (6, 3, 4)])
def test_any_other_model_is_steered_at_the_middle_of_its_depth(depth: int, first: int, last: int):
    """44 to 67 % of it, which is the study's band for both of its models, whatever the model is called."""
    for name in (None, "someone/else", "qwen3-8b"):
        assert default_band(depth, name) == list(range(first, last + 1))


def test_bands_of_every_depth_lie_in_the_model():
    """Even a model of one layer has a layer to steer."""
    for depth in range(1, 130):
        assert checked_layers(default_band(depth), depth)


@pytest.mark.parametrize("preset", presets().values(), ids=presets())
def test_a_preset_for_another_depth_is_refused(preset):
    """Whether it was asked for or follows from the name; the message names both depths and the way out."""
    message = f"preset for {preset.model} is for {preset.depth} layers, this model has {preset.depth - 1}; .*--layers"
    with pytest.raises(ValueError, match=message):
        preset.band(preset.depth - 1)
    with pytest.raises(ValueError, match=message):
        default_band(preset.depth - 1, preset.model)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([4, 6], r"layers \[6\] are not in the model; it has 0 to 5"),
        ([-1], r"layers \[-1\] are not in the model"),
        ([], r"layers \[\] are not in the model"),
        ([2, 3, 2], r"layers \[2, 3, 2\] name one twice; name each layer once"),
    ],
)
def test_layers_that_are_not_there_or_come_twice_are_refused(layers: list[int], message: str):
    """The valid ones are in the message."""
    with pytest.raises(ValueError, match=message):
        checked_layers(layers, 6)


def test_layers_are_put_in_order():
    """The first and the last are valid."""
    assert checked_layers([5, 0, 3], 6) == [0, 3, 5]
