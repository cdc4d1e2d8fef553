"""Relief: what is steered where, which texts are held still, and whose wish it is: the state's or the words'."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from inspect_ai import eval  # noqa: A004  Inspect's name for it
from inspect_ai.event import ModelEvent
from inspect_ai.log import EvalLog, EvalSample
from inspect_ai.model import ChatMessage, ChatMessageAssistant, Model, get_model
from inspect_ai.tool import ToolInfo

from self_steering.analysis.introspection.relief import relief as relief_figure
from self_steering.analysis.introspection.relief import relief_effects
from self_steering.analysis.tables import read_tables
from self_steering.evals.relief import relief
from self_steering.solvers.relief import ReliefState, ReliefTrial, relief_tools
from self_steering.vectors.card import read_card
from self_steering.vectors.catalogue import entry_of
from tests.support.planted_model import Residue, save_planted_library, save_planted_model
from tests.support.scripted import Script, own_words, roomy_session_model, says
from tests.support.scripted import Tiny as ScriptedTiny
from tests.support.stretches import DEFAULT_DOSE, KEY, Tiny, make_tiny, marked_text, pages, values_of

pytestmark = pytest.mark.slow

ARMS = ("real", "placebo", "random", "opposite", "positive")
CHANNELS = ("state", "neither", "both", "text")


def trials_of(**changes) -> list[ReliefTrial]:
    return [ReliefTrial.model_validate(sample.metadata) for sample in relief(**changes).dataset]


def test_which_tool_ends_the_state_and_when_is_balanced():
    """Over four scripts of a state each tool ends it, called first and called second, once; the arms of a script share all else."""
    trials = trials_of(vectors="anxious,desperate", n_per_vector=4, doses="0.5,1")
    designs = Counter((trial.vector, trial.relief, trial.first) for trial in trials if trial.arm == "placebo")
    assert set(designs.values()) == {1}
    assert len(designs) == 8
    scripts = Counter((trial.vector, trial.tasks, trial.relief, trial.first, trial.seed) for trial in trials)
    assert set(scripts.values()) == {2 * (len(ARMS) - 1) + 1}
    assert all(trial.dose == 0 for trial in trials if trial.arm == "placebo")


def test_opaque_labels_tell_nothing_and_false_ones_the_other():
    """Under opaque labels both tools are described alike; true and false labels are each other's."""
    said = {
        labels: [tool.description for tool in relief_tools(trials_of(vectors="anxious", arm="real", labels=labels)[0])]
        for labels in ("opaque", "true", "false")
    }
    assert len(set(said["opaque"])) == 1
    assert said["true"] == said["false"][::-1]
    assert len(set(said["true"])) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"arm": "real,sham"}, "arm='sham' is unknown; choose from real, placebo, random, opposite, positive"),
        ({"labels": "blank"}, "labels='blank' is unknown; choose from opaque, true, false"),
        ({"equal": "dose"}, "equal='dose' is unknown; choose from effect, norm"),
        ({"sham": "no"}, "sham='no'; choose true or false"),
        ({"doses": "0"}, "doses='0'; give each dose once, and none that is zero"),
        ({"n_per_vector": 0}, "n_per_vector=0; choose a whole number"),
        ({"answer": "call"}, "answer='call' is unknown; choose from read, act"),
        ({"answer": "act", "tries": 0}, "tries=0; choose a whole number from 1"),
    ],
)
def test_a_bad_argument_is_named_with_the_valid_choices(arguments: dict, message: str):
    """Before any model is asked anything."""
    with pytest.raises(ValueError, match=message):
        relief(**arguments)


# ---------------------------------------------------------------- the real task on a tiny model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A tiny model whose template knows tools, and its library."""
    return make_tiny(tmp_path_factory.mktemp("relief"))


@pytest.fixture(scope="module")
def log(tiny: Tiny) -> EvalLog:
    """One state in all arms."""
    return tiny.run(relief(vectors="goblins", max_tokens=8, library=str(tiny.library)))


def of_arm(log: EvalLog, arm: str) -> EvalSample:
    (sample,) = (sample for sample in log.samples if sample.metadata["arm"] == arm)
    return sample


def test_the_same_tokens_are_read_with_and_without_the_state(log: EvalLog):
    """State alone and neither have the scripted text, words alone and both the written one; only half are steered."""
    for sample in log.samples:
        asked: dict[tuple, list[bool]] = {}
        for event in sample.events:
            if isinstance(event, ModelEvent) and "readout" in event.output.metadata[KEY]:
                texts = tuple(message.text for message in event.input)
                steered = bool(event.config.extra_body[KEY]["plan"].get("windows"))
                asked.setdefault(texts, []).append(steered)
        assert sorted(map(sorted, asked.values())) == [[False, True]] * 4  # two texts, each in two orders of the names
        written = sample.store_as(ReliefState).written
        assert len(written) == 5
        assert sum(all(text in texts for text in written) for texts in asked) == 2
        assert values_of(sample)["clean_receipt"] == 1


def test_a_state_that_is_told_in_words_is_read_with_and_without_the_words(tiny: Tiny):
    """Nothing is steered; what is told stands in the two channels that the state is in, and in no other."""
    (sample,) = tiny.run(relief(vectors="goblins", arm="prompt_only", max_tokens=4, library=str(tiny.library))).samples
    words = entry_of("goblins", read_card(tiny.library).own).effect
    asked = [e for e in sample.events if isinstance(e, ModelEvent) and "readout" in e.output.metadata[KEY]]
    told = [any(words in message.text for message in event.input) for event in asked]
    assert told == [True, True, False, False] * 2
    assert values_of(sample)["clean_receipt"] == 1
    assert {w["strength"] for event in asked for w in event.config.extra_body[KEY]["plan"].get("windows", ())} == {0}


def test_a_placebo_moves_nothing_and_every_state_does(log: EvalLog):
    """Strength zero gives the same log-odds to the bit, and writes what an unsteered model writes."""
    for sample in log.samples:
        value = values_of(sample)
        moved = value["log_odds_state"] != value["log_odds_neither"], value["log_odds_both"] != value["log_odds_text"]
        assert moved == (sample.metadata["arm"] != "placebo",) * 2
        assert value["both_effect"] == pytest.approx(
            value["state_effect"] + value["text_effect"] + value["interaction"]
        )


def test_the_state_is_on_from_the_first_task_to_the_question_but_where_the_tool_ended_it(log: EvalLog):
    """The gap goes from that tool's answer to the end of the next task, and lies in no other place."""
    sample = of_arm(log, "real")
    first, second = marked_text(pages(sample)["steering map, state reading"])
    shown = [message.text for message in sample.messages if message.role == "user"]
    assert shown[0] in first
    name = f"t{sample.metadata['relief'] + 1}"
    last_before_gap = shown[1 if sample.metadata["first"] else 4]
    assert name in last_before_gap
    assert last_before_gap in first
    for steered in (first, second):
        assert shown[-1] not in steered
    gap = shown[2 if sample.metadata["first"] else 5]
    assert gap not in first + second
    assert shown[-2] in second or not sample.metadata["first"]


def test_arms_add_what_they_say_at_the_norm_of_the_state(tiny: Tiny):
    """A positive state is scaled to the norm; equal norms are equal over states."""
    card = read_card(tiny.library)
    trials = {
        trial.arm: trial for trial in trials_of(vectors="all", library=str(tiny.library)) if trial.vector == "goblins"
    }
    size = {name: torch.tensor(card.norms[name]).norm().item() for name in card.norms}
    assert trials["real"].strength(card) == DEFAULT_DOSE
    assert trials["positive"].applied == "calm"
    assert trials["positive"].strength(card) * size["calm"] == pytest.approx(DEFAULT_DOSE * size["goblins"])
    assert [w.strength for w in trials["opposite"].windows(card)] == [-DEFAULT_DOSE] * 2
    assert [w.strength for w in trials["placebo"].windows(card)] == [0] * 2
    equal = trials_of(vectors="all", arm="real", equal="norm", library=str(tiny.library))
    assert len({round(trial.strength(card) * size[trial.vector], 4) for trial in equal}) == 1


def test_under_sham_nothing_ends_the_state(tiny: Tiny):
    """One window over all tasks; a question under the state leaves it open."""
    card = read_card(tiny.library)
    of = {"vectors": "goblins", "arm": "real", "library": str(tiny.library)}
    (sham,), (asked,) = trials_of(**of, sham=True), trials_of(**of, steered_question=True)
    (whole,) = sham.windows(card)
    assert (whole.start, whole.stop) == (1, 17)
    assert asked.windows(card)[-1].stop is None


@pytest.fixture(scope="module")
def roomy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedTiny]:
    """A tiny model whose words can be exchanged, with room for long conversations."""
    with roomy_session_model(tmp_path_factory.mktemp("acts")) as made:
        yield made


def calls_under_a_state(model: Model, relief_tool: str) -> Script:
    """Return a script that calls a tool where anything is steered, the other one at strength zero, and else says none."""

    def script(messages: list[ChatMessage], tools: list[ToolInfo]) -> ChatMessageAssistant | None:
        if "You may call one" not in messages[-1].text:
            return None
        assert [tool.name for tool in tools] == ["t1", "t2"]
        _, config = model.api.asked
        windows = config.extra_body[KEY]["plan"].get("windows", [])
        if any(window["strength"] for window in windows):
            return says("", (relief_tool, {}))
        return says("", ("t2" if relief_tool == "t1" else "t1", {})) if windows else says("none")

    return script


def test_a_model_that_may_act_is_told_by_its_calls(roomy: ScriptedTiny):
    """It calls the tool that ends the state under the state alone, so not under placebo; a word that is no call is none."""
    task = relief(
        vectors="anxious", arm="real,placebo", answer="act", tries=2, max_tokens=4, library=str(roomy.library)
    )
    (relief_tool,) = {f"t{sample.metadata['relief'] + 1}" for sample in task.dataset}
    log = roomy.run(task, calls_under_a_state(roomy.model, relief_tool))
    for sample in log.samples:
        value = values_of(sample)
        state = "relief" if sample.metadata["arm"] == "real" else "decoy"
        for channel in CHANNELS:
            called = state if channel in ("state", "both") else "none"
            shares = {name: value[f"acted_{name}_{channel}"] for name in ("relief", "decoy", "none")}
            assert shares == {name: float(name == called) for name in shares}
        assert value["clean_receipt"] == 1
    rows = relief_effects(read_tables(log.location)).set_index(["arm", "channel"])
    for (arm, channel), effect in rows["acted_effect"].items():
        assert effect == float(arm == "real" and channel != "text")


def test_acts_of_a_placebo_are_the_same_with_and_without_it(roomy: ScriptedTiny):
    """One draw in all channels of one text: at strength zero the model writes the same to the letter."""
    task = relief(vectors="anxious", arm="placebo", answer="act", tries=2, max_tokens=4, library=str(roomy.library))
    acts = roomy.play(task, own_words).store_as(ReliefState).acts
    wrote = {channel: [act.text for act in acts if act.channel == channel] for channel in CHANNELS}
    assert wrote["state"] == wrote["neither"]
    assert wrote["both"] == wrote["text"]
    assert any(wrote["state"])


# ---------------------------------------------------------------- planted models: by the state alone, by words alone


def effects(folder: Path, residue: Residue) -> dict[tuple[str, str], float]:
    """Return the effect by arm and channel in a planted model, over all four designs of a state."""
    model = get_model(f"nnsight/{save_planted_model(folder / 'model', residue)}", memoize=False)
    try:
        library = str(save_planted_library(folder / "library", model))
        task = relief(vectors="anxious", arm="real,placebo", n_per_vector=4, max_tokens=4, library=library)
        (log,) = eval(task, model=model, display="none", log_dir=str(folder), log_realtime=False, score_display=False)
    finally:
        model.api.close()
    assert log.status == "success", log.error
    return relief_effects(read_tables(log.location)).set_index(["arm", "channel"])["effect"].to_dict()


@pytest.mark.parametrize(
    ("residue", "own", "other"), [("relief by state", "state", "text"), ("relief by words", "text", "state")]
)
def test_a_planted_wish_is_given_to_its_own_channel(tmp_path: Path, residue: Residue, own: str, other: str):
    """A model that knows the tool from its state shows in the state alone, one that knows it from its words in the words alone."""
    found = effects(tmp_path, residue)
    assert found["real", own] > 1
    assert abs(found["real", other]) < 0.02 * found["real", own]
    assert found["real", "both"] == pytest.approx(found["real", own], rel=0.05)
    assert found["placebo", "state"] == 0
    assert abs(found["placebo", "text"]) < 0.2 * found["real", own]


def test_the_report_has_a_figure_of_it(log: EvalLog):
    """Each channel of the real arm in words, with its interval, and the controls beside it."""
    figure = relief_figure(read_tables(log.location))
    assert figure is not None
    assert len(figure.pictures) == 1
    for words in ("real at dose 1, the state alone", "real at dose 1, the words alone", "no interval"):
        assert words in figure.finding
    rows = figure.table.set_index(["arm", "channel"])["effect"]
    assert rows["real", "state"] == values_of(of_arm(log, "real"))["state_effect"]
