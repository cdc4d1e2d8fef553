"""Activations over stories, against a plain model that reads one story at a time; and what of them is saved."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from self_steering.steering.engine.forward import SteeredModel
from self_steering.vectors.making.corpus import NEUTRAL, Corpus
from self_steering.vectors.making.extraction import BATCH, Activations, read_corpus, story_means
from tests.support.models import ARCHITECTURES, plain_reading, tiny_model
from tests.support.small_library import small_corpus

SETTINGS = ("ferry", "attic")
SINGLE = small_corpus(("calm", "anxious", "goblins"), SETTINGS)
# Calm is told three times in one setting and once in the other.
CORPUS = Corpus(
    SETTINGS,
    {
        **SINGLE.stories,
        "calm": {
            "ferry": (
                *SINGLE.stories["calm"]["ferry"],
                *SINGLE.stories["anxious"]["attic"],
                *SINGLE.stories["goblins"]["attic"],
            ),
            "attic": SINGLE.stories["calm"]["attic"],
        },
    },
)
SKIP = 20
CLOSE = {"rtol": 1e-4, "atol": 1e-4}
every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES, scope="module")
llama_alone = pytest.mark.parametrize("architecture", ["llama"], scope="module")


@pytest.fixture(scope="module")
def model(architecture: str, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A tiny random model."""
    return tiny_model(architecture, len(tokenizer))


@pytest.fixture(scope="module")
def steered(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> SteeredModel:
    """The same, as the build reads with it."""
    return SteeredModel(model, tokenizer)


@pytest.fixture(scope="module")
def other(tokenizer: PreTrainedTokenizerBase) -> SteeredModel:
    """A model that would give other numbers: what equals the first one's was not computed with it."""
    return SteeredModel(tiny_model("llama", len(tokenizer), seed=1), tokenizer)


def plain_mean(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str, skip: int = SKIP) -> torch.Tensor:
    """Return the mean of one text's layer outputs [layers, hidden] after `skip` tokens, taken by plain hooks."""
    return torch.stack([output[skip:].mean(0) for output in plain_reading(model, tokenizer(text)["input_ids"])[0]])


def read(model: SteeredModel, tokenizer: PreTrainedTokenizerBase, work: Path | None = None, **more) -> Activations:
    given = {"corpus": CORPUS, "fingerprint": "f", "skip": SKIP, **more}
    return read_corpus(model, tokenizer, given.pop("corpus"), work=work, **given)


@pytest.fixture(scope="module")
def expected(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, torch.Tensor]:
    """Each state's stories in their order, one at a time."""
    return {
        state: torch.stack([plain_mean(model, tokenizer, text) for told in by_setting.values() for text in told])
        for state, by_setting in CORPUS.stories.items()
    }


@every_architecture
def test_activations_are_those_of_reading_one_story_at_a_time(
    steered: SteeredModel, tokenizer: PreTrainedTokenizerBase, expected: dict[str, torch.Tensor]
):
    """Every story's mean at every layer, the last one before its norm too, in the corpus's order and with its setting."""
    done: list[int] = []
    found = read(steered, tokenizer, progress=done.append)
    assert list(found.values) == list(expected)
    assert found.states == ["calm", "anxious", "goblins"]
    for state, value in expected.items():
        assert found.values[state].dtype == torch.float32
        torch.testing.assert_close(found.values[state], value, **CLOSE)
        assert value.norm() > 1
    assert found.settings["calm"] == ("ferry", "ferry", "ferry", "attic")
    assert found.settings[NEUTRAL] == SETTINGS
    assert done == [2, 6, 8, 10]


@every_architecture
def test_a_texts_mean_does_not_depend_on_its_batch(
    model: PreTrainedModel, steered: SteeredModel, tokenizer: PreTrainedTokenizerBase
):
    """More texts than a batch holds, of very different lengths, give in their order what each gives alone."""
    words = ["the", "boat", "came", "in", "and", "we", "stood", "by", "the", "rail"] * 8
    texts = [" ".join(words[: 6 + 7 * ((5 * n) % 11)]) for n in range(BATCH + 3)]
    together = story_means(steered, tokenizer, texts, skip=3)
    alone = torch.stack([plain_mean(model, tokenizer, text, 3) for text in texts])
    torch.testing.assert_close(together, alone, **CLOSE)


@llama_alone
def test_every_setting_counts_the_same_however_often_it_is_told(
    steered: SteeredModel, tokenizer: PreTrainedTokenizerBase, expected: dict[str, torch.Tensor]
):
    """A state's mean is that of its settings' means, and not that of its stories."""
    mean = read(steered, tokenizer).mean("calm")
    ferry, attic = expected["calm"][:3].mean(0), expected["calm"][3]
    torch.testing.assert_close(mean, (ferry + attic) / 2, **CLOSE)
    assert (mean - expected["calm"].mean(0)).norm() > 0.1


def test_layers_and_settings_can_be_taken_out():
    """`at` keeps layers in the order asked for, `within` the stories of settings, each with its own setting."""
    values = {state: torch.arange(24.0).reshape(4, 3, 2) + 100 * n for n, state in enumerate((NEUTRAL, "calm"))}
    settings = {NEUTRAL: ("c", "c", "d", "d"), "calm": ("a", "b", "a", "c")}
    activations = Activations(values, settings)
    assert torch.equal(activations.at([2, 0]).values["calm"], values["calm"][:, [2, 0]])
    assert activations.at([1]).settings == settings
    part = activations.within({"a", "c"})
    assert part.settings == {NEUTRAL: ("c", "c"), "calm": ("a", "a", "c")}
    assert torch.equal(part.values["calm"], values["calm"][[0, 2, 3]])
    assert torch.equal(part.values[NEUTRAL], values[NEUTRAL][:2])


def test_the_mean_over_no_story_is_refused():
    """A state that is told in none of the settings that were kept has no mean, rather than one of zero."""
    activations = Activations({"calm": torch.ones(2, 1, 3)}, {"calm": ("a", "b")})
    with pytest.raises(ValueError, match="no story of 'calm'"):
        activations.within({"c"}).mean("calm")


def same(one: Activations, two: Activations, states: Sequence[str] | None = None) -> list[str]:
    """Return the states at which two activations agree to the bit."""
    return [state for state in states or one.values if torch.equal(one.values[state], two.values[state])]


@llama_alone
def test_what_was_put_by_is_used_again(
    steered: SteeredModel, other: SteeredModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
):
    """A second reading returns the first one's numbers without computing any: the model given would have other ones."""
    first = read(steered, tokenizer, tmp_path)
    done: list[int] = []
    again = read(other, tokenizer, tmp_path, progress=done.append)
    assert same(first, again) == list(CORPUS.stories)
    assert again.settings == first.settings
    assert done[-1] == CORPUS.size
    assert same(first, read(other, tokenizer)) == []


@llama_alone
def test_an_interrupted_reading_goes_on(
    steered: SteeredModel, other: SteeredModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
):
    """The states that were done before the interruption are taken from the folder, the rest is computed."""

    def interrupt(done: int) -> None:
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read(steered, tokenizer, tmp_path, progress=interrupt)
    assert len(list(tmp_path.iterdir())) == 2
    resumed = read(other, tokenizer, tmp_path)
    assert same(resumed, read(steered, tokenizer)) == [NEUTRAL, "calm"]
    assert same(resumed, read(other, tokenizer)) == ["anxious", "goblins"]


@llama_alone
@pytest.mark.parametrize("change", ["fingerprint", "skip", "dtype"])
def test_what_was_put_by_under_other_conditions_is_not_used(
    steered: SteeredModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path, change: str
):
    """Another model, other tokens that count, or another precision compute anew, beside what is there."""
    first = read(steered, tokenizer, tmp_path)
    reader = SteeredModel(tiny_model("llama", len(tokenizer), seed=2), tokenizer)
    if change == "dtype":
        reader = SteeredModel(tiny_model("llama", len(tokenizer), seed=2).to(torch.bfloat16), tokenizer)
    changes = {"fingerprint": {"fingerprint": "g"}, "skip": {"skip": SKIP + 1}, "dtype": {}}[change]
    assert same(first, read(reader, tokenizer, tmp_path, **changes)) == []
    assert same(first, read(reader, tokenizer, tmp_path)) == ([] if change == "dtype" else list(CORPUS.stories))


@llama_alone
def test_another_text_is_read_and_the_other_states_are_not(
    steered: SteeredModel, other: SteeredModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
):
    """A story that was mended, or told in another place, costs its own state only."""
    first = read(steered, tokenizer, tmp_path)
    stories = dict(CORPUS.stories["anxious"])
    stories["ferry"] = (stories["ferry"][0] + " And that was all.",)
    changed = Corpus(SETTINGS, {**CORPUS.stories, "anxious": stories})
    assert same(first, read(other, tokenizer, tmp_path, corpus=changed)) == [NEUTRAL, "calm", "goblins"]


@llama_alone
@pytest.mark.parametrize("kept", [0, 5, 100, -1, None])
def test_a_torn_file_is_computed_again(
    steered: SteeredModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path, kept: int | None
):
    """Cut anywhere, or holding something else, it is replaced by a whole one with the right numbers."""
    first = read(steered, tokenizer, tmp_path)
    paths = sorted(tmp_path.iterdir())
    assert len(paths) == len(CORPUS.stories)
    whole = [path.read_bytes() for path in paths]
    for path, data in zip(paths, whole, strict=True):
        if kept is None:
            save_file({"other": torch.zeros(3)}, path)
        else:
            path.write_bytes(data[:kept])
    assert same(first, read(steered, tokenizer, tmp_path)) == list(CORPUS.stories)
    assert sorted(tmp_path.iterdir()) == paths
    assert [path.read_bytes() for path in paths] == whole


@llama_alone
def test_a_states_name_is_no_path(steered: SteeredModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path):
    """A table may call a state what it likes; what is saved stays in the folder for it."""
    names = {NEUTRAL: NEUTRAL, "calm": "../calm", "anxious": "very/anxious", "goblins": "gob lins" * 40}
    corpus = Corpus(SETTINGS, {names[state]: told for state, told in SINGLE.stories.items()})
    read(steered, tokenizer, tmp_path / "work", corpus=corpus)
    assert [path.name for path in tmp_path.iterdir()] == ["work"]
    assert len([path for path in (tmp_path / "work").iterdir() if path.is_file()]) == 4


def test_a_model_whose_numbers_are_not_finite_is_refused(tokenizer: PreTrainedTokenizerBase, tmp_path: Path):
    """The message names the state and the remedy, and nothing of it is saved."""
    broken = tiny_model("llama", len(tokenizer))
    with torch.no_grad():
        broken.get_decoder().layers[3].mlp.down_proj.weight[0, 0] = torch.inf
    with pytest.raises(ValueError, match=f"stories of '{NEUTRAL}' are not finite; try --dtype float32"):
        read(SteeredModel(broken, tokenizer), tokenizer, tmp_path)
    assert list(tmp_path.iterdir()) == []


@llama_alone
def test_a_text_with_just_the_skipped_tokens_is_too_short(steered: SteeredModel, tokenizer: PreTrainedTokenizerBase):
    """The first text with a token beyond the skipped ones is accepted, the one before it is refused."""
    text = "one two three four five six"
    length = len(tokenizer(text)["input_ids"])
    assert story_means(steered, tokenizer, [text], skip=length - 1).isfinite().all()
    with pytest.raises(
        ValueError, match=f"1 texts have at most {length} tokens, the first: '{text}'; write longer ones"
    ):
        story_means(steered, tokenizer, [text], skip=length)
