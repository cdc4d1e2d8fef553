"""The detection experiment: its texts, its questions, what is read and sampled, and how that is scored."""

import asyncio
import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from inspect_ai.event import ModelEvent
from inspect_ai.log import EvalLog
from inspect_ai.model import ModelName
from inspect_ai.scorer import Target
from inspect_ai.solver import TaskState
from transformers import PreTrainedTokenizerBase

from self_steering.analysis.report.summary import summarise
from self_steering.analysis.statistics.signal_detection import exact_upper_bound
from self_steering.evals.detection import TEXTS, detection, make_trials
from self_steering.scorers.answers import expected_value, reading_faults, window_faults
from self_steering.scorers.detection import detection_scorer, detection_value, parse_digit
from self_steering.solvers.checks import parse_doses
from self_steering.solvers.detection import (
    ALWAYS_NO,
    ALWAYS_YES,
    CONTROLS,
    DETECTION,
    STRENGTH,
    UNKNOWABLE,
    DetectionTrial,
    detection_questions,
    detection_script,
)
from self_steering.solvers.prompts import detection as prompts
from self_steering.solvers.readings import Reading
from self_steering.solvers.segments import StretchState
from self_steering.steering.calls import FRAMINGS
from self_steering.steering.seeds import derived_seed
from self_steering.vectors.catalogue import catalogue
from tests.support.stretches import (
    DEFAULT_DOSE,
    KEY,
    NAMES,
    Tiny,
    make_tiny,
    marked_text,
    pages,
    reading,
    readouts,
    receipt,
    values_of,
)
from tests.support.summaries import figures

ARMS = ["real", "placebo", "random", "tampered"]

MOST = TEXTS // len(catalogue())


def trials_of(**changes) -> list[DetectionTrial]:
    arguments = {
        "vectors": ["calm", "goblins", "lsd"],
        "arms": ARMS,
        "doses": [0.5, 2.0],
        "n_per_vector": 2,
        "names": list(catalogue()),
    }
    return [trial for trial, _ in make_trials(**{**arguments, "framing": "vectors", "seed": 0, **changes})]


# ---------------------------------------------------------------- design


def test_every_text_is_run_in_every_condition():
    """Each vector and repetition has one trial without injection, and one a dose of the real and the random arm."""
    found = Counter((trial.vector, trial.condition) for trial in trials_of())
    conditions = ("real@0.5", "real@2", "placebo", "random@0.5", "random@2", "tampered")
    assert found == {(vector, condition): 2 for vector in ("calm", "goblins", "lsd") for condition in conditions}


def test_what_the_model_reads_is_the_same_in_every_condition():
    """Script and questions differ between texts, and between conditions of one text in nothing but a sentence tampered with."""
    answers = {"yes": ["yes"], "no": ["no"]}

    def read(trial: DetectionTrial) -> str:
        script = [message.model_dump_json(exclude={"id"}) for message in detection_script(trial)]
        return "\n".join([*script, *(question.text for question in detection_questions(trial, 2, answers))])

    trials = trials_of()
    for at in range(0, len(trials), 6):
        of_text = trials[at : at + 6]
        plain = {read(trial) for trial in of_text if trial.arm != "tampered"}
        (tampered,) = (trial for trial in of_text if trial.arm == "tampered")
        sentence = of_text[0].sentence
        assert sorted(tampered.sentence.split()) == sorted(sentence.split())
        assert {read(tampered).replace(tampered.sentence, sentence)} == plain != {read(tampered)}
    assert len({read(trial) for trial in trials}) == 12


def test_no_text_comes_twice():
    """Trials without injection do not depend on the vector, so as many as are counted must be as many different texts."""
    trials = trials_of(vectors=list(catalogue()), arms=["placebo"], n_per_vector=MOST)
    texts = {(trial.label, trial.sentence, trial.wording) for trial in trials}
    assert len(texts) == len(trials) == 40 * MOST
    wordings = Counter(trial.wording for trial in trials)
    assert max(wordings.values()) - min(wordings.values()) <= 0.1 * len(trials)


def test_arms_inject_what_they_say():
    """Only placebo has strength zero, only random a random direction: the same one at every dose of a text."""
    for trial in trials_of():
        unsteered = trial.arm in ("placebo", "tampered")
        assert (trial.window(1, trial.dose, 0.6).strength == 0) == unsteered
        assert trial.treatment(0.6).unit_strength == (0 if unsteered else 0.6)
        assert (trial.treatment(0.6).direction.random_seed is not None) == (trial.arm == "random")
    seeds = {}
    for number, trial in enumerate(trials_of(arms=["random"])):
        seeds.setdefault(number // 2, set()).add(trial.random_seed)
    assert all(len(found) == 1 for found in seeds.values())
    assert len(set().union(*seeds.values())) == 6


def test_a_trial_does_not_depend_on_what_else_is_run():
    """One vector, arm and dose alone get the trials that they get among all; another seed gives other texts."""
    alone = trials_of(vectors=["goblins"], arms=["random"], doses=[2.0])
    assert alone == [trial for trial in trials_of() if (trial.vector, trial.condition) == ("goblins", "random@2")]
    assert [trial.sentence for trial in trials_of(seed=1)] != [trial.sentence for trial in trials_of()]


def test_yes_and_no_stand_first_equally_often():
    """Every question with yes or no comes once in each order, and nothing else about it changes."""
    questions = detection_questions(trials_of()[0], 3, {"yes": ["yes"], "no": ["no"]})
    asked: dict[tuple[str, str], list[str]] = {}
    for question in questions:
        if question.kind != STRENGTH:
            asked.setdefault((question.kind, question.item), []).append(question.text.removeprefix(question.item))
    assert Counter(kind for kind, _ in asked) == {DETECTION: 1, ALWAYS_NO: 3, ALWAYS_YES: 3, UNKNOWABLE: 3}
    assert all(ends == [" Answer yes or no.", " Answer no or yes."] for ends in asked.values())
    assert questions[-1].answers == {str(digit): [str(digit)] for digit in range(10)}


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_framing_uses_its_own_words(framing: str):
    """No other framing's noun, and no tool answer that tells whether anything was done."""
    trial = trials_of(framing=framing)[0]
    script = detection_script(trial)
    words = "\n".join(message.model_dump_json(exclude={"id"}) for message in script)
    foreign = [word for name, f in FRAMINGS.items() if name != framing for word in (f.noun, f.plural)]
    assert re.findall(rf"\b(?:{'|'.join(foreign)}|placebo)\b", words) == []
    assert FRAMINGS[framing].article + " " + FRAMINGS[framing].noun in script[0].text
    assert [message.text for message in script if message.role == "tool"] == [prompts.TOOL_ANSWER] * 2


@pytest.mark.parametrize("doses", ["0.5, -1", ["0.5", "-1"], [0.5, -1]])
def test_doses_are_read_from_strings_lists_and_numbers(doses: str | Sequence[str | float]):
    """Inspect's command line gives any of them."""
    assert parse_doses(doses) == [0.5, -1.0]
    assert parse_doses(2) == [2.0]


# ---------------------------------------------------------------- scores of hand-made readings


def yes_no(log_odds: float, mass: float = 0.8) -> dict[str, float]:
    yes = mass / (1 + math.exp(-log_odds))
    return {"yes": math.log(yes), "no": math.log(mass - yes)}


def digits(weights: Sequence[float], mass: float = 0.5) -> dict[str, float]:
    return {str(digit): math.log(mass * weight / sum(weights)) for digit, weight in enumerate(weights)}


EVEN = digits([1] * 10)


def planted(
    shifts: dict[str, float], order_bias: float = 0.0, cached_digits: dict[str, float] = EVEN, sure: float = 2.0
) -> list[Reading]:
    """Return readings in which each kind of question is moved by its shift, and the first answer is liked by `order_bias`."""
    base = {DETECTION: -1.0, ALWAYS_NO: -sure, ALWAYS_YES: sure}
    found = [
        reading(name, kind, yes_no(base[kind] + spread + order + (shifts[kind] if name == "cached" else 0)), item)
        for name in ("cached", "uncached")
        for kind in base
        for item, spread in (("one", 0.3), ("two", -0.3))
        for order in (order_bias, -order_bias)
    ]
    return [*found, reading("cached", STRENGTH, cached_digits), reading("uncached", STRENGTH, EVEN)]


@pytest.mark.parametrize("general", [0.7, -1.3])
def test_a_general_shift_towards_yes_or_no_is_no_detection(general: float):
    """What moves every question alike is taken out in full."""
    value = detection_value(planted(dict.fromkeys((DETECTION, ALWAYS_NO, ALWAYS_YES), general)))
    assert value["shift"] == pytest.approx(general)
    assert value["net_shift"] == pytest.approx(0)


def test_losing_sureness_is_no_general_shift():
    """Where no rises and yes falls, the two kinds of controls cancel, and both are shown."""
    value = detection_value(planted({DETECTION: 0.5, ALWAYS_NO: 0.8, ALWAYS_YES: -0.8}))
    assert (value["control_shift_no"], value["control_shift_yes"]) == pytest.approx((0.8, -0.8))
    assert value["control_shift"] == pytest.approx(0)
    assert value["net_shift"] == pytest.approx(0.5)


@pytest.mark.parametrize("default", [-3.0, -1.0, 0.5])
@pytest.mark.parametrize("drawn_in", [0.2, 0.9])
def test_answers_drawn_towards_even_odds_are_no_detection(default: float, drawn_in: float):
    """Whatever the default: every log-odds shrinks by the same share, so the detection question lies on the controls' line."""
    items = {DETECTION: [default], ALWAYS_NO: [-3, -1.5], ALWAYS_YES: [4, 1], UNKNOWABLE: [-1, 0.3]}
    found = [
        reading(name, kind, yes_no(odds * share), f"{kind} {number}")
        for name, share in (("cached", 1 - drawn_in), ("uncached", 1.0))
        for kind, of_kind in items.items()
        for number, odds in enumerate(of_kind)
    ]
    found += [reading(name, STRENGTH, EVEN) for name in ("cached", "uncached")]
    value = detection_value(found)
    assert value["beyond_line"] == pytest.approx(0, abs=1e-9)
    assert value["line_slope"] == pytest.approx(-drawn_in)
    assert value["net_shift"] != pytest.approx(0, abs=0.05)


def test_controls_of_one_log_odds_have_no_line():
    """Then nothing is said of it, and the sample keeps its other numbers."""
    found = [reading(name, kind, yes_no(1.0)) for name in ("cached", "uncached") for kind in (DETECTION, *CONTROLS)]
    value = detection_value([*found, *(reading(name, STRENGTH, EVEN) for name in ("cached", "uncached"))])
    assert math.isnan(value["beyond_line"])
    assert value["net_shift"] == 0


def test_a_shift_of_the_detection_question_alone_is_net():
    """Nothing is taken off where the controls stay."""
    value = detection_value(planted({DETECTION: 1.4, ALWAYS_NO: 0.0, ALWAYS_YES: 0.0}))
    assert value["net_shift"] == value["shift"] == value["beyond_line"] == pytest.approx(1.4)
    assert value["log_odds"] == pytest.approx(0.4)
    assert value["says_yes"] == 1


def test_a_liking_for_the_first_answer_cancels():
    """Both orders are averaged, however strong it is."""
    shifts = {DETECTION: 0.2, ALWAYS_NO: 0.1, ALWAYS_YES: 0.1}
    plain, biased = (detection_value(planted(shifts, order_bias=bias)) for bias in (0.0, 3.0))
    assert {k: v for k, v in biased.items() if k != "answer_mass"} == pytest.approx(
        {k: v for k, v in plain.items() if k != "answer_mass"}
    )


@pytest.mark.parametrize(("sure", "right"), [(2.0, 1.0), (-2.0, 0.0), (0.0, 0.5)])
def test_controls_right_is_the_share_answered_rightly(sure: float, right: float):
    """Question by question, with both orders averaged."""
    assert detection_value(planted(dict.fromkeys((DETECTION, ALWAYS_NO, ALWAYS_YES), 0.0), sure=sure))[
        "controls_right"
    ] == pytest.approx(right)


def test_strength_is_the_expected_digit_and_not_the_likeliest():
    """Digits are weighted by their share, whatever all of them together have of the vocabulary."""
    weights = [5, 0.001, 0.001, 0.001, 0.001, 0.001, 0.001, 0.001, 0.001, 5]
    expected = sum(digit * weight for digit, weight in enumerate(weights)) / sum(weights)
    for mass in (0.9, 1e-6):
        assert expected_value([reading("cached", STRENGTH, digits(weights, mass))]) == pytest.approx(expected)
    value = detection_value(
        planted(dict.fromkeys((DETECTION, ALWAYS_NO, ALWAYS_YES), 0.0), cached_digits=digits(weights, 0.3))
    )
    assert value["strength"] == pytest.approx(expected)
    assert value["strength_shift"] == pytest.approx(expected - 4.5)
    assert value["digit_mass"] == pytest.approx(0.3)


@pytest.mark.parametrize(("text", "digit"), [("7", 7), (" 0\n", 0), ("3.", 3)])
def test_a_single_digit_is_a_report(text: str, digit: int):
    """White space and a full stop aside."""
    assert parse_digit(text) == digit


@pytest.mark.parametrize("text", ["", "10", "seven", "0 to 9", "7 or 8", "-3", "3.5", "I would say 4", "٣"])
def test_anything_else_is_unscored(text: str):
    """No number is taken out of other text."""
    assert math.isnan(parse_digit(text))


def scored(readings: list[Reading] | None, sampled: str | None = "4"):
    trial = trials_of()[0]
    state = TaskState(
        model=ModelName("mockllm/model"), sample_id=1, epoch=1, input="i", messages=[], metadata=trial.model_dump()
    )
    if readings is not None:
        left = StretchState(store=state.store)
        left.readings, left.sampled = readings, sampled
    return asyncio.run(detection_scorer()(state, Target("yes")))


NOTHING = dict.fromkeys((DETECTION, ALWAYS_NO, ALWAYS_YES), 0.0)


def test_a_sample_without_readings_is_unscored():
    """No read-out is no answer: the score is missing, with its reason."""
    for score in (scored(None), scored([]), scored(planted(NOTHING), None)):
        assert math.isnan(score.value)
        assert score.reason == "no_response"


def test_a_written_report_that_is_no_digit_is_unscored_with_its_reason():
    """The rest of the score stands, and the text is kept."""
    score = scored(planted(NOTHING), "quite strongly")
    assert math.isnan(score.value["strength_sampled"])
    assert score.metadata["sampled_unscored"] == "invalid_response_format"
    assert score.metadata["sampled"] == "quite strongly"
    assert "no digit, unscored" in score.explanation
    assert score.value["strength"] == pytest.approx(4.5)
    assert scored(planted(NOTHING), "4").value["strength_sampled"] == 4


def test_a_faulty_receipt_of_any_question_shows_in_the_score():
    """Also of one control question among many."""
    readings = planted(NOTHING)
    assert scored(readings).value["clean_receipt"] == 1
    control = next(i for i, r in enumerate(readings) if r.kind == ALWAYS_YES)
    readings[control] = readings[control].model_copy(update={"strengths": [0.9], "receipts": [receipt(steered=4)]})
    score = scored(readings)
    assert score.value["clean_receipt"] == 0
    assert "cached reading, always yes: window 0: 5 positions planned, 4 steered" in score.explanation


# ---------------------------------------------------------------- receipts


def test_clean_receipts_have_no_faults():
    """Several windows, inverted ones, placebo, and no window at all."""
    inverted = receipt(strength=-0.9, projection_after=-1.0, expected_shift=-3.0)
    placebo = receipt(strength=0.0, projection_after=2.0, expected_shift=0.0)
    assert window_faults([receipt(), inverted, placebo], [0.9, -0.9, 0.0]) == []
    assert window_faults([], []) == []


@pytest.mark.parametrize(
    ("receipts", "fault"),
    [
        ([], "0 windows, expected 1"),
        ([receipt(), receipt()], "2 windows, expected 1"),
        ([receipt(steered=4)], "window 0: 5 positions planned, 4 steered"),
        (
            [receipt(planned=0, steered=0, projection_before=None, projection_after=None)],
            "window 0: 0 positions planned",
        ),
        ([receipt(strength=0.8)], "window 0: strength 0.8, expected 0.9"),
        ([receipt(strength=math.nan)], "window 0: strength nan, expected 0.9"),
        ([receipt(projection_after=5.1)], "window 0: projection moved by 3.1000, expected 3.0000"),
        ([receipt(projection_after=math.nan)], "window 0: projection moved by nan"),
    ],
)
def test_a_sabotaged_receipt_is_put_into_words(receipts: list[dict], fault: str):
    """Whatever the engine did otherwise than planned is named."""
    (found,) = window_faults(receipts, [0.9])
    assert found.startswith(fault)


def test_windows_are_told_apart():
    """Two windows in the wrong order are two faults, and a window in an uncached reading is one."""
    faults = window_faults([receipt(), receipt(strength=0.45)], [0.45, 0.9])
    assert [fault[:9] for fault in faults] == ["window 0:", "window 1:"]
    stray = reading("uncached", DETECTION, yes_no(0)).model_copy(update={"receipts": [receipt()]})
    assert reading_faults([stray]) == ["uncached reading, detection: 1 windows, expected 0"]


# ---------------------------------------------------------------- the real task on a tiny model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A tiny model whose template knows tools, and its library."""
    return make_tiny(tmp_path_factory.mktemp("detection"))


@pytest.fixture(scope="module")
def log(tiny: Tiny) -> EvalLog:
    """Both vectors and all arms, at twice the default dose."""
    return tiny.run(detection(vectors="all", doses=2, controls=1, library=str(tiny.library)))


def test_a_placebo_moves_nothing_and_every_injection_does(log: EvalLog):
    """Strength zero leaves every log-odds and every digit the same to the bit."""
    moved = {
        "shift",
        "control_shift",
        "control_shift_no",
        "control_shift_yes",
        "net_shift",
        "beyond_line",
        "strength_shift",
    }
    assert Counter(sample.metadata["condition"] for sample in log.samples) == dict.fromkeys(
        ("real@2", "placebo", "random@2", "tampered"), len(NAMES)
    )
    for sample in log.samples:
        same = {name: values_of(sample)[name] == 0 for name in moved}
        unsteered = sample.metadata["arm"] in ("placebo", "tampered")
        assert same == dict.fromkeys(moved, unsteered)
        found = readouts(sample)
        half = len(found) // 2
        identical = [one[2] == other[2] for one, other in zip(found[:half], found[half:], strict=True)]
        assert identical == [unsteered] * half


def test_every_question_is_asked_under_the_same_injection(log: EvalLog):
    """One detection question, a control of each kind, each in both orders, and the numeric one; then all without windows."""
    for sample in log.samples:
        found = readouts(sample)
        assert len(found) == 2 * (2 * 4 + 1)
        strength = sample.metadata["dose"] * DEFAULT_DOSE
        assert [strengths for _, strengths, _ in found] == [[strength]] * 9 + [[]] * 9
        asked = [text for text, _, _ in found]
        assert asked[:9] == asked[9:]
        assert len(set(asked)) == 9
        assert values_of(sample)["clean_receipt"] == 1


def test_scores_can_be_computed_again_from_the_events(log: EvalLog):
    """Log-odds and shifts follow from the read-outs that the log holds."""
    for sample in log.samples:
        odds = [r["yes"] - r["no"] for _, _, r in readouts(sample) if "yes" in r]
        cached, uncached = odds[:8], odds[8:]
        shifts = [one - other for one, other in zip(cached, uncached, strict=True)]
        value = values_of(sample)
        assert value["log_odds"] == pytest.approx(sum(cached[:2]) / 2)
        assert value["net_shift"] == pytest.approx(sum(shifts[:2]) / 2 - sum(shifts[2:6]) / 4)
        before, moved = ([sum(of[at : at + 2]) / 2 for at in range(0, 8, 2)] for of in (uncached, shifts))
        slope, intercept = np.polyfit(before[1:], moved[1:], 1)
        assert value["beyond_line"] == pytest.approx(moved[0] - slope * before[0] - intercept)
        (digits_found,) = [r for _, strengths, r in readouts(sample) if "9" in r and strengths]
        weights = {int(digit): math.exp(p) for digit, p in digits_found.items()}
        assert value["strength"] == pytest.approx(sum(d * w for d, w in weights.items()) / sum(weights.values()))
        assert value["digit_mass"] == pytest.approx(sum(weights.values()))


def test_a_casing_counts_only_where_yes_and_no_both_are_one_token(log: EvalLog, tokenizer: PreTrainedTokenizerBase):
    """So that neither answer has a spelling more than the other."""
    vocabulary = {text.strip() for text in tokenizer.batch_decode([[i] for i in range(len(tokenizer))])}
    pairs = [pair for pair in prompts.CASINGS if vocabulary.issuperset(pair)]
    assert pairs == [("yes", "no"), ("Yes", "No")]
    for sample in log.samples:
        event = next(e for e in sample.events if isinstance(e, ModelEvent))
        asked = event.config.extra_body[KEY]["readout"]
        assert list(zip(asked["yes"], asked["no"], strict=True)) == pairs


def test_conditions_of_one_text_read_the_same_without_windows(log: EvalLog):
    """Nothing but the injection differs between them."""
    by_text: dict[str, set[str]] = {}
    for sample in log.samples:
        found = [r for _, strengths, r in readouts(sample) if not strengths]
        if sample.metadata["arm"] != "tampered":
            by_text.setdefault(sample.metadata["sentence"], set()).add(repr(found))
    assert [len(found) for found in by_text.values()] == [1, 1]


def test_the_map_marks_from_after_the_take_call_to_the_end_of_the_clear_call(log: EvalLog):
    """The sentence lies inside; neither the questions nor the system message do."""
    for sample in log.samples:
        shown = pages(sample)
        (text,) = marked_text(shown["steering map, cached reading"])
        assert sample.metadata["sentence"] in text
        assert prompts.PLACEHOLDER in text
        assert "clear_effects" in text
        assert "take_vector" not in text
        assert "Answer yes" not in text
        assert marked_text(shown["steering map, uncached reading"]) == []
        listed = shown["probability of each answer, cached reading"]
        assert listed.count("- always no: ") == listed.count("- always yes: ") == 2


def test_the_report_is_written_under_the_same_injection_and_seeded(log: EvalLog):
    """At temperature one, with a seed of the sample's own; text without a digit counts in no mean."""
    written = []
    for sample in log.samples:
        (event,) = (e for e in sample.events if isinstance(e, ModelEvent) and e.config.temperature == 1)
        assert event.config.seed == derived_seed(sample.metadata["sample_seed"], sample.epoch)
        (window,) = event.config.extra_body[KEY]["plan"]["windows"]
        assert window["strength"] == sample.metadata["dose"] * DEFAULT_DOSE
        score = sample.scores["detection_scorer"]
        assert score.metadata["sampled"] == event.output.completion
        written.append(values_of(sample)["strength_sampled"])
    rows = [row for row in summarise(log.samples) if row.score == "strength_sampled"]
    counted = sum(not math.isnan(value) for value in written)
    assert {(row.scored, row.samples) for row in rows} == ({(counted, len(log.samples))} if counted else set())


def test_the_log_has_every_statistic(log: EvalLog):
    """d', AUROC and false alarms by condition, and the net shift with intervals by vector and by prompt."""
    found = figures(log, "log_odds")
    clean = [values_of(s)["log_odds"] > 0 for s in log.samples if s.metadata["arm"] == "placebo"]
    assert found["false_positive_rate"] == sum(clean) / 2
    assert found["false_positive_rate_upper_95"] == pytest.approx(exact_upper_bound(sum(clean), 2))
    for condition in ("real@2", "random@2"):
        assert {f"{condition}/{name}{end}" for name in ("d_prime", "auroc") for end in ("", "_lower", "_upper")} <= set(
            found
        )
    net = figures(log, "net_shift")
    assert {"real@2", "real@2_lower", "real@2_upper", "real@2_lower_by_prompt", "real@2_upper_by_prompt"} <= set(net)
    assert net["placebo"] == 0
