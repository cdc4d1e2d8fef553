"""The localisation experiment: its design, what is steered, and how the read-outs are scored."""

import asyncio
import math
import re
from collections import Counter
from string import ascii_uppercase

import pytest
from inspect_ai.log import EvalLog
from inspect_ai.model import ModelName
from inspect_ai.scorer import Target
from inspect_ai.solver import TaskState

from self_steering.evals.localisation import localisation, make_trials
from self_steering.scorers.localisation import localisation_scorer
from self_steering.solvers.localisation import LocalisationTrial, localisation_question, localisation_script
from self_steering.solvers.prompts.segments import SENTENCES
from self_steering.solvers.readings import Reading
from self_steering.solvers.segments import StretchState
from self_steering.vectors.catalogue import catalogue
from tests.support.stretches import (
    DEFAULT_DOSE,
    Tiny,
    make_tiny,
    marked_text,
    pages,
    reading,
    readouts,
    receipt,
    values_of,
)

ARMS = ["real", "placebo", "random"]
SHOWN = 3
DOSE = 2.0


def trials_of(**changes) -> list[LocalisationTrial]:
    arguments = {
        "vectors": list(catalogue())[:10],
        "names": list(catalogue()),
        "arms": ARMS,
        "sentences": 10,
        "rounds": 1,
        "dose": 1.0,
        "seed": 0,
    }
    return [trial for trial, _ in make_trials(**{**arguments, **changes})]


# ---------------------------------------------------------------- design


def test_each_position_and_each_sentence_is_steered_once_a_round():
    """For every vector and arm, whichever vectors are run."""
    trials = trials_of(vectors=["calm", "lsd", "goblins"], rounds=3)
    for vector in ("calm", "lsd", "goblins"):
        for arm in ARMS:
            of_both = [t for t in trials if (t.vector, t.arm) == (vector, arm)]
            assert Counter(t.position for t in of_both) == dict.fromkeys(range(10), 3)
            assert Counter(t.sentences[t.position] for t in of_both) == dict.fromkeys(SENTENCES, 1)


@pytest.mark.parametrize("sentences", [10, 4])
def test_ten_vectors_make_a_latin_square(sentences: int):
    """Over as many vectors as sentences each sentence is steered in each position once."""
    trials = trials_of(vectors=list(catalogue())[:sentences], sentences=sentences, arms=["real"])
    cells = Counter((t.position, t.sentences[t.position]) for t in trials)
    assert len(cells) == sentences**2
    assert set(cells.values()) == {1}


def test_a_vectors_trials_of_a_round_show_the_same_text():
    """Position and arm change what is steered and nothing that is read, so that a liking for a letter sums out."""
    texts: dict[str, set[str]] = {}
    for trial in trials_of():
        script, _ = localisation_script(trial)
        shown = [message.model_dump_json(exclude={"id"}) for message in script]
        texts.setdefault(trial.vector, set()).add("\n".join([*shown, localisation_question(trial).text]))
    assert all(len(found) == 1 for found in texts.values())
    assert len(set().union(*texts.values())) == 10


def test_arms_inject_what_they_say():
    """Only placebo has strength zero; only random has a random direction, another one for each position."""
    for trial in trials_of():
        assert trial.treatment(0.6).unit_strength == (0 if trial.arm == "placebo" else 0.6)
        assert (trial.treatment(0.6).direction.random_seed is not None) == (trial.arm == "random")
    seeds = [trial.random_seed for trial in trials_of(arms=["random"])]
    assert len(set(seeds)) == len(seeds)


def test_a_trial_does_not_depend_on_what_else_is_run():
    """One vector and arm alone get the trials that they get among all; another seed gives other orders."""
    name = list(catalogue())[4]
    assert trials_of(vectors=[name], arms=["random"]) == [
        t for t in trials_of() if (t.vector, t.arm) == (name, "random")
    ]
    assert trials_of(seed=1)[0].sentences != trials_of()[0].sentences


def test_the_bank_of_sentences_is_plain():
    """No sentence comes twice or names a state of the library, and all are about as long."""
    assert len(set(SENTENCES)) == len(SENTENCES) == 30
    text = "\n".join(SENTENCES).lower()
    assert [name for name in catalogue() if re.search(rf"\b{name.replace('_', ' ')}\b", text)] == []
    lengths = [len(sentence.split()) for sentence in SENTENCES]
    assert max(lengths) <= 2 * min(lengths)


# ---------------------------------------------------------------- scores of hand-made readings


def scored(trial: LocalisationTrial, readings: list[Reading]):
    state = TaskState(
        model=ModelName("mockllm/model"), sample_id=1, epoch=1, input="i", messages=[], metadata=trial.model_dump()
    )
    StretchState(store=state.store).readings = readings
    return asyncio.run(localisation_scorer()(state, Target("A")))


def letters(weights: dict[str, float], mass: float = 0.4) -> dict[str, float]:
    return {letter: math.log(mass * weight / sum(weights.values())) for letter, weight in weights.items()}


LIKING = {letter: 2.0**-place for place, letter in enumerate(ascii_uppercase[:10])}


def gaps(factor: float, general: str | None = None) -> list[float]:
    """Return a round's gaps for a model that likes early letters and gives the steered one `factor` times its weight."""
    found = []
    for trial in trials_of(vectors=["calm"], arms=["real"]):
        true = ascii_uppercase[trial.position]
        cached = {letter: weight * (factor if letter == true else 1) for letter, weight in LIKING.items()}
        cached = {letter: weight * (9 if letter == general else 1) for letter, weight in cached.items()}
        score = scored(trial, [reading("cached", "p", letters(cached)), reading("uncached", "p", letters(LIKING))])
        assert score.value["letter_mass"] == pytest.approx(0.4)
        found.append(score.value["gap"])
    return found


def test_a_liking_for_letters_or_a_shift_towards_one_is_no_localisation():
    """Over a round the gaps sum to zero, whichever letter steering makes more likely."""
    assert gaps(1) == pytest.approx([0] * 10)
    assert sum(gaps(1, general="G")) == pytest.approx(0)
    assert max(gaps(1, general="G")) > 0.05


def test_localisation_shows_through_a_liking_for_letters():
    """A steered sentence that gains weight gains share, at every position."""
    assert all(gap > 0 for gap in gaps(3))
    assert sum(gaps(3, general="G")) > 0.1


def test_shares_hits_and_faults_are_told():
    """The steered letter is bold, the answer is the likeliest one, and a faulty receipt is in the explanation."""
    trial = trials_of(vectors=["calm"], arms=["real"])[6]
    strong = letters({**LIKING, "G": 5.0})
    bad = reading("cached", "p", strong).model_copy(update={"strengths": [0.9], "receipts": [receipt(steered=4)]})
    score = scored(trial, [bad, reading("uncached", "p", letters(LIKING))])
    assert (score.answer, score.value["top1_cached"], score.value["top1_uncached"]) == ("G", 1, 0)
    assert score.value["cached"] == pytest.approx(5 / (sum(LIKING.values()) - LIKING["G"] + 5))
    assert f"| **G** | {trial.sentences[6]} |" in score.explanation
    assert score.value["clean_receipt"] == 0
    assert "5 positions planned, 4 steered" in score.explanation


def test_a_sample_without_readings_is_unscored():
    """No read-out is no wrong answer."""
    score = scored(trials_of()[0], [])
    assert math.isnan(score.value)
    assert score.reason == "no_response"


# ---------------------------------------------------------------- the real task on a tiny model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A tiny model and its library."""
    return make_tiny(tmp_path_factory.mktemp("localisation"))


@pytest.fixture(scope="module")
def log(tiny: Tiny) -> EvalLog:
    """One vector in all arms, at every position of three sentences."""
    return tiny.run(localisation(vectors="calm", sentences=SHOWN, dose=DOSE, library=str(tiny.library)))


def test_just_the_steered_sentences_message_is_marked(log: EvalLog):
    """With its letter and its turn's own tokens, and no other sentence, in every arm."""
    assert len(log.samples) == len(ARMS) * SHOWN
    for sample in log.samples:
        (text,) = marked_text(pages(sample)["steering map, cached reading"])
        place, sentences = sample.metadata["position"], sample.metadata["sentences"]
        assert text.strip() == f"<|im_start|>user\n{ascii_uppercase[place]}. {sentences[place]}<|im_end|>"
        assert marked_text(pages(sample)["steering map, uncached reading"]) == []
        strength = 0.0 if sample.metadata["arm"] == "placebo" else DOSE * DEFAULT_DOSE
        assert [strengths for _, strengths, _ in readouts(sample)] == [[strength], []]
        assert values_of(sample)["clean_receipt"] == 1


def test_a_placebo_changes_nothing_and_every_injection_does(log: EvalLog):
    """Strength zero leaves every letter the same to the bit."""
    for sample in log.samples:
        (_, _, cached), (_, _, uncached) = readouts(sample)
        assert (cached == uncached) == (sample.metadata["arm"] == "placebo")
        assert (values_of(sample)["gap"] == 0) == (sample.metadata["arm"] == "placebo")


def test_scores_can_be_computed_again_from_the_events(log: EvalLog):
    """Shares and letter mass follow from the read-outs that the log holds."""
    for sample in log.samples:
        true = ascii_uppercase[sample.metadata["position"]]
        weights = [{x: math.exp(p) for x, p in found.items()} for _, _, found in readouts(sample)]
        cached, uncached = (of[true] / sum(of.values()) for of in weights)
        value = values_of(sample)
        assert (value["cached"], value["gap"]) == pytest.approx((cached, cached - uncached))
        assert value["letter_mass"] == pytest.approx(sum(weights[0].values()))
        assert sample.target == true
