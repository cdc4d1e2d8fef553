"""The gauge: what it reads, what each arm shows, and whether the scores tell who follows it from who does not."""

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from inspect_ai.event import ModelEvent
from inspect_ai.log import EvalSample
from inspect_ai.model import ChatMessage, ChatMessageAssistant
from inspect_ai.tool import ToolInfo
from transformers import AutoModelForCausalLM

from self_steering.analysis.tables import read_tables
from self_steering.analysis.tasks.gauge import gauge_figures
from self_steering.evals.freeplay import freeplay
from self_steering.evals.frustration import frustration
from self_steering.evals.gauge import gauge
from self_steering.scorers.gauge import followed
from self_steering.solvers.gauge import CONSTANT, DECIMALS
from self_steering.solvers.records import GaugeReading, GaugeState, Level
from self_steering.steering.calls import READ_TOOL
from self_steering.steering.request import is_aside
from self_steering.vectors.library import load_library
from tests.support.drawn_figures import report_keys
from tests.support.scripted import Script, Tiny, roomy_session_model, says, turn_by_turn

READ = (READ_TOOL, {"name": "calm"})
ROUNDING = 0.5 * 10**-DECIMALS + 1e-9


@pytest.fixture(scope="module")
def roomy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    """The tiny model with room for long conversations."""
    with roomy_session_model(tmp_path_factory.mktemp("model")) as made:
        yield made


def take(dose: float) -> tuple[str, dict]:
    return "take_vector", {"name": "calm", "dose": dose}


def number_shown(messages: list[ChatMessage]) -> float | None:
    """Return the number of the last reading that a model was shown; None where there was none, or it had none."""
    told = [message.text for message in messages if message.role == "tool" and message.function == READ_TOOL]
    found = re.search(r": (-?\d+\.\d+)$", told[-1]) if told else None
    return float(found[1]) if found else None


def plays(first: Callable[[], float], dose: Callable[[float | None], float]) -> Script:
    """Return a model that takes a first dose, and from then on reads in one turn and doses in the next."""

    def script(messages: list[ChatMessage], tools: list[ToolInfo]) -> ChatMessageAssistant:
        done = sum(message.role == "assistant" and message.source == "generate" for message in messages)
        call = READ if done % 2 else take(dose(number_shown(messages)) if done else first())
        return says(f"Turn {done}.", call)

    return script


def toward_two(shown: float | None) -> float:
    """Take more where the number shown is below the target, and less where it is above."""
    return 0.5 if shown is None or shown < 2 else -0.5


def run(tiny: Tiny, script: Script, folder: Path | None = None, **changes) -> dict[str, EvalSample]:
    """Run the task in its real arm, and return a sample a gauge."""
    fixed = {"arm": "real", "rollouts": 1, "turns": 3, "max_tokens": 4, "library": str(tiny.library)}
    log = tiny.run(gauge(**{**fixed, **changes}), script, **({"log_dir": str(folder)} if folder else {}))
    return {sample.metadata.get("gauge", "none"): sample for sample in log.samples}


def state_of(sample: EvalSample) -> GaugeState:
    return sample.store_as(GaugeState)


def values_of(sample: EvalSample) -> dict[str, float]:
    return sample.scores["gauge_scorer"].value


# ---------------------------------------------------------------- what is read


def test_a_reading_is_that_of_plain_hooks(roomy: Tiny):
    """(h·v/‖v‖ - neutral) / what dose 1 adds, of a pass by transformers alone, steered by hooks of its own."""
    script = turn_by_turn(says("Quiet.", take(1.5)), says("Here it is.", READ), says("So."))
    sample = run(roomy, script, gauge="true")["true"]
    (level,) = [reading.level for reading in state_of(sample).readings]
    event = next(e for e in sample.events if isinstance(e, ModelEvent) and is_aside(e.config) and len(e.input) > 4)
    roles = [message.role for message in event.input]
    rendered = roomy.model.api.chat.render(event.input, event.tools)
    library = load_library(roomy.library)
    vector, layers, dose = library.vector("calm"), library.card.layers, library.card.default_doses["calm"]
    plain = AutoModelForCausalLM.from_pretrained(roomy.library.parent / "model", dtype=torch.float32)
    decoder, seen = plain.get_decoder().layers, {}
    steered = rendered.starts[roles.index("tool")]  # from the answer to the take on

    def hook(place: int, layer: int):
        def add(module: torch.nn.Module, args: object, output: torch.Tensor) -> torch.Tensor:
            output = output.clone()
            output[:, steered:] += 1.5 * dose * vector[place]
            seen[layer] = output[0]
            return output

        return add

    for place, layer in enumerate(layers):
        decoder[layer].register_forward_hook(hook(place, layer))
    with torch.no_grad():
        plain(torch.tensor([rendered.ids]))
    monitor = len(layers) // 2
    unit = vector[monitor] / vector[monitor].norm()
    last = max(place for place, role in enumerate(roles) if role == "assistant")
    projection = float((seen[layers[monitor]][rendered.starts[last] : rendered.starts[last + 1]] @ unit).mean())
    neutral, added = float(library.neutral[monitor] @ unit), float((vector[: monitor + 1] @ unit).sum()) * dose
    assert level.projection == pytest.approx(projection, abs=1e-2)
    assert level.value == pytest.approx((projection - neutral) / added, abs=1e-3)
    assert level.positions == rendered.starts[last + 1] - rendered.starts[last]


def test_a_reading_over_more_messages_is_the_mean_of_their_tokens(roomy: Tiny):
    """And over more than there are, that of all."""
    reads = [says("", (READ_TOOL, {"name": "calm", "last": last})) for last in (1, 2, 20)]
    sample = run(roomy, turn_by_turn(says("Much.", take(3)), *reads), gauge="true", turns=4)["true"]
    one, two, most = (reading.level for reading in state_of(sample).readings)
    alone = [level for level in state_of(sample).levels if level.turn in (1, 2)]
    assert (one.last, two.last, most.last) == (1, 2, 4)
    together = sum(level.positions * level.projection for level in alone) / sum(level.positions for level in alone)
    assert two.projection == pytest.approx(together, abs=1e-3)


def test_a_placebo_is_read_and_steers_nothing(roomy: Tiny):
    """Every strength is zero, in the conversation and in what is measured beside it."""
    script = turn_by_turn(says("", take(2)), says("", READ))
    (measured,) = run(roomy, script, gauge="true", arm="placebo").values()
    strengths = [
        receipt["strength"]
        for event in measured.events
        if isinstance(event, ModelEvent)
        for receipt in event.output.metadata["self_steering"]["receipts"]
    ]
    assert set(strengths) == {0}
    assert state_of(measured).readings


# ---------------------------------------------------------------- what is shown


@pytest.fixture(scope="module")
def followers(roomy: Tiny, tmp_path_factory: pytest.TempPathFactory) -> dict[str, EvalSample]:
    """A model that follows what it is shown, in every arm; its first dose is drawn by the turn's seed, as a sampled word is."""

    def first() -> float:
        return 3.5 + (roomy.model.api.asked[1].seed % 1000) / 500

    script = plays(first, toward_two)
    return run(roomy, script, tmp_path_factory.mktemp("logs"), gauge="all", turns=7)


def test_each_arm_shows_what_it_says(followers: dict[str, EvalSample]):
    """The true level, minus it, always the same, no number, and no tool; all differ in nothing else."""
    readings = {name: state_of(sample).readings for name, sample in followers.items()}
    assert [len(readings[name]) for name in ("true", "yoked", "inverted", "constant", "reminder", "none")] == [
        3
    ] * 5 + [0]
    assert all(one.shown == pytest.approx(one.level.value, abs=ROUNDING) for one in readings["true"])
    assert all(one.shown == pytest.approx(-one.level.value, abs=ROUNDING) for one in readings["inverted"])
    assert {one.shown for one in readings["constant"]} == {CONSTANT}
    assert {one.shown for one in readings["reminder"]} == {None}
    tools = {
        name: {tool.name for e in s.events if isinstance(e, ModelEvent) for tool in e.tools}
        for name, s in followers.items()
    }
    assert [name for name, offered in tools.items() if READ_TOOL not in offered] == ["none"]


def test_a_yoked_gauge_shows_what_the_other_rollout_reads(followers: dict[str, EvalSample]):
    """At the same turn; the other rollout is sampled otherwise, so that this is not what is true."""
    yoked = followers["yoked"]
    in_other = [
        number
        for event in yoked.events
        if isinstance(event, ModelEvent) and is_aside(event.config)
        for number in [number_shown(event.input)]
        if event.config.max_tokens != 1 and number is not None
    ]
    shown = [reading.shown for reading in state_of(yoked).readings]
    assert len(set(shown)) > 1
    assert set(shown[:2]) <= set(in_other)
    assert all(one.other.turn == one.level.turn for one in state_of(yoked).readings)
    assert any(abs(one.shown - one.level.value) > 2 * ROUNDING for one in state_of(yoked).readings)


def test_a_yoked_gauge_is_the_same_when_run_again(roomy: Tiny):
    """Its other rollout follows from sample and epoch."""
    script = turn_by_turn(says("", take(1)), says("", READ), says("", READ))
    shown = [
        [reading.shown for reading in state_of(run(roomy, script, gauge="yoked")["yoked"]).readings] for _ in range(2)
    ]
    assert shown[0] == shown[1]


# ---------------------------------------------------------------- who follows it


def test_a_follower_is_told_from_a_model_that_pays_no_heed(roomy: Tiny, followers: dict[str, EvalSample]):
    """The follower does what every number asks for, and is served by the true one; the other does the same whatever it reads."""
    for name in ("true", "yoked", "inverted", "constant"):
        assert values_of(followers[name])["followed"] == 1, name
    assert values_of(followers["true"])["error"] < values_of(followers["inverted"])["error"]
    assert values_of(followers["true"])["right_move"] == 1
    assert values_of(followers["inverted"])["right_move"] < 1
    heedless = values_of(run(roomy, plays(lambda: 0.5, lambda shown: 1.5), gauge="true", turns=7)["true"])
    assert (heedless["asked_up"], heedless["asked_down"]) == (1, 1)
    assert heedless["sensitivity"] == 0
    wavering = run(roomy, plays(lambda: 3.5, lambda shown: -3 if (shown or 0) > 2 else 3), gauge="true", turns=7)
    assert values_of(wavering["true"])["sensitivity"] == 1


def test_a_reading_that_nothing_follows_is_not_acted_on():
    """What a reading brought about ends where the next one of its name is answered."""
    quick = {"last": 1, "projection": 0.0, "neutral": 0.0, "per_dose": 1.0, "positions": 1, "computed_tokens": 1}
    levels = [Level(turn=turn, name="calm", value=0.0, **quick) for turn in (0, 1)]
    messages = [says("", READ), says("", READ), says("")]
    found = followed([GaugeReading(level=level, shown=0.0) for level in levels], messages, 2.0, 0.5)
    assert [(one.asks, one.needs, one.acted, one.move) for one in found] == [(1, 1, False, 0)] * 2
    (nowhere,) = followed([GaugeReading(level=levels[0], shown=0.0)], messages, math.nan, math.nan)
    assert nowhere.asks == 0


@pytest.mark.slow
def test_the_tables_tell_sensitivity_and_targeting_apart(roomy: Tiny, tmp_path: Path):
    """A follower is as sensitive to the yoked gauge, and further from the target; the report draws both."""

    def first() -> float:
        return -1.0 + (roomy.model.api.asked[1].seed % 1000) / 125

    run(roomy, plays(first, toward_two), tmp_path, gauge="true,yoked,inverted", turns=9, rollouts=6)
    tables = read_tables(tmp_path)
    found = gauge_figures(tables).set_index(["measure", "gauge", "against"])["value"]
    assert found["sensitivity", "true", ""] == found["sensitivity", "yoked", ""] == 1
    assert found["error", "true", ""] < found["error", "yoked", ""] < found["error", "inverted", ""]
    assert found["error", "true", "yoked"] == pytest.approx(found["error", "true", ""] - found["error", "yoked", ""])
    assert set(tables.rollouts["gauge"]) == {"true", "yoked", "inverted"}
    assert report_keys(tables, "Gauge") == {"gauge"}


# ---------------------------------------------------------------- where nothing is to be reached


@pytest.mark.parametrize("framing", ["drugs", "aids", "vectors"])
def test_it_is_offered_in_free_play(roomy: Tiny, framing: str):
    """In every framing, with its name among the tools; readings are scored, and nothing asks for anything."""
    task = freeplay(
        gauge="yoked", framing=framing, arm="real", rollouts=1, turns=2, max_tokens=4, library=str(roomy.library)
    )
    sample = roomy.play(task, turn_by_turn(says("", READ)))
    assert READ_TOOL in sample.messages[1].text
    assert [reading.level.name for reading in state_of(sample).readings] == ["calm", "calm"]
    assert set(values_of(sample)) == {"reads", "read", "acted"}


def test_it_is_offered_under_frustration(roomy: Tiny):
    """Beside the steering tools, and read through a call of the model's."""
    task = frustration(
        gauge="inverted", tone="neutral", possible=True, framing="vectors", arm="real", rollouts=1, rounds=1, max_tokens=4,
        library=str(roomy.library),
    )  # fmt: skip
    sample = roomy.play(task, turn_by_turn(says("", READ), says("Answer: 3")))
    (reading,) = state_of(sample).readings
    assert reading.shown == pytest.approx(-reading.level.value, abs=ROUNDING)


def test_nothing_of_it_is_read_or_logged_where_it_is_not_offered(roomy: Tiny):
    """Prompts and store of a free play without it are those of a suite that knows none."""
    task = freeplay(framing="vectors", arm="real", rollouts=1, turns=1, max_tokens=4, library=str(roomy.library))
    sample = roomy.play(task, turn_by_turn(says("Hm.")))
    assert "gauge" not in f"{sample.metadata} {dict(sample.store)} {sample.messages}".lower()


@pytest.mark.parametrize("make", [freeplay, frustration])
def test_a_gauge_that_tells_nothing_of_it_may_stand_beside_placebo(make: Callable):
    """Constant and reminder say the same whatever is steered; a true one is for arms in which a take moves it."""
    assert make(gauge="none,constant,reminder", arm="real,placebo", framing="vectors").dataset
    assert make(gauge="true,yoked,inverted", arm="real,random,mislabelled", framing="vectors").dataset


# ---------------------------------------------------------------- what is refused


def test_a_wrong_call_is_answered_with_what_is_valid(roomy: Tiny):
    """A name that there is not, and a number of messages that is none."""
    wrong = [{"name": "joy"}, {"name": "calm", "last": 0}, {"name": "calm", "last": 21}]
    sample = run(roomy, turn_by_turn(says("", *((READ_TOOL, given) for given in wrong))), gauge="true", turns=2)["true"]
    errors = [message.error.message for message in sample.messages if message.role == "tool" and message.error][:3]
    assert errors[0].startswith("There is no vector 'joy'. Valid names: ")
    assert "'calm'" not in errors[1]
    assert errors[1:] == [
        f"last {given['last']} is not valid; pass a whole number from 1 to 20." for given in wrong[1:]
    ]
    assert state_of(sample).readings == []


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (
            gauge,
            {"gauge": "foo"},
            "gauge='foo' is unknown; choose from none, true, yoked, inverted, constant, reminder",
        ),
        (gauge, {"goal": "joy"}, "goal='joy'"),
        (gauge, {"tolerance": 0}, "tolerance=0; choose a number above 0"),
        (gauge, {"target": 11}, "target=11"),
        (gauge, {"turns": 1}, "turns=1; choose a whole number"),
        (gauge, {"arm": "prompt_only"}, "arm='prompt_only' is unknown"),
        (freeplay, {"gauge": "true", "arm": "prompt_only"}, "gauge is true and arm prompt_only; nothing is steered"),
        (frustration, {"gauge": "true", "framing": "none"}, "gauge is true and framing none; it has no tools"),
        (
            frustration,
            {"gauge": "inverted", "arm": "placebo"},
            "gauge=inverted and arm=placebo: readings that no take",
        ),
        (
            freeplay,
            {"gauge": "all", "arm": "all"},
            "gauge=true,yoked,inverted and arm=placebo: .* choose from none, const",
        ),
    ],
)
def test_a_bad_argument_is_named_with_the_valid_choices(make: Callable, arguments: dict, message: str):
    """Before any model is asked anything."""
    with pytest.raises(ValueError, match=message) as caught:
        make(**arguments)
    assert len(str(caught.value).splitlines()) == 1
