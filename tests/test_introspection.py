"""The introspection experiment: its questions, its script, what was steered and read, and how that is scored and shown."""

import asyncio
import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from inspect_ai import Task, eval  # noqa: A004  Inspect's name for it
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.event import InfoEvent, ModelEvent
from inspect_ai.log import EvalLog, EvalSample, read_eval_log, write_eval_log
from inspect_ai.model import ModelName, get_model
from inspect_ai.scorer import Score, Target, mean, scorer
from inspect_ai.solver import Generate, TaskState, solver

from self_steering.analysis import introspection_table
from self_steering.analysis.introspection_table import arm_rows
from self_steering.evals.introspection import CORE_VECTORS, introspection, make_trials
from self_steering.scorers.introspection import introspection_scorer, option_shares, receipt_faults
from self_steering.solvers.introspect import IntrospectionState, Reading, Trial, question, rotation_shifts
from self_steering.solvers.introspect import scripted_conversation as script_of
from self_steering.solvers.introspection_prompts import PRIMERS
from self_steering.solvers.steering_map import steering_map
from self_steering.steering.framings import FRAMINGS
from self_steering.steering.models import load_model
from self_steering.steering.plan import Direction, Treatment, plan_windows
from self_steering.vectors.catalogue import catalogue
from self_steering.vectors.cli import main as self_steering_command
from self_steering.vectors.library import load_library
from tests.small_library import STATES, small_stories
from tests.templates import save_family_model

ARMS = ("real", "placebo", "random", "other")
DOSE = 1.5
DEFAULT_DOSE = 6.0
KEY = "self_steering"


# ---------------------------------------------------------------- questions


def trials_of(**changes) -> list[Trial]:
    arguments = {
        "vectors": list(CORE_VECTORS),
        "arms": list(ARMS),
        "names": list(catalogue()),
        "n_per_vector": 2,
        "primer": "none",
        "options": 10,
        "dose": 1.0,
        "framing": "vectors",
        "seed": 0,
    }
    return [trial for trial, _ in make_trials(**{**arguments, **changes})]


def test_there_is_a_trial_for_each_vector_arm_and_repetition():
    """Every combination is there once, with the arms of one question side by side."""
    trials = trials_of()
    assert Counter((t.vector, t.arm) for t in trials) == {(v, arm): 2 for v in CORE_VECTORS for arm in ARMS}
    assert [t.arm for t in trials] == list(ARMS) * 20


def test_all_arms_ask_the_very_same_question():
    """Options and their order, label and dose are the same, so that arms differ in nothing but what is applied."""
    trials = trials_of()
    for first in range(0, len(trials), 4):
        shown = [t.model_dump(exclude={"arm", "applied", "random_seed"}) for t in trials[first : first + 4]]
        assert shown == shown[:1] * 4


def test_arms_apply_what_they_say():
    """Real and placebo apply the true vector, random a seeded direction of its norm, other another vector; only placebo at 0."""
    for trial in trials_of():
        treatment = trial.treatment(0.6)
        assert treatment.unit_strength == (0 if trial.arm == "placebo" else 0.6)
        assert (trial.applied != trial.vector) == (trial.arm == "other")
        assert (treatment.direction.random_seed is not None) == (trial.arm == "random")
        assert treatment.direction.vector == trial.applied


def test_the_other_vector_is_none_of_the_options():
    """What is applied in the other arm cannot be recognised among the options; with no vector left, it is a wrong option."""
    for trial in trials_of():
        if trial.arm == "other":
            assert trial.applied not in trial.options
    everything = trials_of(names=list(CORE_VECTORS), arms=["other"])
    assert all(t.applied in t.options and t.applied != t.vector for t in everything)


def test_the_options_are_the_true_one_and_different_others():
    """As many as asked for, none twice."""
    for trial in trials_of(options=7):
        assert len(set(trial.options)) == len(trial.options) == 7
        assert trial.vector in trial.options


def test_a_seed_gives_the_same_trials_again_and_another_seed_others():
    """A log can be made again from its arguments; questions, other vectors and random directions all follow the seed."""
    again, other = trials_of(), trials_of(seed=1)
    assert trials_of() == again
    changed = [
        {name for name in ("options", "applied", "random_seed") if getattr(a, name) != getattr(b, name)}
        for a, b in zip(again, other, strict=True)
    ]
    assert set().union(*changed) == {"options", "applied", "random_seed"}


def test_a_question_does_not_depend_on_what_else_is_run():
    """One vector and arm alone get the trials that they get among all."""
    alone = trials_of(vectors=["honest"], arms=["random"])
    assert alone == [t for t in trials_of() if (t.vector, t.arm) == ("honest", "random")]


def test_repetitions_ask_other_questions():
    """Each has its own options in its own order."""
    asked = [tuple(t.options) for t in trials_of(arms=["real"], n_per_vector=5)]
    assert len(set(asked)) == len(asked)


def test_places_distractors_and_others_are_balanced():
    """The true option stands anywhere alike, and no vector is a distractor or an other vector far more than its share."""
    trials = trials_of(vectors=list(catalogue()), n_per_vector=25)
    asked = [t for t in trials if t.arm == "other"]
    assert len(asked) == 1000
    places = Counter(t.options.index(t.vector) for t in asked)
    distractors = Counter(name for t in asked for name in t.options if name != t.vector)
    others = Counter(t.applied for t in asked)
    # Bounds of five standard deviations around the expected 100, 225 and 25.
    assert all(100 - 48 < places[place] < 100 + 48 for place in range(10))
    assert all(225 - 67 < distractors[name] < 225 + 67 for name in catalogue())
    assert all(0 < others[name] < 25 + 25 for name in catalogue())


@pytest.mark.parametrize(("options", "rotations"), [(10, 5), (10, 10), (3, 3), (7, 3), (26, 1)])
def test_rotations_are_different_and_evenly_spread(options: int, rotations: int):
    """No rotation comes twice, and neighbours lie equally far apart to within one place."""
    shifts = rotation_shifts(options, rotations)
    assert len(set(shifts)) == rotations
    assert shifts[0] == 0
    steps = [b - a for a, b in zip(shifts, [*shifts[1:], options], strict=True)]
    assert max(steps) - min(steps) <= 1


def test_the_question_letters_every_option_with_its_effect():
    """One line an option, in the order given."""
    lines = question(["soma", "calm"]).text.splitlines()[-2:]
    assert lines == [f"A. soma: {catalogue()['soma'].effect}", f"B. calm: {catalogue()['calm'].effect}"]


# ---------------------------------------------------------------- script


@pytest.mark.parametrize("framing", FRAMINGS)
def test_the_window_runs_from_after_the_take_message_to_the_end_of_the_clear_message(framing: str):
    """In every framing just the tool's answer, the placeholder turn and the clear message are steered."""
    (trial,) = trials_of(vectors=["calm"], arms=["real"], n_per_vector=1, framing=framing, dose=2.0)
    messages = [*script_of(trial), question(trial.options)]
    calls = {c.function: i for i, m in enumerate(messages) if m.role == "assistant" for c in m.tool_calls or []}
    taken, cleared = calls[FRAMINGS[framing].take_tool], calls["clear_effects"]
    (window,) = plan_windows(messages, {"d1": Treatment(direction=Direction(vector="calm"), unit_strength=0.5)}).windows
    assert (window.start, window.stop, window.strength) == (taken + 1, cleared + 1, 1.0)
    assert [m.role for m in messages[window.start : window.stop]] == ["tool", "user", "assistant", "user", "assistant"]


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("primer", PRIMERS)
def test_nothing_before_the_question_tells_the_vector(framing: str, primer: str):
    """The script is the same word for word whichever vector is given, and uses the words of its own framing only."""
    scripts = {
        "\n".join(m.model_dump_json(exclude={"id"}) for m in script_of(trial))
        for trial in trials_of(arms=["real", "other"], n_per_vector=1, framing=framing, primer=primer)
    }
    (script,) = scripts
    assert (PRIMERS[primer] or "") in script
    foreign = [w for name, f in FRAMINGS.items() if name != framing for w in (f.noun, f.plural)]
    assert re.findall(rf"\b(?:{'|'.join(foreign)}|sober|placebo)\b", script) == []


def test_the_primer_stands_in_the_system_message_alone():
    """It changes no other message."""
    without, primed = (
        script_of(trials_of(arms=["real"], vectors=["calm"], n_per_vector=1, primer=name)[0])
        for name in ("none", "introspection")
    )
    assert primed[0].text == f"{without[0].text}\n\n{PRIMERS['introspection']}"
    assert [m.text for m in primed[1:]] == [m.text for m in without[1:]]


# ---------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vectors": "calm,joy"}, r"vectors='joy' is unknown; choose from anxious, .*, goblins, all, core"),
        ({"vectors": "core,soma"}, "vectors='core,soma': 'core' stands for several; give it alone"),
        ({"vectors": ["all", "calm"]}, "'all' stands for several"),
        ({"vectors": "calm,calm"}, "vectors='calm,calm' names something twice; name each once"),
        ({"vectors": []}, r"vectors=\[\] is empty; choose from anxious"),
        ({"arm": "real,sham"}, "arm='sham' is unknown; choose from real, placebo, random, other"),
        ({"primer": "essay"}, "primer='essay' is unknown; choose from none, introspection, lorem"),
        ({"framing": "pills"}, "framing='pills' is unknown; choose from drugs, aids, vectors"),
        ({"options": 1}, "options=1; choose a whole number from 2 to 26"),
        ({"options": 27}, "options=27; choose a whole number from 2 to 26"),
        ({"options": 4.5}, "options=4.5; choose a whole number"),
        ({"rotations": 0}, "rotations=0; choose 1 to 10"),
        ({"rotations": 11}, "rotations=11; choose 1 to 10"),
        ({"n_per_vector": 0}, "n_per_vector=0; choose a whole number, at least 1"),
        ({"dose": 11}, "dose 11 is out of range; pass a number from -10 to 10"),
        ({"dose": "high"}, "dose 'high' is not a finite number; pass"),
        ({"library": "./nowhere"}, "no library folder './nowhere' .*self-steering vectors build"),
    ],
)
def test_a_bad_argument_is_named_with_the_valid_choices(arguments: dict, message: str):
    """Before any model is asked anything, the message says what was passed and what can be."""
    with pytest.raises(ValueError, match=message):
        introspection(**arguments)


@pytest.mark.parametrize(
    ("vectors", "chosen"),
    [
        ("core", list(CORE_VECTORS)),
        (["core"], list(CORE_VECTORS)),
        ("all", list(catalogue())),
        ("soma, calm", ["soma", "calm"]),
        (["goblins"], ["goblins"]),
    ],
)
def test_vectors_are_named_alone_together_or_by_a_shorthand(vectors: str | list[str], chosen: list[str]):
    """Strings and lists are both read, as Inspect's command line gives either."""
    dataset = introspection(vectors=vectors, arm="real").dataset
    assert [sample.metadata["vector"] for sample in dataset] == chosen
    assert [sample.target for sample in dataset] == chosen


def test_a_task_made_in_python_leaves_the_model_to_the_eval():
    """Outside of an eval no model is set, as a task's own would beat the one that the eval names."""
    assert introspection().model is None


# ---------------------------------------------------------------- the real task on a tiny model


@dataclass(frozen=True)
class Tiny:
    """A tiny model with a library.

    Attributes:
        model: Folder of the model.
        library: Folder of its library.
        logs: Folder for logs.
    """

    model: Path
    library: Path
    logs: Path

    def task(self, **changes) -> Task:
        """Return the task in a small form."""
        arguments = {"vectors": "all", "options": 3, "rotations": 3, "dose": DOSE, "library": str(self.library)}
        return introspection(**{**arguments, **changes})

    def run(self, max_samples: int) -> EvalLog:
        """Run all arms on a freshly loaded model, so that nothing is cached yet."""
        model = get_model(f"nnsight/{self.model}", memoize=False)
        try:
            (log,) = eval(self.task(), model=model, log_dir=str(self.logs), max_samples=max_samples, display="none")
        finally:
            model.api.close()
        assert log.status == "success", log.error
        return read_eval_log(log.location, resolve_attachments="full")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A tiny Qwen3 whose template knows tools, and a library of four vectors, strong enough to move its letters."""
    folder = tmp_path_factory.mktemp("introspection")
    model = save_family_model(folder / "model", "qwen")
    stories = small_stories(folder / "stories", settings=["ferry"])
    build = ["--model", str(model), "--out", str(folder / "library"), "--stories", str(stories)]
    assert self_steering_command(["vectors", "build", *build, "--default-dose", str(DEFAULT_DOSE)]) == 0
    return Tiny(model, folder / "library", folder / "logs")


@pytest.fixture(scope="session")
def log(tiny: Tiny) -> EvalLog:
    """All arms over four vectors, eight samples at a time."""
    return tiny.run(max_samples=8)


def model_events(sample: EvalSample) -> list[ModelEvent]:
    return [event for event in sample.events if isinstance(event, ModelEvent)]


def is_cached(event: ModelEvent) -> bool:
    return bool(event.config.extra_body[KEY]["plan"].get("windows"))


def readout(event: ModelEvent) -> dict[str, float]:
    """Return the log-probability of each option, by the letters that the event's own question shows."""
    letters = dict(re.findall(r"^([A-Z])\. (\w+):", event.input[-1].text, re.MULTILINE))
    return {name: event.output.metadata[KEY]["readout"][letter] for letter, name in letters.items()}


def values(log: EvalLog) -> dict[str, dict[str, float]]:
    return {str(sample.id): sample.scores["introspection_scorer"].value for sample in log.samples}


def test_every_sample_is_read_in_all_rotations_with_and_without_its_window(log: EvalLog):
    """Three rotations cached, then the same three uncached, with every option once on every letter."""
    assert len(log.samples) == len(STATES) * len(ARMS)
    for sample in log.samples:
        events = model_events(sample)
        assert [is_cached(event) for event in events] == [True] * 3 + [False] * 3
        asked = [event.input[-1].text for event in events]
        assert asked[:3] == asked[3:]
        orders = [list(readout(event)) for event in events[:3]]
        assert all({order[place] for order in orders} == set(sample.metadata["options"]) for place in range(3))


def test_scores_can_be_computed_again_from_the_events(log: EvalLog):
    """Shares, gap, hits and letter mass follow from the read-outs that the log holds."""
    for sample in log.samples:
        options, true = sample.metadata["options"], sample.metadata["vector"]
        share, mass = {}, {}
        for cached in (True, False):
            found = [readout(event) for event in model_events(sample) if is_cached(event) == cached]
            parts = [{o: math.exp(r[o]) / sum(map(math.exp, r.values())) for o in options} for r in found]
            share[cached] = {o: sum(part[o] for part in parts) / 3 for o in options}
            mass[cached] = sum(math.exp(p) for r in found for p in r.values()) / 3
            assert sum(share[cached].values()) == pytest.approx(1)
        score = sample.scores["introspection_scorer"]
        assert score.value == pytest.approx(
            {
                "cached": share[True][true],
                "uncached": share[False][true],
                "gap": share[True][true] - share[False][true],
                "top1_cached": float(share[True][true] == max(share[True].values())),
                "top1_uncached": float(share[False][true] == max(share[False].values())),
                "letter_mass": mass[True],
                "clean_receipt": 1,
            },
            abs=1e-9,
        )
        assert score.metadata["shares"]["cached"] == pytest.approx(share[True])
        assert score.metadata["letter_mass"] == pytest.approx({"cached": mass[True], "uncached": mass[False]})


def test_a_placebo_reads_the_same_with_and_without_its_window(log: EvalLog):
    """Strength zero leaves every read-out the same to the bit, while every other arm changes them all."""
    arms = Counter()
    for sample in log.samples:
        events = model_events(sample)
        for cached, uncached in zip(events[:3], events[3:], strict=True):
            same = readout(cached) == readout(uncached)
            assert same == (sample.metadata["arm"] == "placebo")
            arms[sample.metadata["arm"]] += 1
    assert arms == dict.fromkeys(ARMS, 3 * len(STATES))


def test_arms_read_the_same_where_nothing_is_steered(log: EvalLog):
    """The uncached readings of the four arms of one question are the same to the bit."""
    by_vector: dict[str, set[str]] = {}
    for sample in log.samples:
        readings = [readout(event) for event in model_events(sample) if not is_cached(event)]
        by_vector.setdefault(sample.metadata["vector"], set()).add(repr(readings))
    assert {vector: len(found) for vector, found in by_vector.items()} == dict.fromkeys(STATES, 1)


def test_running_again_in_another_batch_size_gives_the_same_scores(log: EvalLog, tiny: Tiny):
    """The same task on a fresh model, one sample at a time instead of eight, gives scores identical to the bit."""
    assert values(tiny.run(max_samples=1)) == values(log)


def test_receipts_are_clean(log: EvalLog):
    """Every cached reading has one window of the planned strength, steered in full, and every uncached one none."""
    for sample in log.samples:
        assert sample.scores["introspection_scorer"].metadata["receipt_faults"] == []
        strength = 0.0 if sample.metadata["arm"] == "placebo" else DOSE * DEFAULT_DOSE
        for event in model_events(sample):
            receipts = event.output.metadata[KEY]["receipts"]
            assert len(receipts) == is_cached(event)
            for receipt in receipts:
                assert receipt["planned"] == receipt["steered"] > 0
                assert receipt["strength"] == strength


def map_of(sample: EvalSample, name: str) -> str:
    (page,) = (
        e.data for e in sample.events if isinstance(e, InfoEvent) and e.source == f"steering map, {name} reading"
    )
    return page


def tokens_of(page: str) -> list[tuple[bool, str]]:
    """Return (steered, text) of every token of a steering map."""
    found = re.findall(r"(●?)`([^`]*)`", page)
    return [(bool(mark), text.replace("·", " ").replace("⏎", "\n")) for mark, text in found]


def test_the_map_marks_the_text_from_after_the_take_call_to_the_end_of_the_clear_call(log: EvalLog):
    """Read as text, the marked tokens are those between the two calls' end-of-turn tokens, the clear call's included."""
    for sample in log.samples:
        tokens = tokens_of(map_of(sample, "cached"))
        text = "".join(part for _, part in tokens)
        take = text.index('{"name": "take_vector", "arguments": {"name": "d1"')
        start = text.index("<|im_end|>", take) + len("<|im_end|>")
        stop = text.index("<|im_end|>", text.index('{"name": "clear_effects", "arguments"')) + len("<|im_end|>")
        steered = [i for i, (mark, _) in enumerate(tokens) if mark]
        assert steered == list(range(steered[0], steered[-1] + 1))
        assert "".join(tokens[i][1] for i in steered) == text[start:stop]
        assert "{ }" in text[start:stop]


def test_the_uncached_map_shows_the_same_prompt_with_nothing_marked(log: EvalLog):
    """It is the same text token by token, and says that nothing is steered."""
    for sample in log.samples:
        cached, uncached = map_of(sample, "cached"), map_of(sample, "uncached")
        assert [text for _, text in tokens_of(cached)] == [text for _, text in tokens_of(uncached)]
        assert not any(mark for mark, _ in tokens_of(uncached))
        assert uncached.startswith("Nothing is steered")


def applied_vector(sample: EvalSample, tiny: Tiny) -> torch.Tensor:
    """Return what is added at each layer, by the definition of the sample's arm."""
    stored = load_library(tiny.library).vectors[sample.metadata["applied"]]
    if sample.metadata["arm"] == "random":
        noise = torch.randn(stored.shape, generator=torch.Generator().manual_seed(sample.metadata["random_seed"]))
        stored = noise / noise.norm(dim=-1, keepdim=True) * stored.norm(dim=-1, keepdim=True)
    return stored * (0.0 if sample.metadata["arm"] == "placebo" else DOSE * DEFAULT_DOSE)


@pytest.mark.parametrize("arm", ARMS)
def test_read_outs_are_those_of_a_plain_model_with_hooks(arm: str, log: EvalLog, tiny: Tiny):
    """A plain model, run from scratch with the arm's vector added between the two calls, gives the same letters."""
    loaded = load_model(str(tiny.model))
    sample = next(s for s in log.samples if s.metadata["arm"] == arm)
    event = model_events(sample)[0]
    prompt = "".join(text for _, text in tokens_of(map_of(sample, "cached")))
    encoding = loaded.tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True)
    start = prompt.index("<|im_end|>", prompt.index('"take_vector", "arguments"')) + len("<|im_end|>")
    stop = prompt.index("<|im_end|>", prompt.index('"clear_effects", "arguments"')) + len("<|im_end|>")
    inside = torch.tensor([start <= first and last <= stop for first, last in encoding["offset_mapping"]])
    added = dict(zip([3, 4], applied_vector(sample, tiny), strict=True))
    handles = [
        loaded.model.model.layers[layer].register_forward_hook(
            lambda _module, _inputs, output, vector=vector: output + inside[None, :, None] * vector
        )
        for layer, vector in added.items()
    ]
    with torch.no_grad():
        logits = loaded.model(torch.tensor([encoding["input_ids"]])).logits[0, -1].double()
    for handle in handles:
        handle.remove()
    found = logits.log_softmax(-1)
    texts = [text.strip() for text in loaded.tokenizer.batch_decode([[i] for i in range(len(loaded.tokenizer))])]
    plain = {x: float(found[[i for i, t in enumerate(texts) if t == x]].logsumexp(-1)) for x in "ABC"}
    assert event.output.metadata[KEY]["readout"] == pytest.approx(plain, abs=1e-3)
    unsteered = model_events(sample)[3].output.metadata[KEY]["readout"]
    moved = max(abs(unsteered[x] - plain[x]) for x in "ABC")
    assert moved < 1e-3 if arm == "placebo" else moved > 1e-2


def test_a_vector_that_the_library_lacks_is_refused_before_anything_runs(tiny: Tiny):
    """The valid names are those of the library that was given, also behind a shorthand."""
    for vectors in ("soma", "core"):
        with pytest.raises(ValueError, match=r"is unknown; choose from anxious, calm, honest, golden_gate, all, core"):
            tiny.task(vectors=vectors)


def test_options_come_from_the_library_in_the_catalogues_order(tiny: Tiny):
    """`all` is what the library holds, so no option is a vector that could not have been given."""
    dataset = tiny.task(arm="real").dataset
    assert [s.metadata["vector"] for s in dataset] == [n for n in catalogue() if n in STATES]
    assert {o for s in dataset for o in s.metadata["options"]} <= set(STATES)


def test_a_model_that_cannot_be_steered_is_refused(tiny: Tiny):
    """Another provider's model fails with a message that says which to use, and gives no score."""
    (log,) = eval(tiny.task(arm="real"), model="mockllm/model", log_dir=str(tiny.logs / "mock"), display="none")
    assert log.status == "error"
    assert "mockllm/model cannot be steered; run this with --model nnsight/MODEL" in log.error.message


# ---------------------------------------------------------------- scores of hand-made readings


def receipt(**changes) -> dict:
    clean = {"planned": 5, "steered": 5, "strength": 0.9, "projection_before": 2.0, "projection_after": 5.0}
    return {**clean, "expected_shift": 3.0, **changes}


def reading(name: str, logprobs: dict[str, float], shift: int = 0, receipts: list[dict] | None = None) -> Reading:
    found = [receipt()] if name == "cached" else []
    return Reading(
        name=name,
        shift=shift,
        logprobs=logprobs,
        receipts=found if receipts is None else receipts,
        computed_tokens=1,
        reused_tokens=0,
    )


def lettered(weights: list[float], names: list[str], shift: int, known: dict[str, float] | None = None) -> dict:
    """Return log-probabilities of a model that likes letters by `weights`, and options by `known`."""
    order = names[shift:] + names[:shift]
    total = {name: weight * (known or {}).get(name, 1) for name, weight in zip(order, weights, strict=True)}
    return {name: math.log(value / sum(total.values()) / 2) for name, value in total.items()}


NAMES = ["calm", "proud", "soma"]
LETTER_BIAS = [50.0, 5.0, 1.0]


def test_a_liking_for_a_letter_is_no_recognition():
    """Over all rotations every option has exactly its chance share, however strong the bias, so the gap is zero."""
    shares = option_shares([reading("cached", lettered(LETTER_BIAS, NAMES, s), s) for s in range(3)])
    assert shares == pytest.approx(dict.fromkeys(NAMES, 1 / 3))


def test_recognition_shows_through_a_liking_for_letters():
    """An option that gains weight gains share, on top of the bias."""
    known = {"proud": 4.0}
    shares = option_shares([reading("cached", lettered(LETTER_BIAS, NAMES, s, known), s) for s in range(3)])
    assert shares["proud"] > 1 / 3 > max(shares["calm"], shares["soma"])
    assert sum(shares.values()) == pytest.approx(1)


def test_shares_of_tiny_probabilities_do_not_vanish():
    """Letters that the model all but rules out still have shares that sum to one."""
    shares = option_shares([reading("cached", {"calm": -2000.0, "proud": -2000.0 + math.log(3)})])
    assert shares == pytest.approx({"calm": 0.25, "proud": 0.75})


def test_rotations_count_alike_whatever_mass_the_letters_had():
    """A rotation in which letters had little mass weighs as much as another."""
    strong = reading("cached", {"calm": math.log(0.9), "proud": math.log(0.1)})
    weak = reading("cached", {"calm": math.log(1e-9), "proud": math.log(9e-9)}, 1)
    assert option_shares([strong, weak]) == pytest.approx({"calm": 0.5, "proud": 0.5})


EVEN = {"calm": -1.0, "proud": -1.0}


def test_clean_receipts_have_no_faults():
    """Also with a negative strength, and with none in the placebo arm."""
    assert receipt_faults([reading("cached", EVEN), reading("uncached", EVEN)], 0.9) == []
    inverted = receipt(strength=-0.9, projection_after=-1.0, expected_shift=-3.0)
    assert receipt_faults([reading("cached", EVEN, receipts=[inverted])], -0.9) == []
    placebo = receipt(strength=0.0, projection_after=2.0, expected_shift=0.0)
    assert receipt_faults([reading("cached", EVEN, receipts=[placebo])], 0.0) == []


@pytest.mark.parametrize(
    ("receipts", "fault"),
    [
        ([], "0 windows, expected one"),
        ([receipt(), receipt()], "2 windows, expected one"),
        ([receipt(steered=4)], "5 positions planned, 4 steered"),
        ([receipt(planned=0, steered=0, projection_before=None, projection_after=None)], "0 positions planned, 0 st"),
        ([receipt(strength=0.8)], "strength 0.8, expected 0.9"),
        ([receipt(strength=0.0)], "strength 0.0, expected 0.9"),
        ([receipt(strength=math.nan)], "strength nan, expected 0.9"),
        ([receipt(projection_after=5.1)], "projection moved by 3.1000, expected 3.0000"),
        ([receipt(projection_after=2.0)], "projection moved by 0.0000, expected 3.0000"),
        ([receipt(projection_after=-1.0)], "projection moved by -3.0000, expected 3.0000"),
        ([receipt(projection_after=math.nan)], "projection moved by nan, expected 3.0000"),
    ],
)
def test_a_sabotaged_receipt_is_reported(receipts: list[dict], fault: str):
    """Whatever the engine did otherwise than planned is put into words, with the reading and the rotation."""
    (found,) = receipt_faults([reading("cached", EVEN, 3, receipts), reading("uncached", EVEN)], 0.9)
    assert found.startswith(f"cached reading, rotation 3: {fault}")


def test_a_window_in_an_uncached_reading_is_reported():
    """The uncached reading must have none."""
    assert receipt_faults([reading("uncached", EVEN, 1, [receipt()])], 0.9) == [
        "uncached reading, rotation 1: 1 windows, expected none"
    ]


def trial_state(readings: list[Reading] | None) -> TaskState:
    """Return the state that a solver leaves with `readings`, None for one that left nothing at all."""
    trial = Trial(
        vector="calm", arm="real", applied="calm", options=["calm", "proud"], dose=1.5, primer="none", framing="aids"
    )
    state = TaskState(
        model=ModelName("mockllm/model"), sample_id=1, epoch=1, input="i", messages=[], metadata=trial.model_dump()
    )
    if readings is not None:
        result = IntrospectionState(store=state.store)
        result.readings, result.strength = readings, 0.9
    return state


@pytest.mark.parametrize("readings", [None, []])
def test_a_sample_without_readings_is_unscored(readings: list[Reading] | None):
    """No read-out is no wrong answer: the score is missing, with its reason."""
    score = asyncio.run(introspection_scorer()(trial_state(readings), Target("calm")))
    assert math.isnan(score.value)
    assert score.reason == "no_response"


def test_a_score_with_a_faulty_receipt_says_so():
    """The number is kept, `clean_receipt` is 0, and the explanation names the fault."""
    readings = [reading("cached", EVEN, receipts=[receipt(steered=4)]), reading("uncached", EVEN)]
    score = asyncio.run(introspection_scorer()(trial_state(readings), Target("calm")))
    assert score.value["clean_receipt"] == 0
    assert score.value["cached"] == 0.5
    assert "5 positions planned, 4 steered" in score.explanation


# ---------------------------------------------------------------- steering map


@pytest.mark.parametrize(
    "odd", ["`", "```", "|", "a|b", "\r\n", "\n\n", "\t", "", " ", "\u200b", "\u2028", "\x1b[0m", "**x**"]
)
def test_any_token_is_one_visible_box_of_the_map(odd: str):
    """Back-ticks, pipes, line ends and invisible characters neither break a box nor vanish in it."""
    page = steering_map([["a", 0, []], [odd, 0, [0]], ["z", 1, []]], ["user"], [])
    lines = page.split("\n")
    boxes = lines[next(i for i, line in enumerate(lines) if line.startswith("**0")) + 2]
    match = re.fullmatch(r"`a` ●`([^`]+)`", boxes)
    assert match is not None
    assert match[1].isprintable()
    assert match[1].strip()
    assert "**1 · generation prompt** · positions 2–2 · 0 of 1 steered" in page


def test_the_map_counts_what_is_steered_in_each_message():
    """Every message has its positions, and how many of its tokens are steered."""
    page = steering_map([["a", 0, []], ["b", 1, [0]], ["c", 1, []], ["d", 2, [0, 1]]], ["user", "tool", "user"], [])
    assert re.findall(r"positions (\d+)–(\d+) · (\d+) of (\d+) steered", page) == [
        ("0", "0", "0", "1"),
        ("1", "2", "1", "2"),
        ("3", "3", "1", "1"),
    ]


# ---------------------------------------------------------------- table


def table(log: str | None, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.argv", ["introspection_table", *([log] if log else [])])
    return introspection_table.main()


def test_the_table_has_a_row_an_arm_with_the_logs_own_means(log: EvalLog):
    """Means over an arm's samples, and how many there were."""
    rows = {row["arm"]: row for row in arm_rows(log)}
    assert sorted(rows) == sorted(ARMS)
    for arm, row in rows.items():
        of_arm = [v for name, v in values(log).items() if name.endswith(f"-{arm}")]
        average = {key: sum(v[key] for v in of_arm) / len(of_arm) for key in of_arm[0]}
        assert row["n"] == str(len(of_arm))
        assert [float(row[key]) for key in ("cached", "uncached", "gap")] == pytest.approx(
            [average[key] for key in ("cached", "uncached", "gap")], abs=5.1e-5
        )
        assert float(row["letter mass"]) == pytest.approx(average["letter_mass"], abs=5.1e-4)
        assert row["clean receipts"] == "100%"
        low, high = (float(part) for part in row["95 % interval"].strip("[]").split(","))
        assert low <= float(row["gap"]) <= high
    assert rows["placebo"]["gap"] == "+0.0000"
    assert rows["placebo"]["95 % interval"] == "[+0.0000, +0.0000]"


def test_the_command_prints_the_table_of_a_log(log: EvalLog, monkeypatch, capsys: pytest.CaptureFixture):
    """A line an arm, the chance level, and how to read the transcripts of that very folder."""
    assert table(log.location, monkeypatch) == 0
    printed = capsys.readouterr().out
    assert re.findall(r"^(real|placebo|random|other) +4 ", printed, re.MULTILINE) == list(ARMS)
    assert "among 3 (chance 0.33)" in printed
    assert f"--log-dir {Path(log.location).parent}" in printed


def test_the_command_takes_the_newest_log_by_default(log: EvalLog, tmp_path, monkeypatch, capsys):
    """Without a log's name, it is the newest in `logs/`; without any, the message says how to make one."""
    monkeypatch.chdir(tmp_path)
    assert table(None, monkeypatch) == 1
    assert "no log in logs/; run `inspect eval" in capsys.readouterr().err
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / Path(log.location).name).write_bytes(Path(log.location).read_bytes())
    assert table(None, monkeypatch) == 0
    assert "--log-dir logs\n" in capsys.readouterr().out


@pytest.mark.parametrize("status", ["started", "cancelled", "error"])
def test_an_unfinished_log_is_refused(status: str, log: EvalLog, tmp_path: Path, monkeypatch, capsys):
    """Half a result is none: the message says how to finish it."""
    path = str(tmp_path / "log.eval")
    write_eval_log(log.model_copy(update={"status": status}), path)
    assert table(path, monkeypatch) == 1
    said = capsys.readouterr()
    assert f"is not finished (status {status}); finish it with `inspect eval-retry`" in said.err
    assert said.out == ""


@scorer(metrics=[mean()])
def always_right():
    """Score every sample 1."""

    async def score(state: TaskState, target: Target) -> Score:
        return Score(value=1)

    return score


@solver
def leave_readings(without: str):
    """Leave even readings in every sample but `without`, asking no model."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        if state.metadata["vector"] != without:
            result = IntrospectionState(store=state.store)
            even = dict.fromkeys(state.metadata["options"], -1.0)
            result.readings, result.strength = [reading("cached", even), reading("uncached", even)], 0.9
        return state

    return solve


def run_offline(task: Task, folder: Path) -> EvalLog:
    (log,) = eval(task, model="mockllm/model", log_dir=str(folder), display="none")
    assert log.status == "success", log.error
    return log


def test_another_experiments_log_is_refused(tmp_path: Path, monkeypatch, capsys):
    """A finished log of any other task is told from an introspection log."""
    dataset = MemoryDataset([Sample(input="i", metadata={"arm": "real", "vector": "calm"})])
    foreign = run_offline(Task(dataset=dataset, solver=[], scorer=always_right()), tmp_path)
    assert table(foreign.location, monkeypatch) == 1
    assert "is not an introspection log (task " in capsys.readouterr().err


@pytest.mark.parametrize("name", ["absent.eval", "torn.eval"])
def test_a_file_that_is_no_log_is_refused(name: str, tmp_path: Path, monkeypatch, capsys):
    """A file that is missing or torn ends in one line."""
    (tmp_path / "torn.eval").write_bytes(b"PK\x03\x04 torn")
    assert table(str(tmp_path / name), monkeypatch) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("introspection table: ")


def test_unscored_samples_count_in_no_mean_and_no_n(tmp_path: Path):
    """An arm's row counts the samples that were scored; an arm without any is an error and not an empty row."""
    task = introspection(vectors="calm,proud,honest", arm="real", options=2, rotations=1)
    task.solver = leave_readings(without="proud")
    (row,) = arm_rows(run_offline(task, tmp_path))
    assert (row["n"], row["cached"], row["gap"]) == ("2", "0.5000", "+0.0000")
    task = introspection(vectors="proud", arm="real", options=2, rotations=1)
    task.solver = leave_readings(without="proud")
    with pytest.raises(ValueError, match=r"no score|not an introspection log"):
        arm_rows(run_offline(task, tmp_path))
