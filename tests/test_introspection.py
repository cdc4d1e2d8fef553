"""The introspection experiment on a tiny model: its script, what is steered and read in every arm, and what is scored."""

import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from inspect_ai import Task, eval  # noqa: A004  Inspect's name for it
from inspect_ai.event import InfoEvent, ModelEvent
from inspect_ai.log import EvalLog, EvalSample, read_eval_log
from inspect_ai.model import get_model

from self_steering.evals.introspection import ARMS, introspection, make_trials
from self_steering.solvers.introspection import Trial, question
from self_steering.solvers.introspection import scripted_conversation as script_of
from self_steering.solvers.prompts.introspection import NONE_OPTION, PRIMERS, WORDINGS
from self_steering.solvers.records import CORE_VECTORS
from self_steering.steering.calls import FRAMINGS
from self_steering.steering.models import LoadedModel, load_model
from self_steering.steering.plan import Direction, Treatment, plan_windows
from self_steering.vectors.catalogue import catalogue
from self_steering.vectors.library import load_library
from tests.support.small_library import STATES, save_library
from tests.support.templates import save_family_model

DOSE = 1.5
DEFAULT_DOSE = 2.0
DIRECTIONS = 3
VECTORS = ("calm", "honest")
KEY = "self_steering"
# The strength of each arm, in multiples of what is applied.
STRENGTHS = {**dict.fromkeys(ARMS, DOSE * DEFAULT_DOSE), "placebo": 0.0, "prompt_only": 0.0} | {
    "opposite": -DOSE * DEFAULT_DOSE
}


# ---------------------------------------------------------------- script


def trial_of(vector: str = "calm", arm: str = "real", **changes) -> Trial:
    """Return a trial with three options."""
    arguments = {"options": 3, "dose": 1.0, "framing": "vectors", "primer": "none", "seed": 0, "n_per_vector": 1}
    made = make_trials(vectors=[vector], arms=[arm], names=list(catalogue()), **{**arguments, **changes})
    return made[0][0]


def written(trial: Trial, **how) -> str:
    return "\n".join(m.model_dump_json(exclude={"id"}) for m in script_of(trial, **how))


def test_the_question_letters_every_option_with_its_effect():
    """One line an option, in the order given; the option that nothing was given has a line too."""
    lines = question(["soma", NONE_OPTION, "calm"]).text.splitlines()[-3:]
    assert lines[0] == f"A. soma: {catalogue()['soma'].effect}"
    assert lines[1].startswith("B. none: nothing was active")
    assert lines[2] == f"C. calm: {catalogue()['calm'].effect}"


@pytest.mark.parametrize("framing", FRAMINGS)
def test_the_window_runs_from_after_the_take_message_to_the_end_of_the_clear_message(framing: str):
    """In every framing just the tool's answer, the placeholder turn and the clear message are steered."""
    trial = trial_of(framing=framing, dose=2.0)
    messages = [*script_of(trial), question(trial.options)]
    calls = {c.function: i for i, m in enumerate(messages) if m.role == "assistant" for c in m.tool_calls or []}
    taken, cleared = calls[FRAMINGS[framing].take_tool], calls["clear_effects"]
    (window,) = plan_windows(messages, {"d1": Treatment(direction=Direction(vector="calm"), unit_strength=0.5)}).windows
    assert (window.start, window.stop, window.strength) == (taken + 1, cleared + 1, 1.0)
    assert [m.role for m in messages[window.start : window.stop]] == ["tool", "user", "assistant", "user", "assistant"]


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("primer", PRIMERS)
def test_nothing_before_the_question_tells_the_vector(framing: str, primer: str):
    """In each wording the script is word for word the same whichever vector is given, in the words of its own framing only."""
    scripts: dict[int, set[str]] = {}
    for vector in CORE_VECTORS:
        for arm in set(ARMS) - {"mislabelled", "prompt_only"}:
            trial = trial_of(vector, arm, framing=framing, primer=primer)
            scripts.setdefault(trial.wording, set()).add(written(trial))
    assert [len(found) for found in scripts.values()] == [1] * len(scripts)
    foreign = [w for name, f in FRAMINGS.items() if name != framing for w in (f.noun, f.plural)]
    for (script,) in scripts.values():
        assert (PRIMERS[primer] or "") in script
        assert re.findall(rf"\b(?:{'|'.join(foreign)}|sober|placebo)\b", script) == []


def test_wordings_say_the_same_in_other_words():
    """Each user message differs between wordings, while the calls, the tools' answers and the placeholder turn do not."""
    scripts = [script_of(trial_of().model_copy(update={"wording": number})) for number in range(len(WORDINGS))]
    for place, messages in enumerate(zip(*scripts, strict=True)):
        same = 1 if messages[0].role != "user" else len(WORDINGS)
        assert len({m.text for m in messages}) == same, place
        assert len({repr(getattr(m, "tool_calls", None)) for m in messages}) == 1
    assert len({question(["soma", "calm"], number).text for number in range(len(WORDINGS))}) == len(WORDINGS)


def test_the_prompt_only_arm_differs_by_the_effect_in_the_tools_answer_alone():
    """The tool tells the true vector's effect; untold, the script is that of the real arm."""
    real, told = trial_of(), trial_of(arm="prompt_only")
    differing = [m for m, n in zip(script_of(told), script_of(real), strict=True) if m.text != n.text]
    assert [m.role for m in differing] == ["tool"]
    assert catalogue()["calm"].effect in differing[0].text
    assert written(told, told=False) == written(real)


def test_the_mislabelled_arm_says_the_wrong_name_wherever_the_label_stands():
    """Call, announcement, answer and question use it, and nothing says that the model is not told which it is."""
    trial = trial_of(arm="mislabelled")
    text = written(trial)
    assert trial.label != "d1"
    assert "d1" not in text
    assert "not told which" not in text
    assert "not told which" in written(trial_of())
    (call,) = [
        c for m in script_of(trial) if m.role == "assistant" for c in m.tool_calls or [] if "name" in c.arguments
    ]
    assert call.arguments["name"] == trial.label
    asked = question(trial.options, trial.wording, trial.label).text
    assert trial.label in asked.split("\n\n")[0]


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
        arguments = {
            "vectors": ",".join(VECTORS),
            "options": 3,
            "rotations": 3,
            "dose": DOSE,
            "random_directions": DIRECTIONS,
        }
        return introspection(**{**arguments, "library": str(self.library), **changes})

    def run(self, *tasks: Task, max_samples: int = 8) -> list[EvalLog]:
        """Run tasks on a freshly loaded model, so that nothing is cached yet."""
        model = get_model(f"nnsight/{self.model}", memoize=False)
        quiet = {"display": "none", "log_realtime": False, "score_display": False}
        try:
            logs = eval(list(tasks), model=model, log_dir=str(self.logs), max_samples=max_samples, **quiet)
        finally:
            model.api.close()
        assert [log.status for log in logs] == ["success"] * len(tasks), [log.error for log in logs]
        return [read_eval_log(log.location, resolve_attachments="full") for log in logs]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A tiny Qwen3 whose template knows tools, and a library of four vectors, strong enough to move its letters."""
    folder = tmp_path_factory.mktemp("introspection")
    model = save_family_model(folder / "model", "qwen")
    fingerprint = load_model(str(model)).fingerprint
    save_library(folder / "library", fingerprint, names=STATES, layers=(3, 4), size=3, default_dose=DEFAULT_DOSE)
    return Tiny(model, folder / "library", folder / "logs")


@pytest.fixture(scope="session")
def log(tiny: Tiny) -> EvalLog:
    """All arms over two vectors, eight samples at a time."""
    return tiny.run(tiny.task(arm="all"))[0]


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
    assert len(log.samples) == len(VECTORS) * len(ARMS)
    for sample in log.samples:
        events = model_events(sample)
        assert [is_cached(event) for event in events] == [True] * 3 + [False] * 3
        asked = [event.input[-1].text for event in events]
        assert asked[:3] == asked[3:]
        orders = [list(readout(event)) for event in events[:3]]
        assert all({order[place] for order in orders} == set(sample.metadata["options"]) for place in range(3))


def test_scores_can_be_computed_again_from_the_events(log: EvalLog):
    """Shares, gaps, hits, letter mass and cost follow from the read-outs that the log holds."""
    for sample in log.samples:
        options, true = sample.metadata["options"], sample.metadata["vector"]
        share, mass, parts, events = {}, {}, {}, model_events(sample)
        for cached in (True, False):
            found = [readout(event) for event in events if is_cached(event) == cached]
            parts[cached] = [{o: math.exp(r[o]) / sum(map(math.exp, r.values())) for o in options} for r in found]
            share[cached] = {o: sum(part[o] for part in parts[cached]) / 3 for o in options}
            mass[cached] = sum(math.exp(p) for r in found for p in r.values()) / 3
            assert sum(share[cached].values()) == pytest.approx(1)
        distances: dict[str, list[float]] = {"gap_near": [], "gap_far": []}
        for option in set(options) - {true}:
            near = catalogue()[option].category == catalogue()[true].category
            for with_it, without in zip(parts[True], parts[False], strict=True):
                won = [p[true] / (p[true] + p[option]) for p in (with_it, without)]
                distances["gap_near" if near else "gap_far"].append(won[0] - won[1])
        reports = [event.output.metadata[KEY] for event in events]
        score = sample.scores["introspection_scorer"]
        assert score.value == pytest.approx(
            {
                "cached": share[True][true],
                "uncached": share[False][true],
                "gap": share[True][true] - share[False][true],
                **{name: sum(v) / len(v) if v else math.nan for name, v in distances.items()},
                "none_gap": math.nan,
                "top1_cached": float(share[True][true] == max(share[True].values())),
                "top1_uncached": float(share[False][true] == max(share[False].values())),
                "letter_mass": mass[True],
                "clean_receipt": 1,
                "computed_tokens": sum(r["computed_tokens"] for r in reports),
                "prompt_tokens": sum(r["computed_tokens"] + r["reused_tokens"] for r in reports),
            },
            abs=1e-9,
            nan_ok=True,
        )
        assert score.metadata["shares"]["cached"] == pytest.approx(share[True])
        assert score.metadata["letter_mass"] == pytest.approx({"cached": mass[True], "uncached": mass[False]})
        assert [gap["gap"] for gap in score.metadata["gaps"]] == pytest.approx(
            [p[true] - q[true] for p, q in zip(parts[True], parts[False], strict=True)]
        )


def test_each_random_direction_is_read_in_a_rotation_of_its_own(log: EvalLog):
    """The log tells which direction each gap is of, and no two of a sample were the same direction."""
    for sample in log.samples:
        gaps = sample.scores["introspection_scorer"].metadata["gaps"]
        directions = [window["direction"] for event in model_events(sample)[:3] for window in windows_of(event)]
        if sample.metadata["arm"] == "random":
            assert [gap["direction"] for gap in gaps] == [0, 1, 2] == [d["random_index"] for d in directions]
            assert [gap["shift"] for gap in gaps] == [0, 1, 2]
            assert {d["random_seed"] for d in directions} == {0}
        else:
            assert [gap["direction"] for gap in gaps] == [None] * 3
            assert {d.get("random_seed") for d in directions} == {None}


def windows_of(event: ModelEvent) -> list[dict]:
    return event.config.extra_body[KEY]["plan"].get("windows", [])


def test_only_a_placebo_reads_the_same_with_and_without_its_window(log: EvalLog):
    """Strength zero leaves every read-out the same to the bit, while every other arm changes them all."""
    arms = Counter()
    for sample in log.samples:
        events = model_events(sample)
        for cached, uncached in zip(events[:3], events[3:], strict=True):
            same = readout(cached) == readout(uncached)
            assert same == (sample.metadata["arm"] == "placebo")
            arms[sample.metadata["arm"]] += 1
    assert arms == dict.fromkeys(ARMS, 3 * len(VECTORS))


def test_the_prompt_only_arm_tells_the_effect_in_its_cached_reading_alone(log: EvalLog):
    """What differs between its readings is the tool's answer and no strength."""
    for sample in log.samples:
        if sample.metadata["arm"] != "prompt_only":
            continue
        effect = catalogue()[sample.metadata["vector"]].effect
        for event in model_events(sample):
            (answer,) = [m.text for m in event.input if m.role == "tool" and m.function == "take_vector"]
            assert (effect in answer) == is_cached(event)
            assert {w["strength"] for w in windows_of(event)} <= {0.0}


def test_arms_read_the_same_where_nothing_is_steered(log: EvalLog):
    """The uncached readings of one question are the same to the bit in all arms, but for the one with another label."""
    by_vector: dict[str, set[str]] = {}
    for sample in log.samples:
        readings = [readout(event) for event in model_events(sample) if not is_cached(event)]
        if sample.metadata["arm"] != "mislabelled":
            by_vector.setdefault(sample.metadata["vector"], set()).add(repr(readings))
    assert {vector: len(found) for vector, found in by_vector.items()} == dict.fromkeys(VECTORS, 1)


def test_running_again_in_another_batch_size_gives_the_same_scores(log: EvalLog, tiny: Tiny):
    """One arm alone on a fresh model, one sample at a time instead of eight, give scores identical to the bit, but for the cost."""

    def scores(found: EvalLog) -> dict[str, str]:
        cost = ("computed_tokens", "prompt_tokens")
        return {
            name: repr({key: figure for key, figure in value.items() if key not in cost})
            for name, value in values(found).items()
            if name.endswith("-random")
        }

    assert scores(*tiny.run(tiny.task(arm="random"), max_samples=1)) == scores(log)


def test_receipts_are_clean(log: EvalLog):
    """Every cached reading has one window of the planned strength, steered in full, and every uncached one none."""
    for sample in log.samples:
        assert sample.scores["introspection_scorer"].metadata["receipt_faults"] == []
        for event in model_events(sample):
            receipts = event.output.metadata[KEY]["receipts"]
            assert len(receipts) == is_cached(event)
            for receipt in receipts:
                assert receipt["planned"] == receipt["steered"] > 0
                assert receipt["strength"] == STRENGTHS[sample.metadata["arm"]]
                assert receipt["label"] == sample.metadata["label"]


def map_of(sample: EvalSample, name: str) -> str:
    (page,) = (
        e.data for e in sample.events if isinstance(e, InfoEvent) and e.source == f"steering map, {name} reading"
    )
    return page


def tokens_of(page: str) -> list[tuple[bool, str]]:
    """Return (steered, text) of every token of a steering map."""
    found = re.findall(r"(●?)`([^`]*)`", page)
    return [(bool(mark), text.replace("·", " ").replace("⏎", "\n")) for mark, text in found]


def window_in(text: str) -> tuple[int, int]:
    """Return where the text between the two calls' end-of-turn tokens starts and ends, the clear call's included."""
    end = "<|im_end|>"
    start = text.index(end, text.index('"take_vector", "arguments": {"name": ')) + len(end)
    return start, text.index(end, text.index('"clear_effects", "arguments"')) + len(end)


def test_the_map_marks_the_text_from_after_the_take_call_to_the_end_of_the_clear_call(log: EvalLog):
    """Read as text, the marked tokens are just those of the window."""
    for sample in log.samples:
        tokens = tokens_of(map_of(sample, "cached"))
        text = "".join(part for _, part in tokens)
        start, stop = window_in(text)
        steered = [i for i, (mark, _) in enumerate(tokens) if mark]
        assert steered == list(range(steered[0], steered[-1] + 1))
        assert "".join(tokens[i][1] for i in steered) == text[start:stop]
        assert "{ }" in text[start:stop]


SITES = {"both": "tool user assistant user assistant", "user": "tool user user", "assistant": "assistant assistant"}


@pytest.fixture(scope="session")
def at_sites(tiny: Tiny) -> dict[str, EvalSample]:
    """The real arm of one vector, steered at each site, and offered that nothing was given."""
    run = {"vectors": "calm", "arm": "real", "rotations": 1, "no_vector_option": True}
    logs = tiny.run(*(tiny.task(**run, site=site) for site in SITES))
    return {log.eval.task_args["site"]: log.samples[0] for log in logs}


@pytest.mark.parametrize("site", SITES)
def test_a_site_steers_the_messages_of_its_side_within_the_window(site: str, at_sites: dict[str, EvalSample]):
    """The map shows those messages steered, in full, and no other; the receipts are clean."""
    sample = at_sites[site]
    heads = re.findall(r"\*\*\d+ · (.+?)\*\* · positions \d+–\d+ · (\d+) of (\d+) steered", map_of(sample, "cached"))
    assert " ".join(role for role, steered, _ in heads if int(steered)) == SITES[site]
    assert all(steered == size for _, steered, size in heads if int(steered))
    assert sample.scores["introspection_scorer"].value["clean_receipt"] == 1


def test_what_is_steered_at_both_sites_is_what_is_steered_at_either(at_sites: dict[str, EvalSample]):
    """The receipts' token counts of the two sides add up to those of the whole window, and the three read differently."""
    steered = {
        site: sum(receipt["steered"] for receipt in model_events(sample)[0].output.metadata[KEY]["receipts"])
        for site, sample in at_sites.items()
    }
    assert steered["user"] + steered["assistant"] == steered["both"]
    assert min(steered.values()) > 0
    assert len({repr(readout(model_events(sample)[0])) for sample in at_sites.values()}) == 3


def test_the_option_that_nothing_was_given_has_a_gap_of_its_own(at_sites: dict[str, EvalSample]):
    """It is offered beside the vectors, and what it gains is scored."""
    sample = at_sites["both"]
    cached, uncached = (readout(event) for event in model_events(sample))
    assert len(cached) == 4
    share = [math.exp(r[NONE_OPTION]) / sum(map(math.exp, r.values())) for r in (cached, uncached)]
    assert sample.scores["introspection_scorer"].value["none_gap"] == pytest.approx(share[0] - share[1])


def applied_vector(sample: EvalSample, tiny: Tiny) -> torch.Tensor:
    """Return what is added at each layer in the first reading, by the definition of the sample's arm."""
    stored = load_library(tiny.library).vectors[sample.metadata["applied"]]
    if sample.metadata["arm"] == "random":
        noise = torch.randn(stored.shape, generator=torch.Generator().manual_seed(sample.metadata["random_seed"]))
        unit = stored / stored.norm(dim=-1, keepdim=True)
        noise -= (noise * unit).sum(-1, keepdim=True) * unit
        stored = noise / noise.norm(dim=-1, keepdim=True) * stored.norm(dim=-1, keepdim=True)
    return stored * STRENGTHS[sample.metadata["arm"]]


@pytest.fixture(scope="session")
def plain_model(tiny: Tiny) -> tuple[LoadedModel, dict[str, list[int]]]:
    """The model without the engine, and the tokens that read as each letter."""
    loaded = load_model(str(tiny.model))
    texts = [text.strip() for text in loaded.tokenizer.batch_decode([[i] for i in range(len(loaded.tokenizer))])]
    return loaded, {letter: [i for i, text in enumerate(texts) if text == letter] for letter in "ABC"}


@pytest.mark.parametrize("arm", ARMS)
def test_read_outs_are_those_of_a_plain_model_with_hooks(arm: str, log: EvalLog, tiny: Tiny, plain_model):
    """A plain model, run from scratch with the arm's vector added between the two calls, gives the same letters."""
    loaded, letters = plain_model
    sample = next(s for s in log.samples if s.metadata["arm"] == arm)
    prompt = "".join(text for _, text in tokens_of(map_of(sample, "cached")))
    encoding = loaded.tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True)
    start, stop = window_in(prompt)
    inside = torch.tensor([start <= first and last <= stop for first, last in encoding["offset_mapping"]])

    def plain(vectors: torch.Tensor) -> dict[str, float]:
        handles = [
            loaded.model.model.layers[layer].register_forward_hook(
                lambda _module, _inputs, output, vector=vector: output + inside[None, :, None] * vector
            )
            for layer, vector in zip([3, 4], vectors, strict=True)
        ]
        with torch.no_grad():
            logits = loaded.model(torch.tensor([encoding["input_ids"]])).logits[0, -1].double()
        for handle in handles:
            handle.remove()
        return {letter: float(logits.log_softmax(-1)[of].logsumexp(-1)) for letter, of in letters.items()}

    found = model_events(sample)[0].output.metadata[KEY]["readout"]
    applied = applied_vector(sample, tiny)
    assert found == pytest.approx(plain(applied), abs=1e-3)
    unsteered = plain(torch.zeros_like(applied))
    moved = max(abs(unsteered[x] - found[x]) for x in "ABC")
    assert moved < 1e-3 if STRENGTHS[arm] == 0 else moved > 1e-2


def test_a_vector_that_the_library_lacks_is_refused_before_anything_runs(tiny: Tiny):
    """The valid names are those of the library that was given."""
    with pytest.raises(ValueError, match=r"is unknown; choose from anxious, calm, honest, golden_gate, all, core"):
        tiny.task(vectors="soma")


def test_options_come_from_the_library_in_the_catalogues_order(tiny: Tiny):
    """`all` is what the library holds, so no option is a vector that could not have been given."""
    dataset = tiny.task(vectors="all", arm="real").dataset
    assert [s.metadata["vector"] for s in dataset] == [n for n in catalogue() if n in STATES]
    assert {o for s in dataset for o in s.metadata["options"]} <= set(STATES)
