"""Quality figures on planted data with known answers, and against independent counting."""

import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Qwen3Config, Qwen3ForCausalLM

from self_steering.steering.engine.forward import SteeredModel
from self_steering.vectors.making.corpus import NEUTRAL
from self_steering.vectors.making.extraction import CONSTRUCTIONS, Activations, construct
from self_steering.vectors.making.quality import (
    FOLDS,
    auroc,
    comparison,
    cosines,
    faults,
    folds,
    promoted_tokens,
    reliability,
    separation,
)
from self_steering.vectors.report import Separation, VectorCalibration
from tests.support.models import ARCHITECTURES, plain_reading, tiny_model
from tests.support.planted import directions, planted

STATES = ("calm", "anxious", "proud", "honest")
SETTINGS = tuple(f"s{n}" for n in range(20))


def states_adding(size: float, names: tuple[str, ...] = STATES, hidden: int = 24) -> dict[str, torch.Tensor]:
    """Return what each state adds: a direction of its own, of this size."""
    return dict(zip(names, size * directions(len(names), hidden), strict=True))


# ------------------------------------------------------------ AUROC


def test_auroc_is_the_share_of_pairs_in_the_right_order():
    """As scipy's Mann-Whitney U counts them, on scores with many ties, for each row of any shape."""
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 6, (2, 3, 40)).astype(float)
    positive = rng.random(40) < 0.3
    found = auroc(scores, positive)
    assert found.shape == (2, 3)
    for place in np.ndindex(2, 3):
        own, other = scores[place][positive], scores[place][~positive]
        pairs = [(a > b) + (a == b) / 2 for a in own for b in other]
        assert found[place] == pytest.approx(np.mean(pairs))
        assert found[place] == pytest.approx(mannwhitneyu(own, other).statistic / len(pairs))


@pytest.mark.parametrize(
    ("scores", "expected"), [([3, 4, 1, 2], 1), ([1, 2, 3, 4], 0), ([7, 7, 7, 7], 0.5), ([1, 3, 1, 2], 0.625)]
)
def test_auroc_of_clear_cases(scores: list[int], expected: float):
    """All above, all below, all the same, and one tie."""
    assert auroc(np.array(scores), np.array([True, True, False, False])) == expected


# ------------------------------------------------------------ separation


@pytest.mark.parametrize("construction", CONSTRUCTIONS)
def test_states_that_can_be_told_have_an_auroc_of_one(construction: str):
    """Where each state adds much more than chance does, its vector tells its stories from all others, at every layer."""
    found = separation(planted(states_adding(8.0), SETTINGS, noise=0.3, setting_effect=0.5), construction)
    assert list(found) == list(STATES)
    for one in found.values():
        assert one.auroc == one.auroc_neutral == [1.0, 1.0]
        assert one.auroc_band == one.auroc_neutral_band == 1.0


@pytest.mark.parametrize("construction", CONSTRUCTIONS)
def test_labels_without_meaning_have_an_auroc_of_a_half(construction: str):
    """Where states add nothing, so that labels might as well be shuffled, figures scatter about a half."""
    found = separation(planted(states_adding(0.0), SETTINGS, noise=1.0, seed=3), construction)
    for figure in ("auroc", "auroc_neutral"):
        values = np.array([getattr(one, figure) for one in found.values()])
        assert abs(values.mean() - 0.5) < 0.12
        assert (values < 0.75).all()
        bands = [getattr(one, f"{figure}_band") for one in found.values()]
        assert abs(np.mean(bands) - 0.5) < 0.12


def test_held_out_means_held_out():
    """In 3,000 dimensions a vector fits the chance in ten stories perfectly; on stories it has not seen it tells nothing."""
    activations = planted(states_adding(0.0, hidden=3000), SETTINGS[:10], noise=1.0, setting_effect=0.0)
    inside = []
    for state, vector in construct(activations, "difference").items():
        own, neutral = ((activations.values[name][:, 0] @ vector[0]).numpy() for name in (state, NEUTRAL))
        inside.append(mannwhitneyu(own, neutral).statistic / len(own) / len(neutral))
    assert min(inside) == 1.0
    found = separation(activations, "difference").values()
    assert abs(np.mean([one.auroc_neutral for one in found]) - 0.5) < 0.15
    assert max(one.auroc_neutral_band for one in found) < 1


def test_figures_are_those_of_the_definition():
    """Every fifth setting is held out in turn, and scores of each layer and of the band are ranked within the fold."""
    made = planted(states_adding(1.0), SETTINGS[:11], noise=0.5, setting_effect=0.3, per_setting=2)
    # Layers whose residual streams differ in size count alike in the band.
    size = torch.tensor([1.0, 20.0])[:, None]
    activations = Activations({state: value * size for state, value in made.values.items()}, made.settings)
    found = separation(activations, "difference")
    values = {state: value.double().numpy() for state, value in activations.values.items()}
    per_fold: dict[str, list[np.ndarray]] = {state: [] for state in STATES}
    neutral_per_fold: dict[str, list[np.ndarray]] = {state: [] for state in STATES}
    for fold in range(FOLDS):
        held = np.array([SETTINGS.index(name) % FOLDS == fold for name in activations.settings["calm"]])
        residual = np.linalg.norm(values[NEUTRAL][~held], axis=-1).mean(0)
        for state in STATES:
            vector = values[state][~held].mean(0) - values[NEUTRAL][~held].mean(0)
            unit = vector / np.linalg.norm(vector, axis=-1, keepdims=True)
            scores = {name: np.einsum("slh,lh->sl", value[held], unit) for name, value in values.items()}
            scores = {name: np.c_[s, (s / residual).mean(1)] for name, s in scores.items()}
            rest = np.concatenate([s for name, s in scores.items() if name != state])
            for others, where in ((rest, per_fold), (scores[NEUTRAL], neutral_per_fold)):
                u = mannwhitneyu(scores[state], others).statistic
                where[state].append(u / held.sum() / len(others))
    for state, one in found.items():
        assert [*one.auroc, one.auroc_band] == pytest.approx(np.mean(per_fold[state], 0).tolist(), abs=1e-4)
        expected = np.mean(neutral_per_fold[state], 0).tolist()
        assert [*one.auroc_neutral, one.auroc_neutral_band] == pytest.approx(expected, abs=1e-4)
    assert len({one.auroc[0] for one in found.values()}) > 2


@pytest.mark.parametrize("construction", CONSTRUCTIONS)
def test_the_nearest_state_is_the_one_that_was_planted_near(construction: str):
    """Proud and honest are made alike, the others not."""
    adds = states_adding(6.0)
    adds["honest"] = adds["proud"] + 0.3 * adds["honest"]
    found = separation(planted(adds, SETTINGS, noise=0.3, setting_effect=0.5), construction)
    assert (found["proud"].nearest, found["honest"].nearest) == ("honest", "proud")


def test_a_state_alone_has_none_that_is_nearest():
    """Its figures are against the neutral stories."""
    (one,) = separation(planted(states_adding(8.0, ("calm",)), SETTINGS), "difference").values()
    assert (one.nearest, one.auroc_band, one.auroc_neutral_band) == (None, 1.0, 1.0)


@pytest.mark.parametrize(
    "neutral",
    [("n1", "n2", "n3", "n4"), ("b", "c", "d", "x"), ("b", "c"), ("d", "c", "b", "a"), ("a", "x")],
    ids=["apart", "overlapping", "fewer", "turned", "two"],
)
def test_neutral_stories_with_settings_of_their_own_are_held_out_too(neutral: tuple[str, ...]):
    """Whatever neutral settings share with the states', every fold and half has stories of all, and figures are right."""
    made = planted(states_adding(20.0), ("a", "b", "c", "d"), neutral_settings=neutral, noise=0.1, setting_effect=0.2)
    for one in separation(made, "difference").values():
        assert one.auroc_neutral == [1.0, 1.0]
        assert one.auroc_band == 1.0
        assert min(one.reliability) > 0.97


def test_one_setting_cannot_be_held_out():
    """The message says what is needed, whoever it is that has one only."""
    for own, neutral in ((SETTINGS[:1], SETTINGS[:1]), (SETTINGS[:5], ("n",)), (SETTINGS[:1], SETTINGS[1:4])):
        with pytest.raises(ValueError, match="1 setting; held-out figures need two at least"):
            separation(planted(states_adding(1.0), own, neutral_settings=neutral), "difference")


@pytest.mark.parametrize("count", [2, 3, 5, 6, 30])
def test_folds_hold_each_setting_out_once(count: int):
    """They are disjoint, cover all settings, and differ in size by one at most."""
    settings = [f"s{n}" for n in range(count)]
    made = folds(settings)
    assert len(made) == min(FOLDS, count)
    assert sorted(name for fold in made for name in fold) == sorted(settings)
    assert max(map(len, made)) - min(map(len, made)) <= 1


# ------------------------------------------------------------ reliability


@pytest.mark.parametrize("construction", ["difference", "centred"])
def test_reliability_is_one_without_chance_and_nought_with_nothing_else(construction: str):
    """The setting cancels, so that halves agree wholly if nothing else differs; without states, they do not agree."""
    sure = reliability(planted(states_adding(1.0), SETTINGS), construction)
    assert sure.shape == (len(STATES), 2)
    assert float((sure - 1).abs().max()) < 1e-3
    noise = reliability(planted(states_adding(0.0, hidden=1000), SETTINGS, noise=1.0), construction)
    assert float(noise.abs().max()) < 0.15


def test_reliability_is_that_of_the_whole_and_not_of_the_half():
    """With known variances of state and chance it is var(state) / (var(state) + var(chance) of the mean over settings)."""
    hidden, noise = 4000, 0.05
    found = reliability(planted(states_adding(1.0, hidden=hidden), SETTINGS, noise=noise), "difference")
    chance = hidden * 2 * noise**2 / len(SETTINGS)
    assert 0.3 < 1 / (1 + chance) < 0.7
    assert found.numpy() == pytest.approx(np.full(found.shape, 1 / (1 + chance)), abs=0.04)


def test_figures_are_the_same_each_time():
    """The random halves are seeded."""
    made = planted(states_adding(1.0), SETTINGS, noise=1.0)
    assert separation(made, "centred") == separation(made, "centred")


# ------------------------------------------------------------ comparison


def test_the_comparison_sums_up_every_construction_at_every_layer():
    """Means, lowest and counts are those of the single figures; cosine and norm are those of the vectors."""
    activations = planted(states_adding(1.0), SETTINGS, noise=0.4, setting_effect=0.5)
    rows = comparison(activations)
    assert [(row.construction, row.layer) for row in rows] == [(c, layer) for c in CONSTRUCTIONS for layer in range(2)]
    for row in rows:
        single = separation(activations, row.construction).values()
        figures = [one.auroc[row.layer] for one in single]
        assert row.auroc == pytest.approx(np.mean(figures), abs=1e-4)
        assert row.auroc_lowest == min(figures)
        assert row.auroc_good == sum(figure >= 0.9 for figure in figures)
        assert row.auroc_neutral == pytest.approx(np.mean([one.auroc_neutral[row.layer] for one in single]), abs=1e-4)
        assert row.reliability == pytest.approx(np.mean([one.reliability[row.layer] for one in single]), abs=1e-4)
        assert row.reliability_lowest == min(one.reliability[row.layer] for one in single)
        vectors = [v[row.layer].double().numpy() for v in construct(activations, row.construction).values()]
        norms = [np.linalg.norm(v) for v in vectors]
        alike = [
            abs(v @ w) / n / m
            for v, n in zip(vectors, norms, strict=True)
            for w, m in zip(vectors, norms, strict=True)
            if v is not w
        ]
        assert row.cosine == pytest.approx(np.mean(alike), abs=1e-4)
        residual = activations.values[NEUTRAL][:, row.layer].norm(dim=-1).mean()
        assert row.norm == pytest.approx(np.mean(norms) / float(residual), abs=1e-4)
    assert 0 < rows[0].auroc_good < len(STATES) or len({row.auroc_good for row in rows}) > 1


@pytest.mark.parametrize(
    ("states", "settings", "expected"),
    [
        (1, 6, {"difference"}),
        (2, 2, {"difference", "centred"}),
        (2, 5, {"difference", "centred"}),
        (2, 6, set(CONSTRUCTIONS)),
    ],
)
def test_constructions_that_the_stories_do_not_suffice_for_are_left_out(states: int, settings: int, expected: set[str]):
    """One state has no mean over states to take out, and half of few settings no principal components."""
    activations = planted(states_adding(1.0, STATES[:states]), SETTINGS[:settings], noise=0.1)
    assert {row.construction for row in comparison(activations)} == expected


def test_cosines_are_those_of_each_pair_at_each_layer():
    """Against torch's own, with ones on the diagonal."""
    vectors = torch.randn(4, 3, 8, generator=torch.Generator().manual_seed(0))
    found = cosines(vectors)
    assert found.shape == (3, 4, 4)
    for layer in range(3):
        for one in range(4):
            for two in range(4):
                expected = torch.cosine_similarity(vectors[one, layer], vectors[two, layer], dim=0)
                assert float(found[layer, one, two]) == pytest.approx(float(expected), abs=1e-6)


# ------------------------------------------------------------ tokens


def tied_model(vocabulary: int) -> PreTrainedModel:
    """Return a Qwen3 whose unembedding is its embedding."""
    config = tiny_model("qwen3", 32).config.to_dict()
    torch.manual_seed(0)
    return Qwen3ForCausalLM(Qwen3Config(**{**config, "vocab_size": vocabulary, "tie_word_embeddings": True})).eval()


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "tied"])
def test_a_vector_promotes_the_token_whose_row_of_the_unembedding_it_is(
    architecture: str, tokenizer: PreTrainedTokenizerBase
):
    """It stands first among the raised tokens; against the vector, first among the lowered."""
    model = tied_model(len(tokenizer)) if architecture == "tied" else tiny_model(architecture, len(tokenizer))
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert tied == (architecture in {"tied", "gemma3"})
    steered = SteeredModel(model, tokenizer)
    for word in (" river", " lamp"):
        (token,) = tokenizer(word, add_special_tokens=False)["input_ids"]
        row = model.get_output_embeddings().weight[token].detach()
        top, bottom = promoted_tokens(steered, tokenizer, row, count=3)
        assert (top[0], len(top), len(bottom)) == (word, 3, 3)
        assert promoted_tokens(steered, tokenizer, -row)[1][0] == word
        assert word not in bottom


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_unembedding_the_last_layers_output_gives_the_models_logits(
    architecture: str, tokenizer: PreTrainedTokenizerBase
):
    """Final norm and head are the model's own."""
    model = tiny_model(architecture, len(tokenizer))
    outputs, logits = plain_reading(model, [5, 77, 300, 12])
    found = SteeredModel(model, tokenizer).unembed(outputs[-1][-1])
    torch.testing.assert_close(found, logits[-1], rtol=1e-4, atol=1e-4)


# ------------------------------------------------------------ faults


def measured(**changes) -> Separation:
    """Return figures without a fault, changed."""
    sound = {
        "auroc": [0.1, 0.1, 0.1],
        "auroc_neutral": [0.1, 0.1, 0.1],
        "auroc_band": 0.9,
        "auroc_neutral_band": 0.1,
        "reliability": [0.1, 0.7, 0.1],
        "nearest": None,
    }
    return Separation(**{**sound, **changes})


def found_dose(*, holds: bool = True, arrives: bool = True) -> VectorCalibration:
    return VectorCalibration(dose=0.5946, holds=holds, arrives=arrives, trials=[])


def test_a_vector_at_the_thresholds_has_no_fault():
    """Band AUROC and the middle layer's reliability count, and no other figure."""
    assert faults(measured(), None, 1) == []
    assert faults(measured(), found_dose(), 1) == []


@pytest.mark.parametrize(
    ("figures", "dose", "message"),
    [
        (measured(auroc_band=0.8899), None, "held-out AUROC 0.89 against all other stories, expected 0.9 or more"),
        (measured(reliability=[1, 0.6, 1]), None, "split-half reliability 0.60, expected 0.7 or more"),
        (measured(), found_dose(holds=False), "no dose holds: the text breaks at 0.5946 already"),
        (measured(), found_dose(arrives=False), "at dose 0.5946, the highest that holds, the text does not move"),
    ],
)
def test_a_fault_names_the_figure_and_what_was_expected(
    figures: Separation, dose: VectorCalibration | None, message: str
):
    """Each by itself."""
    (fault,) = faults(figures, dose, 1)
    assert fault.startswith(message)


@pytest.mark.parametrize(
    ("figures", "word"), [(measured(auroc_band=0.8999), "AUROC"), (measured(reliability=[1, 0.6999, 1]), "reliability")]
)
def test_a_figure_just_below_the_threshold_is_not_shown_as_the_threshold(figures: Separation, word: str):
    """A fault that says `0.90, expected 0.9 or more` would read as a mistake."""
    (fault,) = faults(figures, None, 1)
    assert word in fault
    shown, expected = (
        float(part.split()[0].strip(",")) for part in (fault.split(word)[1], fault.split("expected ")[1])
    )
    assert shown < expected


def test_all_faults_are_told():
    """A vector may be bad in more than one way."""
    assert len(faults(measured(auroc_band=0.5, reliability=[0, 0, 0]), found_dose(holds=False, arrives=False), 1)) == 4
