"""The three constructions, each against its definition."""

import numpy as np
import pytest
import torch

from self_steering.vectors.making.corpus import NEUTRAL
from self_steering.vectors.making.extraction import CONSTRUCTIONS, NEUTRAL_VARIANCE, Activations, construct
from tests.support.planted import directions, planted

STATES = ("calm", "anxious", "proud")
SETTINGS = tuple(f"s{n}" for n in range(10))


@pytest.fixture
def activations() -> Activations:
    """Three states in ten settings, two stories each, with chance."""
    adds = dict(zip(STATES, 2 * directions(3), strict=True))
    return planted(adds, SETTINGS, noise=0.5, per_setting=2)


def differences(activations: Activations) -> dict[str, np.ndarray]:
    """Return each state's mean less the neutral one's; all settings here are told equally often."""
    neutral = activations.values[NEUTRAL].double().numpy().mean(0)
    return {state: activations.values[state].double().numpy().mean(0) - neutral for state in STATES}


def test_a_difference_is_the_states_mean_less_the_neutral_one(activations: Activations):
    """By the definition, and near to what was planted, since the setting cancels."""
    found = construct(activations, "difference")
    assert list(found) == list(STATES)
    for state, value in differences(activations).items():
        np.testing.assert_allclose(found[state].numpy(), value, atol=1e-5)
    for state, add in zip(STATES, 2 * directions(3), strict=True):
        assert torch.cosine_similarity(found[state], add, dim=-1).min() > 0.85


def test_settings_told_unequally_often_weigh_the_same():
    """A setting with more stories does not pull the vector its way."""
    values = {NEUTRAL: torch.zeros(2, 1, 2), "calm": torch.tensor([[[9.0, 0]], [[3.0, 0]], [[0.0, 4.0]]])}
    settings = {NEUTRAL: ("a", "b"), "calm": ("a", "a", "b")}
    assert construct(Activations(values, settings), "difference")["calm"].tolist() == [[3.0, 2.0]]


def test_centred_vectors_lack_the_mean_over_states(activations: Activations):
    """They sum to zero, and each is the difference less the mean of all differences."""
    found, raw = construct(activations, "centred"), differences(activations)
    centre = sum(raw.values()) / len(raw)
    assert float(sum(found.values()).abs().max()) < 1e-5
    for state, value in raw.items():
        np.testing.assert_allclose(found[state].numpy(), value - centre, atol=1e-5)
    assert np.linalg.norm(centre) > 0.5


def neutral_components(activations: Activations, layer: int) -> tuple[np.ndarray, np.ndarray]:
    """Return variances, largest first, and axes [components, hidden] of the neutral stories, from their covariance."""
    variances, axes = np.linalg.eigh(np.cov(activations.values[NEUTRAL][:, layer].double().numpy().T))
    return variances[::-1], axes[:, ::-1].T


def test_denoised_vectors_have_nothing_along_the_first_neutral_axes_and_all_of_the_rest(activations: Activations):
    """As many principal axes are taken out as it needs for half of the variance; along the others nothing changes."""
    found, centred = construct(activations, "denoised"), construct(activations, "centred")
    for layer in range(2):
        variances, axes = neutral_components(activations, layer)
        share = variances.cumsum() / variances.sum()
        count = int((share < NEUTRAL_VARIANCE).sum()) + 1
        assert 1 <= count < len(SETTINGS)
        assert share[count - 1] >= NEUTRAL_VARIANCE
        assert count == 1 or share[count - 2] < NEUTRAL_VARIANCE
        for state in STATES:
            before, after = axes @ centred[state][layer].double().numpy(), axes @ found[state][layer].double().numpy()
            assert np.abs(before[:count]).max() > 0.02
            np.testing.assert_allclose(after[:count], 0, atol=1e-5)
            np.testing.assert_allclose(after[count:], before[count:], atol=1e-5)


def test_denoised_finds_what_centred_cannot_free_of_a_setting():
    """Where one state's stories have drifted along the axis on which settings differ, denoising takes the drift out."""
    axis, state = torch.eye(2, 24)[0].expand(2, 24), torch.eye(2, 24)[1].expand(2, 24)
    made = planted({"calm": state, "anxious": -state}, SETTINGS, noise=0.01, setting_effect=0)
    values = {
        name: value + torch.randn(10, 1, 1, generator=torch.Generator().manual_seed(1)) * 5 * axis
        for name, value in made.values.items()
    }
    values["calm"] = values["calm"] + 3 * axis
    drifted = Activations(values, made.settings)
    assert torch.cosine_similarity(construct(drifted, "centred")["calm"], state, dim=-1).max() < 0.7
    assert torch.cosine_similarity(construct(drifted, "denoised")["calm"], state, dim=-1).min() > 0.99


@pytest.mark.parametrize("construction", CONSTRUCTIONS)
def test_nothing_that_was_given_is_changed(activations: Activations, construction: str):
    """Activations are used for several constructions, one after another."""
    before = {state: value.clone() for state, value in activations.values.items()}
    construct(activations, construction)
    assert all(torch.equal(activations.values[state], value) for state, value in before.items())


@pytest.mark.parametrize("construction", ["centred", "denoised"])
def test_one_state_alone_cannot_be_centred(construction: str):
    """Its vector would be zero, so the message offers the other construction."""
    activations = planted({"calm": directions(1)[0]}, SETTINGS)
    with pytest.raises(ValueError, match=f"`{construction}` removes the mean over states .* use `difference` for one"):
        construct(activations, construction)
    torch.testing.assert_close(construct(activations, "difference")["calm"], directions(1)[0], atol=1e-5, rtol=0)


def test_two_neutral_stories_have_no_axes_to_remove():
    """Denoising needs three, and the message says what to do with fewer."""
    adds = dict(zip(STATES, directions(3), strict=True))
    assert set(construct(planted(adds, SETTINGS[:3]), "denoised")) == set(STATES)
    with pytest.raises(ValueError, match="three neutral stories at least, found 2; use `centred`"):
        construct(planted(adds, SETTINGS[:2]), "denoised")
