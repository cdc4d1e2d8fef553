"""Vectors from stories, against means taken from a plain model one story at a time."""

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from self_steering.steering.forward import SteeredModel
from self_steering.vectors.corpus import NEUTRAL, Corpus
from self_steering.vectors.extract import build_library, contrast, default_band, story_means
from tests.models import ARCHITECTURES, tiny_model
from tests.small_library import small_corpus

CORPUS = small_corpus(("calm", "anxious", "goblins"), ("ferry", "attic"))
LAYERS = [0, 2, 4]  # `hidden_states[i + 1]` is layer i's output, but the last layer's is normalised
SKIP = 20
every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES, scope="module")


@pytest.fixture(scope="module")
def model(architecture: str, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A tiny random model."""
    return tiny_model(architecture, len(tokenizer))


@torch.no_grad()
def plain_mean(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str, skip: int) -> torch.Tensor:
    """Return the mean of one text's hidden states [layers, hidden] after `skip` tokens."""
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    states = model(ids, output_hidden_states=True).hidden_states
    return torch.stack([states[layer + 1][0, skip:].mean(0) for layer in LAYERS])


def plain_vectors(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, corpus: Corpus
) -> dict[str, torch.Tensor]:
    """Return the differences of means, by the definition."""
    means = {
        state: torch.stack([plain_mean(model, tokenizer, text, SKIP) for (text,) in stories.values()]).mean(0)
        for state, stories in corpus.stories.items()
    }
    return {state: value - means[NEUTRAL] for state, value in means.items() if state != NEUTRAL}


def build(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, corpus: Corpus = CORPUS, **more):
    return build_library(
        SteeredModel(model, tokenizer),
        tokenizer,
        corpus,
        name="tiny",
        revision=None,
        fingerprint="f",
        **{"layers": LAYERS, "skip": SKIP, **more},
    )


@pytest.fixture(scope="module")
def expected(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, torch.Tensor]:
    """The differences of means of the corpus, by the definition."""
    return plain_vectors(model, tokenizer, CORPUS)


@every_architecture
def test_vectors_are_differences_of_means(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, expected: dict[str, torch.Tensor]
):
    """Each vector is the mean of its stories less that of the neutral ones, whatever the batches they were computed in."""
    library = build(model, tokenizer, construction="difference")
    assert list(library.vectors) == list(expected)
    for state, value in expected.items():
        assert library.vectors[state].dtype == torch.float32
        torch.testing.assert_close(library.vectors[state], value, rtol=1e-4, atol=1e-4)
        assert value.norm() > 0.1


@every_architecture
def test_centred_vectors_lack_the_mean_over_states(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, expected: dict[str, torch.Tensor]
):
    """They sum to zero, and each is the difference less the mean of all differences."""
    library = build(model, tokenizer, construction="centred")
    centre = torch.stack(list(expected.values())).mean(0)
    assert float(torch.stack(list(library.vectors.values())).sum(0).abs().max()) < 1e-4
    for state, value in expected.items():
        torch.testing.assert_close(library.vectors[state], value - centre, rtol=1e-4, atol=1e-4)
    assert centre.norm() > 0.1


@pytest.mark.parametrize("architecture", ["qwen3"], scope="module")
def test_a_texts_mean_does_not_depend_on_its_batch(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase):
    """More texts than a batch holds, of very different lengths, give in their order what each gives alone."""
    words = ["the", "boat", "came", "in", "and", "we", "stood", "by", "the", "rail"] * 8
    texts = [" ".join(words[: 6 + 7 * ((5 * n) % 11)]) for n in range(11)]
    steered = SteeredModel(model, tokenizer)
    done: list[int] = []
    together = story_means(steered, tokenizer, texts, skip=3, progress=done.append)[:, LAYERS]
    alone = torch.stack([plain_mean(model, tokenizer, text, 3) for text in texts])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)
    assert done == sorted(done)
    assert done[-1] == len(texts)


@pytest.mark.parametrize("architecture", ["llama"], scope="module")
def test_building_twice_gives_the_same_library(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tmp_path):
    """Files are the same byte for byte."""
    for name in ("a", "b"):
        build(model, tokenizer).save(tmp_path / name)
    for file in ("vectors.safetensors", "card.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize("architecture", ["llama"], scope="module")
def test_the_card_says_how_the_vectors_were_made(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase):
    """Layers in ascending order, construction, norms of the very vectors, and the residual stream's norms."""
    library = build(model, tokenizer, layers=[4, 0, 2], default_dose=0.7)
    card = library.card
    assert (card.layers, card.construction, card.skipped_tokens, card.hidden) == (LAYERS, "centred", SKIP, 64)
    assert card.corpus == CORPUS.hash()
    assert card.default_doses == dict.fromkeys(CORPUS.states, 0.7)
    assert card.calibrated is False
    for state, vector in library.vectors.items():
        assert card.norms[state] == pytest.approx(vector.norm(dim=-1).tolist(), abs=1e-3)
    neutral = [plain_mean(model, tokenizer, text, SKIP).norm(dim=-1) for (text,) in CORPUS.stories[NEUTRAL].values()]
    assert card.residual_norms == pytest.approx(torch.stack(neutral).mean(0).tolist(), abs=1e-2)


@pytest.mark.parametrize(("depth", "first", "last"), [(36, 16, 24), (64, 28, 43)])
def test_the_default_band_is_the_studys(depth: int, first: int, last: int):
    """Qwen3-8B has 36 layers and was steered at 16 to 24, Qwen3-32B has 64 and was steered at 28 to 43."""
    assert default_band(depth) == list(range(first, last + 1))


@pytest.mark.parametrize("architecture", ["llama"], scope="module")
def test_the_default_layers_are_the_band(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase):
    """Without layers, the 44 to 67 % of the depth are taken: 3 and 4 of six."""
    assert build(model, tokenizer, layers=None).card.layers == [3, 4]


@pytest.mark.parametrize("architecture", ["llama"], scope="module")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": [4, 6]}, r"layers \[6\] are not in the model; it has 0 to 5"),
        ({"layers": [-1]}, r"layers \[-1\] are not in the model"),
        ({"layers": []}, r"layers \[\] are not in the model"),
        ({"layers": [2, 2]}, r"layers \[2, 2\] name one twice"),
        ({"default_dose": float("nan")}, "default dose nan .* choose a finite number"),
        ({"default_dose": 0}, "default dose 0 .* choose a finite number"),
        ({"skip": 500}, "8 texts have at most 500 tokens, the first: .*write longer ones"),
    ],
)
def test_what_cannot_be_built_is_refused(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, changes: dict, message: str
):
    """Layers that are not there or come twice, a dose that does nothing, and stories without a token that counts."""
    with pytest.raises(ValueError, match=message):
        build(model, tokenizer, **changes)


def test_a_text_with_just_the_skipped_tokens_is_too_short(tokenizer: PreTrainedTokenizerBase):
    """The first text with a token beyond the skipped ones is accepted, the one before it is refused."""
    model = SteeredModel(tiny_model("llama", len(tokenizer)), tokenizer)
    text = "one two three four five six"
    length = len(tokenizer(text)["input_ids"])
    assert story_means(model, tokenizer, [text], skip=length - 1).isfinite().all()
    with pytest.raises(ValueError, match=f"1 texts have at most {length} tokens"):
        story_means(model, tokenizer, [text], skip=length)


def test_one_state_alone_cannot_be_centred():
    """Its vector would be zero, so the message offers the other construction."""
    means = {NEUTRAL: torch.zeros(2, 1, 3), "calm": torch.ones(2, 1, 3)}
    with pytest.raises(ValueError, match="use `difference` for one"):
        contrast(means, "centred")
    assert torch.equal(contrast(means, "difference")["calm"], torch.ones(1, 3))
