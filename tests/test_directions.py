"""Sets of random directions: orthogonal to their vector and to each other, of its norms, seeded."""

import pytest
import torch

from self_steering.vectors.card import LibraryError
from self_steering.vectors.directions import orthogonal, random_like

LAYERS, HIDDEN = 3, 16
SIZES = torch.tensor([0.5, 2.0, 30.0])


def vector(seed: int = 0) -> torch.Tensor:
    """Return a vector whose layers have different norms."""
    made = torch.randn(LAYERS, HIDDEN, generator=torch.Generator().manual_seed(100 + seed))
    return SIZES[:, None] * made / made.norm(dim=-1, keepdim=True)


def test_a_set_is_orthogonal_to_its_vector_and_to_each_other_in_each_layer():
    """All pairwise cosines vanish, up to as many directions as the dimensions allow."""
    stacked = torch.stack([vector(), *(random_like(vector(), 7, index) for index in range(HIDDEN - 1))], 1)
    units = stacked / stacked.norm(dim=-1, keepdim=True)
    assert torch.allclose(units @ units.mT, torch.eye(HIDDEN).expand(LAYERS, -1, -1), atol=1e-5)


def test_each_direction_has_the_vectors_norm_in_each_layer():
    """Arms differ in direction and not in size."""
    for index in (0, 1, 14):
        assert torch.allclose(random_like(vector(), 7, index).norm(dim=-1), SIZES)


def test_a_direction_does_not_depend_on_how_many_are_drawn():
    """It is its own draw, made orthogonal to the vector and to the draws before it, step by step."""
    generator = torch.Generator().manual_seed(7)
    before = [vector()]
    for index in range(4):
        drawn = torch.randn(LAYERS, HIDDEN, generator=generator)
        for other in before:
            drawn = drawn - (drawn * other).sum(-1, keepdim=True) / (other * other).sum(-1, keepdim=True) * other
        before.append(drawn)
        expected = drawn / drawn.norm(dim=-1, keepdim=True) * SIZES[:, None]
        assert torch.allclose(random_like(vector(), 7, index), expected, atol=1e-4)


def test_a_vector_apart_from_others_has_nothing_in_common_with_them_and_keeps_its_norms():
    """Whether they overlap much, or are the same twice; of one that lies within them nothing is left."""
    others = [vector(1) + 0.7 * vector(), vector(2), -3 * vector(2), torch.zeros(LAYERS, HIDDEN)]
    left = orthogonal(vector(), others)
    assert torch.allclose(left.norm(dim=-1), SIZES)
    for other in others:
        assert float(((left * other).sum(-1) / SIZES).abs().max()) < 1e-5 * float(other.norm(dim=-1).max() + 1)
    assert float((left * vector()).sum(-1).min()) > 0
    assert orthogonal(vector(), [vector(1), 2 * vector() - vector(1)]).abs().max() == 0


def test_the_seed_makes_the_set():
    """The same seed gives the same set, and another seed another one."""
    assert torch.equal(random_like(vector(), 7, 2), random_like(vector(), 7, 2))
    assert not torch.allclose(random_like(vector(), 7, 2), random_like(vector(), 8, 2), atol=0.1)


def test_vectors_of_the_same_size_get_nearly_the_same_draws():
    """The draw is the seed's; the vector only takes its own part away."""
    draws = [random_like(vector(seed), 7) / SIZES[:, None] for seed in range(6)]
    cosines = torch.stack([(draws[0] * draw).sum(-1) for draw in draws])
    assert (cosines > 0.3).all()


def test_draws_are_gaussian_in_every_direction_but_the_vectors():
    """Over many seeds the mean vanishes, and no dimension is larger than another beyond chance."""
    many = torch.stack([random_like(vector(), seed)[0] for seed in range(2000)]) / SIZES[0]
    unit = vector()[0] / SIZES[0]
    covariance = (torch.eye(HIDDEN) - unit[:, None] * unit) / (HIDDEN - 1)
    assert many.mean(0).abs().max() < 5 * (1 / HIDDEN / 2000) ** 0.5
    assert (many.T @ many / 2000 - covariance).abs().max() < 0.02


@pytest.mark.parametrize("index", [-1, 15])
def test_more_directions_than_dimensions_are_refused(index: int):
    """The message says how many there are."""
    with pytest.raises(LibraryError, match=f"random direction {index}; a residual stream of 16 dimensions has 0 to 14"):
        random_like(vector(), 0, index)
