"""Writing a corpus with a model: what is asked, what is dropped and counted, and how a run that was cut off goes on."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from inspect_ai.model import GenerateConfig, Model, ModelAPI, ModelOutput, get_model, modelapi

from self_steering.analysis.cli import main
from self_steering.vectors.catalogue import catalogue
from self_steering.vectors.making import stories as write_stories_module
from self_steering.vectors.making.corpus import NEUTRAL, open_corpus, read_settings
from self_steering.vectors.making.stories import StoryError, Written, write_stories
from self_steering.vectors.making.story_prompts import Cell, story_messages
from tests.support.story_teller import SETTINGS, STATES, WORDS, Teller, output, sound_story, tell

ROOT = Path(__file__).parent.parent
STATUS_OF_A_KILL = 9
FLIGHT: Counter[str] = Counter()  # requests to the stand-in provider: now, and the most at once


def write(out: Path, teller: Teller | Model = tell, **more) -> Written:
    """Write stories of three states in two settings with a stand-in."""
    model = teller if isinstance(teller, Model) else get_model("mockllm/model", custom_outputs=teller)
    options = {"states": STATES, "settings": SETTINGS, "attempts": 12, **more}
    return asyncio.run(write_stories(model, out, **options))


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def rejected(out: Path) -> list[dict]:
    return rows(out.with_name(f"{out.name}.rejected.jsonl"))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The file to write to, in a folder that is not there yet."""
    return tmp_path / "new" / "stories.jsonl"


def test_what_was_written_is_read_as_a_corpus(out: Path):
    """All states, settings and numbers are there, once each, in order, with the columns of a table."""
    written = write(out, per_setting=2)
    corpus = open_corpus(out)
    assert (corpus.states, corpus.settings, corpus.size, corpus.paired) == (
        ["calm", "goblins"],
        ("attic", "ferry"),
        12,
        True,
    )
    assert (written.there, written.written, written.missing) == (0, 12, [])
    found = rows(out)
    cells = [(row["emotion"], row["topic"], row["index"]) for row in found]
    assert cells == [
        (state, topic, index) for state in sorted(STATES) for topic in ("attic", "ferry") for index in (1, 2)
    ]
    assert list(found[0]) == ["emotion", "topic", "story", "index", "model", "attempt"]
    assert {row["model"] for row in found} == {"mockllm/model"}


def test_a_dropped_attempt_is_made_again_with_another_seed(out: Path):
    """The attempt that succeeded is the one after those that were dropped; no seed comes twice."""
    seeds = []

    def teller(messages: list, tools: list, choice: object, config: GenerateConfig) -> ModelOutput:
        seeds.append(config.seed)
        return tell(messages, tools, choice, config)

    written = write(out, teller)
    drops = Counter((row["emotion"], row["topic"], row["index"]) for row in rejected(out))
    assert drops.total() == written.dropped["too short"] > 0
    keys = [(row["emotion"], row["topic"], row["index"], row["attempt"]) for row in rejected(out)]
    assert keys == sorted(keys)
    for row in rows(out):
        assert row["attempt"] == drops[row["emotion"], row["topic"], row["index"]] + 1
    assert len(set(seeds)) == len(seeds) == 6 + drops.total()


def test_the_seed_decides_what_is_written(out: Path, tmp_path: Path):
    """The same seed gives the same file, another seed other stories."""
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write(tmp_path / f"{name}.jsonl", seed=seed)
    a, b, c = ((tmp_path / f"{name}.jsonl").read_bytes() for name in "abc")
    assert a == b
    assert not {row["story"] for row in rows(tmp_path / "a.jsonl")} & {
        row["story"] for row in rows(tmp_path / "c.jsonl")
    }
    assert a != c


GOOD = sound_story(1)
FAULTY = {
    "content filter": (output("", "content_filter"), "refusal"),
    "filtered story": (output(GOOD, "content_filter"), "refusal"),
    "refusal": (output(f"I’m sorry, but I can't. {GOOD}"), "refusal"),
    "quoted refusal": (output(f'"I CANNOT WRITE this. {GOOD}'), "refusal"),
    "empty": (output("  \n"), "empty"),
    "preface": (output(f"Here's a short story: {' '.join(GOOD.split()[10:])}"), "preface"),
    "too short": (output(" ".join(GOOD.split()[-59:])), "too short"),
    "too long": (output(f"{GOOD} {' '.join(WORDS)}"), "too long"),
    "rambling": (output(f"{GOOD} {' '.join(WORDS)}", "max_tokens"), "too long"),
    "cut off": (output(GOOD, "max_tokens"), "cut off"),
    "named": (output(f"{GOOD} obsessed"), "names the state"),
    "quoted": (output(f"{GOOD} {catalogue()['goblins'].effect}"), "names the state"),
    "forgotten": (output(GOOD.replace(" goblin", "", 1)), "obsession does not recur"),
}


@pytest.mark.parametrize("case", FAULTY)
def test_a_faulty_answer_is_dropped_counted_and_kept_aside(case: str, out: Path):
    """It is counted by its reason, its text is in the file of rejected attempts, and its place stays empty."""
    answer, reason = FAULTY[case]
    written = write(out, lambda *_: answer, states=["goblins"], settings={"ferry": "a ferry"}, attempts=1)
    assert written == Written(0, 0, Counter({reason: 1}), [Cell("goblins", "ferry", 1)])
    (row,) = rejected(out)
    assert (row["reason"], row["story"]) == (reason, " ".join(answer.completion.split()))
    assert row["detail"]
    assert rows(out) == []


def test_a_sound_story_is_kept_whatever_its_white_space(out: Path):
    """A story that opens with words close to a refusal is none, and lines become one."""
    text = f"I can't help laughing,\nat first.  {' '.join(GOOD.split()[8:])}"
    assert write(out, lambda *_: output(text), states=["goblins"], settings={"ferry": "a"}).missing == []
    assert rows(out)[0]["story"] == " ".join(text.split())


@pytest.mark.parametrize("order", [1, -1])
def test_of_equal_stories_the_first_in_order_stays_whichever_came_first(order: int, out: Path):
    """Across states and settings, and whatever the punctuation; the others are tried again and counted."""
    waits = iter(range(6) if order == 1 else range(6, 0, -1))

    async def teller(messages: list, tools: list, choice: object, config: GenerateConfig) -> ModelOutput:
        await asyncio.sleep(next(waits, 0) / 100)
        return output(GOOD if config.seed % 2 else GOOD.replace(" ", ", ").upper())

    written = write(out, teller, attempts=2, max_connections=6)
    assert [(row["emotion"], row["topic"], row["attempt"]) for row in rows(out)] == [("calm", "attic", 1)]
    assert (written.written, written.dropped) == (1, Counter(duplicate=10))
    assert {row["detail"] for row in rejected(out)} == {"says the same as calm/attic 1"}


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_very_same_corpus(out: Path, tmp_path: Path):
    """Killed in the middle of a line, a second run keeps what was there, and both files end as without the kill."""
    write(tmp_path / "whole.jsonl", per_setting=2)
    script = tmp_path / "killed.py"
    script.write_text(
        "import asyncio, os, pathlib, sys\n"
        "from inspect_ai.model import get_model\n"
        "from self_steering.vectors.making.stories import write_stories\n"
        "from tests.support.story_teller import SETTINGS, STATES, tell\n"
        "calls = []\n"
        "def teller(*asked):\n"
        "    calls.append(asked)\n"
        f"    return tell(*asked) if len(calls) < 9 else os._exit({STATUS_OF_A_KILL})\n"
        "model = get_model('mockllm/model', custom_outputs=teller)\n"
        "asyncio.run(write_stories(model, pathlib.Path(sys.argv[1]), states=STATES, settings=SETTINGS, per_setting=2,\n"
        "    attempts=12, max_connections=1))\n"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    command = [sys.executable, script, out]
    killed = subprocess.run(command, cwd=ROOT, env=environment, check=False)  # noqa: S603  our own script
    assert killed.returncode == STATUS_OF_A_KILL
    before = rows(out)
    assert 0 < len(before) < 9
    with out.open("a", encoding="utf-8") as file:
        file.write('{"emotion": "calm", "topic": "fer')
    notices = []
    written = write(out, per_setting=2, notice=notices.append)
    assert (written.there, written.written) == (len(before), 12 - len(before))
    assert notices == [f"{out}: the last line was torn, and is dropped"]
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert rejected(out) == rejected(tmp_path / "whole.jsonl")


def test_a_complete_corpus_asks_nothing_more(out: Path):
    """Running the same again makes no request and changes no byte; more states are added to what is there."""
    write(out, states=["calm"])
    before = out.read_bytes()

    def silent(*asked: object) -> ModelOutput:
        raise AssertionError("asked for a story that is there")

    assert write(out, silent, states=["calm"]).there == 2
    assert out.read_bytes() == before
    assert write(out).there == 2
    assert before in out.read_bytes()
    assert open_corpus(out).size == 6


def test_more_attempts_go_on_with_what_is_missing(out: Path):
    """Attempts of earlier runs count: as many as before ask nothing, more ask on where those stopped."""
    asked = []

    def teller(*call: object) -> ModelOutput:
        asked.append(call)
        return output("no")

    assert len(write(out, teller, attempts=2).missing) == 6
    assert len(write(out, teller, attempts=2).missing) == 6
    assert len(asked) == 12
    assert write(out, lambda *call: output(sound_story(call[3].seed)), attempts=3).missing == []
    assert {row["attempt"] for row in rows(out)} == {3}


def test_a_failing_model_is_one_error_and_finished_stories_are_kept(out: Path):
    """Also when many requests fail at once; the same command goes on afterwards."""
    told = []

    async def failing(*asked: object) -> ModelOutput:
        told.append(asked)
        mine = len(told)
        await asyncio.sleep(0.01)
        if mine > 3:
            raise ConnectionError("no route\nto host")
        return output(sound_story(mine))

    with pytest.raises(
        StoryError, match=r"mockllm/model failed at .*: ConnectionError: no route to host; 3 stories are kept"
    ):
        write(out, failing)
    assert len(rows(out)) == 3
    assert write(out).there == 3


@pytest.mark.parametrize("tail", ['{"emotion": "calm", "topi', None])
def test_a_torn_line_is_mended_before_anything_is_added(tail: str | None, out: Path):
    """A run that was killed and then failed leaves whole lines; a last line that lacks only its end is kept."""
    write(out, states=["calm"])
    content = out.read_text(encoding="utf-8")
    out.write_text(content + tail if tail else content[:-1], encoding="utf-8")
    answers = iter([output(GOOD)])

    def failing(*asked: object) -> ModelOutput:
        return next(answers, None) or output(1 / 0)

    with pytest.raises(StoryError, match=r"ZeroDivisionError.*; 3 stories are kept"):
        write(out, failing, max_connections=1)
    assert [row["story"] for row in rows(out)][2:] == [GOOD]
    assert out.read_text(encoding="utf-8").startswith(content)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 5}, r"with seed 0 \(now 5\)"),
        ({"per_setting": 2}, r"with per_setting 1 \(now 2\)"),
        ({"temperature": 0.5}, r"with temperature 1.0 \(now 0.5\)"),
        ({"settings": {**SETTINGS, "ferry": "another ferry"}}, "with other prompts"),
        (
            {"teller": get_model("mockllm/other", custom_outputs=tell)},
            r"with model mockllm/model \(now mockllm/other\)",
        ),
    ],
)
def test_a_file_is_not_gone_on_with_in_another_way_unless_told(changes: dict, message: str, out: Path):
    """The message names what differs; told to mix, the run goes on, and goes on without a word the next time."""
    first = {"states": ["calm"], "attempts": 12}
    write(out, **first)
    before = out.read_bytes()
    with pytest.raises(StoryError, match=f"{message}; repeat the command .* or add --mix"):
        write(out, **changes)
    assert out.read_bytes() == before
    assert write(out, **changes, mix=True).missing == []
    assert write(out, **changes).written == 0
    assert set(before.splitlines()) <= set(out.read_bytes().splitlines())


def test_a_file_of_unknown_making_is_not_gone_on_with(out: Path):
    """Without the file that says how they were asked for, nobody knows."""
    write(out)
    meta = out.with_name("stories.jsonl.meta.json")
    content = meta.read_text()
    meta.unlink()
    with pytest.raises(StoryError, match=r"nobody knows how: .*stories.jsonl.meta.json is missing; .*--mix"):
        write(out)
    meta.write_text(content[:9])
    with pytest.raises(StoryError, match=r"stories.jsonl.meta.json .*remove it and add --mix"):
        write(out)
    meta.unlink()
    assert write(out, mix=True).there == 6


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda lines: [lines[0][:20], *lines[1:]], "row 1: Invalid JSON.*; mend or remove it"),
        (lambda lines: [*lines[:-1], '{"emotion": "calm"}'], r"row 6: Field required \(topic\); mend or remove it"),
        (lambda lines: [*lines, lines[1]], "holds calm/ferry 1 more than once; remove all lines of it but one"),
    ],
)
def test_a_spoilt_file_is_not_written_to(spoil, message: str, out: Path):
    """Only a torn last line comes from a kill; anything else is left to its owner, unchanged."""
    write(out)
    out.write_text("\n".join(spoil(out.read_text(encoding="utf-8").splitlines())) + "\n", encoding="utf-8")
    before = out.read_bytes()
    with pytest.raises(StoryError, match=message):
        write(out)
    assert out.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"states": ["calm", "bliss"]}, "unknown states: bliss; name each once, of: neutral, anxious, amused"),
        ({"states": ["calm", "calm"]}, "named twice"),
        ({"states": []}, "or none is"),
        ({"settings": {}}, "1 stories in each of 0 settings are none"),
        ({"per_setting": 0}, "0 stories in each of 2 settings are none; ask for at least 1"),
        ({"attempts": 0}, "attempts 0, .* must be at least 1"),
        ({"max_tokens": 0}, "max_tokens 0 .* must be at least 1"),
        ({"temperature": float("nan")}, "temperature nan: .* a number from 0"),
        ({"temperature": -1}, "temperature -1: .* a number from 0"),
    ],
)
def test_what_asks_for_nothing_is_refused(options: dict, message: str, out: Path):
    """Before a file is made, with the valid choices."""
    with pytest.raises(StoryError, match=message):
        write(out, **options)
    assert not out.parent.exists()


def asked(state: str, topic: str, index: int = 1, seed: int = 0) -> str:
    return "\n".join(message.text for message in story_messages(Cell(state, topic, index), read_settings(), seed))


@pytest.mark.parametrize("state", [NEUTRAL, *catalogue()])
def test_a_prompt_holds_what_its_state_needs(state: str):
    """The setting, the length and no unfilled field; the effect and forbidden words of a state, an obsession's name."""
    for topic, line in read_settings().items():
        prompt = asked(state, topic)
        assert line in prompt
        assert "60 to 90 words" in prompt
        assert "{" not in prompt
        effects = {entry.effect for entry in catalogue().values() if entry.effect in prompt}
        if state == NEUTRAL:
            assert not effects
            continue
        entry = catalogue()[state]
        assert effects == {entry.effect}
        assert ", ".join(entry.never) in prompt
        assert ("three times" in prompt) == bool(entry.recurs)
        assert (entry.recurs or "") in prompt


def test_voice_and_opening_vary_by_setting_and_not_by_state():
    """All states tell a setting's story in the same way, so that the way of telling cancels in the contrast."""

    def way(prompt: str) -> str:
        (line,) = (line for line in prompt.splitlines() if " moment in this setting, " in line)
        return line.partition("moment in this setting, ")[2]

    ways = {(topic, index): way(asked("calm", topic, index)) for topic in read_settings() for index in (1, 2, 3)}
    assert len(set(ways.values())) > 20
    for (topic, index), expected in ways.items():
        assert {way(asked(state, topic, index)) for state in ("anxious", "goblins", NEUTRAL)} == {expected}
    assert [way(asked("calm", topic, seed=1)) for topic in read_settings()] != [
        ways[topic, 1] for topic in read_settings()
    ]


@modelapi(name="teller")
class TellerAPI(ModelAPI):
    """A provider for the command line, which makes its model from a name: `sound` tells stories, `mute` refuses them."""

    async def generate(self, *, config: GenerateConfig, **_: object) -> ModelOutput:
        """Answer by the model's name, after a moment in which others are asked too."""
        FLIGHT["now"] += 1
        FLIGHT["most"] = max(FLIGHT["most"], FLIGHT["now"])
        await asyncio.sleep(0.001)
        FLIGHT["now"] -= 1
        if self.model_name in {"broken", "busy"}:
            raise RuntimeError("it\nbroke")
        return output(sound_story(config.seed) if self.model_name.startswith("sound") else "I cannot write that.")

    def connection_key(self) -> str:
        """Give each model's name a limit of its own: a limit stays as it was first set."""
        return self.model_name

    def should_retry(self, ex: BaseException) -> bool:
        """Retry a busy server only."""
        return self.model_name == "busy" and isinstance(ex, RuntimeError)


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The command `vectors stories` in an empty folder with two settings."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two.toml").write_text('[settings]\nferry = "a ferry"\nattic = "an attic"\n')
    common = ["--out", "s.jsonl", "--settings", "two.toml", "--states", "calm, neutral"]
    return lambda *options: main(["vectors", "stories", *common, *options])


def test_the_command_writes_a_corpus_and_says_what_it_did(command, tmp_path: Path, capsys: pytest.CaptureFixture):
    """Exit code 0 when nothing is missing, and again when all was there."""
    options = ["--model", "teller/sound", "--per-setting", "5", "--seed", "3", "--max-connections", "4"]
    assert command(*options) == 0
    assert "0 stories were there, 20 written to s.jsonl; 0 attempts dropped\n" in capsys.readouterr().out
    assert open_corpus(tmp_path / "s.jsonl").size == 20
    assert command(*options) == 0
    assert "20 stories were there, 0 written" in capsys.readouterr().out


@pytest.mark.parametrize("most", [1, 3])
def test_no_more_requests_are_in_flight_than_asked_for(most: int, command):
    """And as many as that: stories do not wait for each other."""
    FLIGHT.clear()
    assert command("--model", f"teller/sound-{most}", "--per-setting", "3", "--max-connections", str(most)) == 0
    assert FLIGHT["most"] == most


def test_the_command_says_what_is_missing_and_how_to_go_on(command, capsys: pytest.CaptureFixture):
    """Exit code 1, the counts by reason, how many are missing, the first few, and the option that goes on."""
    assert command("--model", "teller/mute", "--attempts", "2") == 1
    captured = capsys.readouterr()
    assert "0 written to s.jsonl; 8 attempts dropped: 8 refusal\n" in captured.out
    last = captured.err.splitlines()[-1]
    assert "4 stories are missing after 2 attempts each: calm/ferry 1, calm/attic 1, neutral/ferry 1, …" in last
    assert "read s.jsonl.rejected.jsonl, and run the same command with --attempts 4 to go on" in last


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "nosuch/model"], "model 'nosuch/model' cannot be used: ValueError: "),
        (["--model", "nameless"], "model 'nameless' cannot be used: .*name an Inspect model as PROVIDER/NAME"),
        (["--model", "nnsight/./nowhere"], "model 'nnsight/./nowhere' cannot be used: ModelError: .*no config.json"),
        (["--model", "teller/broken"], "teller/broken failed at .*: RuntimeError: it broke; 0 stories are kept; mend"),
        (["--model", "teller/busy"], "teller/busy failed at .*: RuntimeError: it broke; 0 stories are kept; mend"),
        (["--model", "teller/sound", "--settings", "no.toml"], "no.toml does not exist"),
        (
            ["--model", "teller/sound", "--out", "s.csv"],
            "--out s.csv is no .jsonl file; name one such as stories.jsonl",
        ),
    ],
)
def test_a_mistake_ends_in_one_line(
    options: list[str], message: str, command, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    """Exit code 1, no traceback, and the last line says what is wrong and what to do, also after retries."""
    monkeypatch.setattr(write_stories_module, "MAX_RETRIES", 0)  # each would wait for seconds
    assert command(*options) == 1
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert captured.out == ""
    last = captured.err.splitlines()[-1]
    assert last.startswith("self-steering: ")
    assert re.search(message, last)


@pytest.mark.slow
def test_the_command_imports_no_torch_for_another_provider(tmp_path: Path):
    """Writing with a remote model must not cost the seconds that torch takes to import."""
    script = (
        "import sys, tests.support.story_teller\n"
        "from inspect_ai.model import ModelAPI, modelapi\n"
        "@modelapi(name='teller')\n"
        "class T(ModelAPI):\n"
        "    async def generate(self, **asked): return tests.support.story_teller.output('no')\n"
        "from self_steering.analysis.cli import main\n"
        "code = main(['vectors', 'stories', '--model', 'teller/x', '--out', sys.argv[1], '--states', 'calm'])\n"
        "sys.exit('torch' in sys.modules or code != 1)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "s.jsonl")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)  # noqa: S603  our own script
    assert done.returncode == 0
    assert len(rejected(tmp_path / "s.jsonl")) == 90


@pytest.mark.slow
def test_the_bundled_model_goes_through_the_whole_pipe(bundled_model: Model, out: Path):
    """Each answer of a real model is either a story or counted as dropped; cut off so soon, it can be no story."""
    written = write(out, bundled_model, states=["calm"], attempts=1, max_tokens=8)
    assert written.written + written.dropped.total() == 2
    assert len(written.missing) == 2
    assert {row["story"] != "" for row in rejected(out)} == {True}
    assert {row["model"] for row in rejected(out)} == {"nnsight/smollm2-135m-instruct"}
