"""Doses are found where they were planted; and answers are measured as an independent computation measures them."""

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
import torch
from inspect_ai.model import ChatMessageAssistant, ChatMessageUser
from transformers import PreTrainedTokenizerBase

from self_steering.steering.chat import ChatRenderer
from self_steering.steering.engine.engine import Engine
from self_steering.steering.engine.forward import SteeredModel
from self_steering.steering.engine.requests import EngineRequest, Generation
from self_steering.steering.identity import end_of_turn_ids
from self_steering.vectors.directions import DirectionTensor
from self_steering.vectors.making.calibration import (
    ARRIVAL_T,
    GRID,
    TEMPERATURE,
    Answer,
    CalibrationError,
    Meter,
    Prober,
    arrives,
    calibrate,
    holds,
    probes,
)
from self_steering.vectors.report import Calibration, DoseTrial
from tests.support.models import CONTEXT, plain_reading, random_direction, tiny_model

PROMPTS = [f"prompt {n}" for n in range(8)]
BAND, DEPTH, HIDDEN = (1, 3), 4, 64
SOUND, LOOP = "the boat came in and we stood by the rail", "no no no no no no no no"
ROUNDS = 5


class Speaker:
    """Stands in for a model that is asked: each vector breaks its text beyond a dose of its own.

    Args:
        breaking: For each vector the dose up to which its text holds.
        breaks: What gives then: `surprisal`, which rises in proportion and reaches 1 nat at that dose, or `words`, which go
            round in a loop beyond it.
        still: Vectors whose answers do not move along them.
        stop_after: Ends with an interruption when asked under steering once more.
    """

    prompts = PROMPTS
    max_tokens = 48

    def __init__(
        self,
        breaking: dict[str, float],
        breaks: str = "surprisal",
        still: Sequence[str] = (),
        stop_after: int | None = None,
    ) -> None:
        self.breaking, self.breaks, self.still, self.stop_after = breaking, breaks, still, stop_after
        self.asked: list[dict[str, float]] = []
        generator = torch.Generator().manual_seed(7)
        self.base = 10 * torch.randn(len(PROMPTS), DEPTH, HIDDEN, generator=generator)
        self.chance = 0.01 * torch.randn(len(PROMPTS), DEPTH, HIDDEN, generator=generator)
        # Chance that has no mean over prompts moves nothing along any vector.
        self.chance -= self.chance.mean(0)

    def ask(self, steering: Sequence[tuple[DirectionTensor, float] | None]) -> list[list[Answer]]:
        """Answer every prompt under each steering."""
        doses = {what[0].key: what[1] for what in steering if what is not None}
        if doses:
            if self.stop_after is not None and len(self.asked) == self.stop_after:
                raise KeyboardInterrupt
            self.asked.append(doses)
        return [[self.answer(prompt, what) for prompt in range(len(PROMPTS))] for what in steering]

    def answer(self, prompt: int, what: tuple[DirectionTensor, float] | None) -> Answer:
        """Answer one prompt."""
        if what is None:
            return Answer(SOUND, self.base[prompt], 3.0 + prompt)
        direction, dose = what
        limit = self.breaking[direction.key]
        moved = self.base[prompt] + self.chance[prompt]
        if direction.key not in self.still:
            moved[list(direction.layers)] += dose * direction.values
        broken = self.breaks == "words" and dose > limit
        rise = dose / limit if self.breaks == "surprisal" and limit > 0 else float(limit == 0) * 2
        return Answer(LOOP if broken else SOUND, moved, 3.0 + prompt + rise)


def between(step: int) -> float:
    """Return a dose between step and the next one of the grid."""
    return GRID[step] * 2 ** (1 / 8)


def library(names: Sequence[str]) -> dict[str, DirectionTensor]:
    made = [random_direction(BAND, HIDDEN, seed) for seed in range(len(names))]
    return {name: DirectionTensor(name, BAND, one.values) for name, one in zip(names, made, strict=True)}


def run(speaker: Speaker, work: Path | None = None, **more) -> Calibration:
    given = {"fingerprint": "f", "vectors_sha256": "v", **more}
    return calibrate(speaker, library(list(speaker.breaking)), work=work, **given)


PLANTED = {f"step {step}": between(step) for step in range(len(GRID))}


def test_the_grid_rises_by_quarter_octaves_around_one():
    """31 doses, 1.0 in the middle: what five halvings can tell apart."""
    assert len(GRID) == 2**ROUNDS - 1
    assert GRID[15] == 1.0
    assert all(b / a == pytest.approx(2**0.25, rel=2e-3) for a, b in itertools.pairwise(GRID))


@pytest.mark.parametrize("breaks", ["surprisal", "words"])
def test_the_dose_is_the_highest_of_the_grid_that_holds(breaks: str):
    """For a breaking point behind every dose of the grid, all vectors asked at once, each found in five rounds."""
    record = run(Speaker(PLANTED, breaks))
    assert list(record.vectors) == list(PLANTED)
    for step, found in enumerate(record.vectors.values()):
        assert (found.dose, found.holds, found.arrives) == (GRID[step], True, True)


def test_every_dose_that_was_tried_is_in_the_record():
    """In the order in which they were asked, and among them the one that holds and the next one, which does not."""
    speaker = Speaker(PLANTED)
    record = run(speaker)
    assert len(speaker.asked) == ROUNDS
    for step, (name, found) in enumerate(record.vectors.items()):
        tried = [trial.dose for trial in found.trials]
        assert tried == [doses[name] for doses in speaker.asked if name in doses]
        assert len(set(tried)) == len(tried) == ROUNDS
        held = {trial.dose: trial.surprisal_rise <= 1 for trial in found.trials}
        assert held[GRID[step]]
        assert step == len(GRID) - 1 or not held[GRID[step + 1]]
        for trial in found.trials:
            assert trial.surprisal_rise == pytest.approx(trial.dose / PLANTED[name], abs=1e-4)
            assert (trial.coherent, trial.answers) == (1.0, len(PROMPTS))


def test_a_vector_that_never_breaks_gets_the_top_and_one_that_always_does_is_marked():
    """The search does not run out of the grid; at the bottom `holds` says no, and the dose is the lowest that was tried."""
    record = run(Speaker({"strong": 0.0, "weak": math.inf}))
    assert (record.vectors["weak"].dose, record.vectors["weak"].holds) == (GRID[-1], True)
    assert (record.vectors["strong"].dose, record.vectors["strong"].holds) == (GRID[0], False)
    assert min(trial.dose for trial in record.vectors["strong"].trials) == GRID[0]


def test_the_record_says_under_what_conditions():
    """Model, vectors, prompts and thresholds; what was unsteered; and it survives its file."""
    record = run(Speaker({"a": 1.0}), fingerprint="model", vectors_sha256="hash")
    assert (record.fingerprint, record.vectors_sha256, record.prompts, record.max_tokens) == (
        "model",
        "hash",
        PROMPTS,
        48,
    )
    assert (record.unsteered_coherent, record.unsteered_surprisal) == (1.0, 6.5)
    assert (record.coherent_at_least, record.surprisal_rise_at_most, record.arrival_t) == (0.75, 1.0, 2.0)
    assert record.temperature == TEMPERATURE
    assert Calibration.model_validate_json(record.model_dump_json()) == record


# ------------------------------------------------------------ what one dose did


def answers_moved(names: Sequence[str], moves: dict[str, np.ndarray]) -> tuple[Meter, list[Answer]]:
    """Return a meter and answers that move along unit vectors by these amounts, one a prompt."""
    directions = library(names)
    before = Speaker({}).ask([None])[0]
    meter = Meter.of(directions, before)
    after = []
    for prompt, answer in enumerate(before):
        moved = answer.activation.clone()
        for name, amounts in moves.items():
            values = directions[name].values
            moved[list(BAND)] += float(amounts[prompt]) * values / values.norm(dim=-1, keepdim=True)
        after.append(Answer(SOUND, moved, answer.surprisal))
    return meter, after


def test_shift_t_and_rank_are_those_of_the_definition():
    """Projections over the residual's mean norm, averaged over layers; a paired t; the place among all vectors."""
    rng = np.random.default_rng(0)
    moves = {"a": 1 + rng.normal(size=8), "b": np.full(8, 4.0)}
    meter, after = answers_moved(["a", "b", "c"], moves)
    directions = library(["a", "b", "c"])
    shifts = {name: np.zeros(8) for name in directions}
    for layer, place in zip(BAND, (0, 1), strict=True):
        norm = np.mean([np.linalg.norm(answer.activation[layer]) for answer in meter.unsteered])
        for name, direction in directions.items():
            unit = direction.values[place].double().numpy()
            unit = unit / np.linalg.norm(unit)
            moved = [
                (x.activation[layer] - y.activation[layer]).double().numpy()
                for x, y in zip(after, meter.unsteered, strict=True)
            ]
            shifts[name] += np.array(moved) @ unit / norm / len(BAND)
    order = sorted(shifts, key=lambda name: -shifts[name].mean())
    for name, shift in shifts.items():
        trial = meter.trial(name, 0.5, after)
        assert trial.shift == pytest.approx(shift.mean(), abs=1e-4)
        assert trial.t == pytest.approx(shift.mean() / (shift.std(ddof=1) / math.sqrt(8)), rel=1e-2, abs=1e-2)
        assert trial.rank == order.index(name) + 1
    assert order[:2] == ["b", "a"]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_dose_arrives_if_the_answers_move_either_way_alike(sign: int):
    """|t| of 2 is needed: the same mean move with more chance in it does not arrive."""
    spread = np.array([-1, 1, -1, 1, -1, 1, -1, 1])
    # t is mean / (sd / sqrt(8)), and the sd of this spread is its size times sqrt(8 / 7).
    for size, expected in ((1.3, True), (1.35, False)):
        meter, after = answers_moved(["a"], {"a": sign * (1 + size * spread)})
        trial = meter.trial("a", 1.0, after)
        assert trial.t == pytest.approx(sign * math.sqrt(7) / size, abs=0.02)
        assert arrives(trial) is expected


def test_answers_that_do_not_move_do_not_arrive():
    """Chance alone has a small t; and no move at all has none, which is no arrival either."""
    record = run(Speaker({"still": 1.1, "moved": 1.1}, still=["still"]))
    assert (record.vectors["still"].arrives, record.vectors["moved"].arrives) == (False, True)
    assert record.vectors["still"].dose == record.vectors["moved"].dose == 1.0
    meter, after = answers_moved(["a"], {})
    trial = meter.trial("a", 1.0, after)
    assert (trial.shift, trial.t, arrives(trial), holds(trial)) == (0.0, None, False, True)


def test_answers_without_a_token_are_left_out_of_figures_and_counted_as_incoherent():
    """With fewer than two answers there are no figures, and the dose does not hold."""
    meter, after = answers_moved(["a"], {"a": np.ones(8)})
    empty = Answer("", None, None)
    some = meter.trial("a", 1.0, [*after[:6], empty, empty])
    assert (some.answers, some.coherent) == (6, 0.75)
    assert some.surprisal_rise == 0
    few = meter.trial("a", 1.0, [after[0], *[empty] * 7])
    assert (few.answers, few.coherent, few.surprisal_rise, few.shift, few.t, few.rank) == (
        1,
        0.125,
        None,
        None,
        None,
        None,
    )
    assert not holds(few)
    assert not arrives(few)


@pytest.mark.parametrize(
    ("coherent", "rise", "expected"),
    [(0.75, 1.0, True), (0.7499, 0.0, False), (1.0, 1.0001, False), (1.0, -3.0, True), (1.0, None, False)],
)
def test_a_dose_holds_up_to_both_thresholds(coherent: float, rise: float | None, expected: bool):
    """Three quarters of the answers coherent, and surprisal risen by a nat at most."""
    trial = DoseTrial(dose=1, coherent=coherent, surprisal_rise=rise, shift=0, t=None, rank=1, answers=8)
    assert holds(trial) is expected


@pytest.mark.parametrize(("t", "expected"), [(ARRIVAL_T, True), (-ARRIVAL_T, True), (1.99, False), (None, False)])
def test_a_dose_arrives_from_the_threshold_on(t: float | None, expected: bool):
    """In either direction."""
    assert arrives(DoseTrial(dose=1, coherent=1, surprisal_rise=0, shift=0, t=t, rank=1, answers=8)) is expected


# ------------------------------------------------------------ models that cannot be calibrated


class Mumbler(Speaker):
    """Gives other unsteered answers to its first prompts."""

    def __init__(self, odd: str, count: int) -> None:
        super().__init__({"a": 1.1})
        self.odd, self.count = odd, count

    def answer(self, prompt: int, what: tuple[DirectionTensor, float] | None) -> Answer:
        """Answer oddly without steering."""
        if what is None and prompt < self.count:
            return Answer(self.odd, self.base[prompt], 3.0 + prompt) if self.odd else Answer("", None, None)
        return super().answer(prompt, what)


@pytest.mark.parametrize("odd", [LOOP, ""])
def test_a_model_that_does_not_hold_together_by_itself_is_an_error(odd: str):
    """Two incoherent answers of eight are tolerated, three are not; the message says how many and what to do."""
    assert run(Mumbler(odd, 2)).vectors["a"].dose == 1.0
    with pytest.raises(CalibrationError, match=r"only 62% of the unsteered answers .* 75% are needed.*--default-dose"):
        run(Mumbler(odd, 3))


# ------------------------------------------------------------ interruptions


@pytest.fixture
def planted() -> dict[str, float]:
    """Three vectors, one of which never holds."""
    return {"a": between(4), "b": between(22), "c": 0.0}


@pytest.mark.parametrize("done", range(1, ROUNDS + 1))
def test_an_interrupted_calibration_goes_on_to_the_same_record(planted: dict[str, float], tmp_path: Path, done: int):
    """Rounds that were finished are not asked again, and the record is that of a run without interruption."""
    if done < ROUNDS:
        with pytest.raises(KeyboardInterrupt):
            run(Speaker(planted, stop_after=done), tmp_path)
    else:
        run(Speaker(planted), tmp_path)
    assert len(list(tmp_path.iterdir())) == done
    resumed, whole = Speaker(planted), Speaker(planted)
    told: list[tuple[int, int]] = []
    assert run(resumed, tmp_path, progress=lambda *step: told.append(step)) == run(whole)
    assert resumed.asked == whole.asked[done:]
    assert told == [(n, ROUNDS) for n in range(1, ROUNDS + 1)]


@pytest.mark.parametrize(
    "spoil", [lambda data: data[:-5], lambda _: b"", lambda _: b"{}", lambda _: b'{"a": {"dose": 1}}']
)
def test_a_torn_round_is_asked_again(planted: dict[str, float], tmp_path: Path, spoil: Callable[[bytes], bytes]):
    """And written anew."""
    expected = run(Speaker(planted), tmp_path)
    path = sorted(tmp_path.iterdir())[2]
    whole = path.read_bytes()
    path.write_bytes(spoil(whole))
    again = Speaker(planted)
    assert run(again, tmp_path) == expected
    assert len(again.asked) == 1
    assert path.read_bytes() == whole


TRIAL = DoseTrial(dose=1, coherent=1, surprisal_rise=0, shift=0, t=None, rank=1, answers=8).model_dump()


@pytest.mark.parametrize("spoilt", [[], {"a": None}, {"x": TRIAL}, {"a": TRIAL, "b": TRIAL, "c": TRIAL}, 3])
def test_a_round_that_holds_something_else_is_asked_again(planted: dict[str, float], tmp_path: Path, spoilt: object):
    """Sound JSON that is no round of these vectors counts as torn."""
    expected = run(Speaker(planted), tmp_path)
    sorted(tmp_path.iterdir())[1].write_text(json.dumps(spoilt))
    again = Speaker(planted)
    assert run(again, tmp_path) == expected
    assert len(again.asked) == 1


@pytest.mark.parametrize(
    "change", [{"fingerprint": "g"}, {"vectors_sha256": "w"}, {"max_tokens": 47}, {"prompts": PROMPTS[::-1]}]
)
def test_rounds_of_other_conditions_are_not_used(planted: dict[str, float], tmp_path: Path, change: dict):
    """Another model, other vectors, other prompts or longer answers are asked from the beginning."""
    run(Speaker(planted), tmp_path)
    again = Speaker(planted)
    for name in ("max_tokens", "prompts"):
        if name in change:
            setattr(again, name, change[name])
    given = {name: value for name, value in change.items() if name in {"fingerprint", "vectors_sha256"}}
    run(again, tmp_path, **given)
    assert len(again.asked) == ROUNDS


# ------------------------------------------------------------ a real model

TWO = ["Tell me about your day.", "What is rain made of, and where does it go?"]


class Tapped(Engine):
    """An engine that remembers what it was asked and what it gave."""

    def submit_all(self, requests: Sequence[EngineRequest]) -> "list[Future[Generation]]":
        """Run them as ever."""
        self.requests = list(requests)
        self.futures = super().submit_all(requests)
        return self.futures


class Real:
    """A tiny Qwen3 that is asked two prompts."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, more_ends: Sequence[int] = ()) -> None:
        self.tokenizer = tokenizer
        self.hf = tiny_model("qwen3", len(tokenizer))
        self.ends = end_of_turn_ids(self.hf, tokenizer) | set(more_ends)
        self.renderer = ChatRenderer(tokenizer, self.ends)
        model = SteeredModel(self.hf, tokenizer)
        self.engine = Tapped(model, tokenizer, end_ids=self.ends, context=CONTEXT, max_batch=8)
        self.prober = Prober(self.engine, self.renderer, TWO, max_tokens=6)

    def chat(self, prompt: str) -> list[ChatMessageUser | ChatMessageAssistant]:
        """Return what is said before an answer."""
        user, assistant = probes().opening
        return [ChatMessageUser(content=user), ChatMessageAssistant(content=assistant), ChatMessageUser(content=prompt)]

    def reread(self, prompt: Sequence[int], answer: Sequence[int]) -> tuple[torch.Tensor, float]:
        """Return mean activation and surprisal of an answer, by plain hooks on one pass over prompt and answer."""
        outputs, logits = plain_reading(self.hf, [*prompt, *answer])
        means = torch.stack([output[len(prompt) :].mean(0) for output in outputs])
        said = logits.double()[len(prompt) - 1 : -1].log_softmax(-1)[range(len(answer)), list(answer)]
        return means, -float(said.mean())


@pytest.fixture(scope="module")
def real(tokenizer: PreTrainedTokenizerBase):
    """The model, and what it answers under some steering."""
    made = Real(tokenizer)
    yield made
    made.engine.close()


def steering() -> list[tuple[DirectionTensor, float] | None]:
    one, two = (random_direction((2, 3), HIDDEN, seed, size=8.0) for seed in (1, 2))
    return [None, (one, 0.0), (one, 3.0), (two, -2.0)]


def assert_same(one: Answer, two: Answer) -> None:
    """Assert that two answers are the same up to what batching makes of floats."""
    assert one.text == two.text
    torch.testing.assert_close(one.activation, two.activation, rtol=1e-4, atol=1e-4)
    assert one.surprisal == pytest.approx(two.surprisal, abs=1e-4)


def test_strength_nought_answers_as_the_unsteered_model_does(real: Real):
    """Same words on the same draws; with strength, other words."""
    unsteered, nought, strong, inverse = real.prober.ask(steering())
    for prompt in range(2):
        assert_same(unsteered[prompt], nought[prompt])
    assert unsteered[0].text != unsteered[1].text
    assert len({tuple(a.text for a in answers) for answers in (unsteered, strong, inverse)}) == 3


def test_an_answer_is_measured_as_the_plain_model_reads_it(real: Real):
    """Activations at all layers and surprisal are those of one unsteered pass over prompt and answer, steered answers' too."""
    found = real.prober.ask(steering())
    answers = [answer for of_one in found for answer in of_one]
    generations = [future.result() for future in real.engine.futures]
    assert [generation.text for generation in generations] == [answer.text for answer in answers]
    for row, (answer, generation) in enumerate(zip(answers, generations, strict=True)):
        ids = real.renderer.render(real.chat(TWO[row % 2]), []).ids
        assert real.engine.requests[row].ids == tuple(ids)
        assert len(generation.tokens) == 6
        activation, surprisal = real.reread(ids, generation.tokens)
        torch.testing.assert_close(answer.activation, activation, rtol=1e-3, atol=1e-3)
        assert answer.surprisal == pytest.approx(surprisal, abs=1e-3)


def test_steering_begins_after_the_opening_and_stays(real: Real):
    """What was said before the prompt is not steered; the prompt is, and the answer."""
    real.prober.ask(steering())
    for row, request in enumerate(real.engine.requests):
        if row < 2:
            assert request.windows == ()
            continue
        (window,) = request.windows
        assert window.stop is None
        before, after = (
            real.tokenizer.decode(part) for part in (request.ids[: window.start], request.ids[window.start :])
        )
        assert probes().opening[1] in before
        assert before.endswith("<|im_end|>")
        assert TWO[row % 2] in after
        assert request.sampling.seed == int(hashlib.sha256(TWO[row % 2].encode()).hexdigest()[:12], 16)
    steered = [future.result().receipts[0] for future in real.engine.futures[2:]]
    assert all(receipt.planned == receipt.steered > 10 for receipt in steered)


def test_asking_twice_gives_the_same(real: Real):
    """In the warm engine, and in a new one to the bit."""
    first, again = real.prober.ask(steering()), real.prober.ask(steering())
    for one, two in zip(itertools.chain(*first), itertools.chain(*again), strict=True):
        assert_same(one, two)
    runs = []
    for _ in range(2):
        other = Real(real.tokenizer)
        runs.append([*itertools.chain(*other.prober.ask(steering()))])
        other.engine.close()
    for one, two in zip(*runs, strict=True):
        assert (one.text, one.surprisal) == (two.text, two.surprisal)
        assert torch.equal(one.activation, two.activation)


def test_answers_of_unequal_length_are_read_side_by_side(real: Real):
    """Where answers end early, what pads them counts for nothing; where there is no token, there is no measurement."""
    real.prober.ask(steering())
    tokens = [future.result().tokens for future in real.engine.futures]
    ends = [tokens[4][0], tokens[6][3], tokens[1][1]]
    short = Real(real.tokenizer, ends)
    answers = [*itertools.chain(*short.prober.ask(steering()))]
    generations = [future.result() for future in short.engine.futures]
    short.engine.close()
    assert len({len(generation.tokens) for generation in generations}) > 2
    assert (answers[4].text, answers[4].activation, answers[4].surprisal) == ("", None, None)
    for row, (answer, generation) in enumerate(zip(answers, generations, strict=True)):
        if generation.tokens:
            activation, surprisal = short.reread(
                short.renderer.render(short.chat(TWO[row % 2]), []).ids, generation.tokens
            )
            torch.testing.assert_close(answer.activation, activation, rtol=1e-3, atol=1e-3)
            assert answer.surprisal == pytest.approx(surprisal, abs=1e-3)
