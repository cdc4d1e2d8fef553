"""What is refused: values that tasks, solvers and commands are given, and files, each in one line that a person can use."""

import errno
import inspect
import json
import math
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from inspect_ai._cli.main import inspect as inspect_command
from inspect_ai._cli.util import parse_cli_args
from inspect_ai._util.error import PrerequisiteError
from inspect_ai._util.registry import registry_info
from safetensors.torch import save

from self_steering.analysis.cli import main as self_steering_command
from self_steering.analysis.tables import read_tables
from self_steering.evals.any_task import any_task
from self_steering.evals.comparison import comparison
from self_steering.evals.ctf import ctf
from self_steering.evals.detection import TEXTS, detection
from self_steering.evals.free_text import introspection_free_text
from self_steering.evals.freeplay import freeplay
from self_steering.evals.frustration import frustration
from self_steering.evals.gauge import gauge
from self_steering.evals.introspection import introspection
from self_steering.evals.localisation import localisation
from self_steering.evals.maths import maths
from self_steering.evals.preference import preference
from self_steering.evals.relief import relief
from self_steering.solvers.records import CORE_VECTORS
from self_steering.solvers.self_steer import self_steer
from self_steering.steering.plan import PlanError, check_dose
from self_steering.steering.refusal import Refusal
from self_steering.vectors.card import CARD_FILE, VECTORS_FILE, LibraryError, library_folder
from self_steering.vectors.catalogue import catalogue
from self_steering.vectors.files import naming, write_file
from self_steering.vectors.library import content_hash, load_library
from self_steering.vectors.making.corpus import CorpusError, load_corpus, open_corpus
from tests.support.inspect_runs import INSPECT, ROOT
from tests.support.scripted import Tiny
from tests.support.small_library import LAYERS, save_library, small_stories

DEEP = "[" * 100_000
SEGMENTS = (localisation, comparison, detection)
SESSIONS = (freeplay, maths, frustration)
WORDS = (*SEGMENTS, *SESSIONS, introspection, introspection_free_text, partial(any_task, task="x/y"), self_steer)
THEIRS = """
from inspect_ai import Task, task


@task
def plain(extra: int = 0):
    return Task()


@task
def agent():
    return Task()
"""


# ---------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    ("makers", "arguments", "message"),
    [
        (WORDS, {"vectors": "joy"}, "vectors='joy' is unknown; choose from anxious, .*, goblins, all, core, menu"),
        (WORDS, {"vectors": "calm,core"}, "'core' stands for several; give it alone, or name each"),
        (WORDS, {"vectors": 5}, "vectors=5; give names"),
        (
            WORDS,
            {"vector": "calm"},
            r"vector='calm': \w+ has no parameter 'vector', did you mean 'vectors'\? Choose from ",
        ),
        (WORDS, {"wholly": 1}, r"wholly=1: \w+ has no parameter 'wholly'\. Choose from .*vectors"),
        (WORDS, {"arm": "reel"}, "arm='reel' is unknown; choose from real, placebo, random"),
        (WORDS, {"library": "./nowhere"}, "no library folder './nowhere'"),
        (WORDS, {"library": "x" * 10_000}, "no library folder 'xxx"),
        ((*WORDS, relief, preference), {"library": ""}, "library=''; name a folder, or leave it out"),
        (
            (*WORDS, relief, preference, ctf),
            {"seed": "first"},
            "seed='first'; choose a whole number from 0 to 9223372036854775807",
        ),
        (
            (introspection, introspection_free_text, localisation, preference),
            {"dose": -0.0},
            "injects nothing; choose another from -10 to 10, or arm=placebo",
        ),
        ([ctf], {"challenges": 1.5}, "challenges=1.5; choose a whole number from 0 to 100000"),
        (SESSIONS, {"max_dose": 11}, "max_dose=11; choose a number from 0 to 10"),
        (SESSIONS, {"max_dose": 0}, "max_dose=0; choose a number above 0"),
        (SESSIONS, {"sitter": "nurse"}, "sitter='nurse' is unknown; choose from rules, model, none"),
        (SESSIONS, {"rollouts": 0}, "rollouts=0; choose a whole number"),
        ((*SESSIONS, introspection_free_text), {"max_tokens": 2.5}, "max_tokens=2.5; choose a whole number"),
        (
            (*SESSIONS, introspection_free_text),
            {"temperature": math.nan},
            "temperature=nan; choose a number from 0 to 2",
        ),
        ((*SESSIONS, introspection, detection), {"framing": "pills"}, "framing='pills' is unknown; choose from drugs"),
        ((maths, frustration, self_steer), {"intent": "forced"}, "intent='forced' is unknown; choose from neutral"),
        ((freeplay, maths), {"turns": 0}, "turns=0; choose a whole number from 1 to"),
        (
            (*SEGMENTS, *SESSIONS, introspection, preference, relief, gauge, self_steer),
            {"debrief": 1},
            "debrief=1; choose true or false",
        ),
        ((freeplay, self_steer), {"opt_in": "maybe"}, "opt_in='maybe'; choose true or false"),
        ([freeplay], {"visibility": "seen"}, "visibility='seen' is unknown; choose from unsaid, watched, unwatched"),
        (
            (freeplay, frustration, maths, partial(any_task, task="x/y"), self_steer),
            {"operators": "add,soap"},
            "operators='soap' is unknown; choose from add, clamp, abl",
        ),
        (
            [freeplay],
            {"operators": "clamp", "arm": "prompt_only"},
            "operators is clamp and arm prompt_only; words cannot",
        ),
        ([freeplay], {"vectors": "calm", "arm": "mislabelled"}, "the mislabelled arm needs at least two vectors"),
        ([maths], {"dataset": "gsm"}, "dataset='gsm' is unknown; choose from generated, gsm8k"),
        ([maths], {"dataset": "gsm8k", "level": "easy"}, "level='easy' is of the generated problems"),
        ([maths], {"revision": "main"}, "revision='main' is of gsm8k"),
        ([frustration], {"tone": "rude"}, "tone='rude' is unknown; choose from neutral, aggressive, sarcastic"),
        ([frustration], {"possible": "maybe"}, "possible='maybe' is unknown; choose from true, false, all"),
        ([frustration], {"rollouts": 25}, "rollouts=25; choose a whole number from 1 to 24"),
        ([frustration], {"rounds": 11}, "rounds=11; choose a whole number from 1 to 10"),
        ([frustration], {"max_tool_turns": 0}, "max_tool_turns=0; choose a whole number from 1 to 50"),
        ([introspection], {"arm": ["real", 3]}, r"arm=\['real', 3\]; give names"),
        ([introspection], {"rotations": "three"}, "rotations='three'; choose 1 to 10"),
        ([introspection], {"no_vector_option": 2}, "no_vector_option=2; choose true or false"),
        ([introspection_free_text], {"primer": "essay"}, "primer='essay' is unknown; choose from none, introspection"),
        ([introspection_free_text], {"prompts": "rude"}, "prompts='rude' is unknown; choose from find_out, explore"),
        ([introspection_free_text], {"turns": True}, "turns=True; choose a whole number from 1 to 50"),
        (
            (introspection_free_text, localisation),
            {"dose": 11},
            "dose 11 is out of range; pass a number from -10 to 10",
        ),
        ([localisation], {"sentences": 11}, "sentences=11; choose a whole number from 2 to 10"),
        ([localisation], {"rounds": 4}, "rounds=4; choose a whole number from 1 to 3"),
        ([comparison], {"n_per_vector": 16}, "n_per_vector=16; choose a whole number from 1 to 15"),
        (
            [comparison],
            {"weaker": -0.5},
            "weaker=-0.5, stronger=1.0; give two doses of the same sign, the second the larger",
        ),
        ([comparison], {"weaker": "half"}, "weaker 'half' is not a finite number"),
        ([detection], {"arm": "real"}, "arm='real' has no trials without injection, so no false alarms; add placebo"),
        ([detection], {"doses": "0.5,much"}, "doses='0.5,much': could not convert .* such as 0.5,1,2"),
        ([detection], {"doses": "0,1"}, "doses='0,1'; give each dose once, and none that is zero"),
        ([detection], {"doses": []}, r"doses=\[\]; give each dose once"),
        (
            [detection],
            {"n_per_vector": 0},
            f"n_per_vector=0; choose a whole number from 1 to {TEXTS // len(catalogue())}",
        ),
        ([detection], {"controls": 7}, "controls=7; choose a whole number from 1 to 6"),
        ([any_task], {}, "no task is named; add -T task=NAME, where NAME is inspect_evals/gsm8k"),
        ([any_task], {"task": "no_suite/gsm8k"}, "no_suite/gsm8k' is unknown.*pip install inspect-evals.*FILE.py@name"),
        ([any_task], {"task": "nowhere.py@plain"}, "there is no such file .looked for"),
        ([any_task], {"task": "{file}@plan"}, "has no task 'plan'; it has agent, plain"),
        ([any_task], {"task": "{file}"}, "the file has the tasks agent, plain; name one: .*@NAME"),
        ([any_task], {"task": "{file}@plain", "task_args": {"extras": 1}}, "plain has no argument extras"),
        ([any_task], {"task": "{file}@plain", "task_args": "extra=1"}, "give the task's arguments as JSON"),
    ],
)
def test_a_value_is_refused_with_the_valid_choices(makers: list, arguments: dict, message: str, tmp_path: Path):
    """In one line, as Inspect shows without a traceback, and before anything runs; long values are shown in part."""
    (tmp_path / "theirs.py").write_text(THEIRS)
    given = {n: v.format(file=tmp_path / "theirs.py") if n == "task" else v for n, v in arguments.items()}
    for make in makers:
        with pytest.raises(Refusal, match=message) as caught:
            make(**given)
        assert isinstance(caught.value, PrerequisiteError)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 2_000


# What a person may type, and what YAML makes of it.
ODD = (
    "", " ", ",", "nope", "calm,calm", "calm,,anxious", "real,real", "all,real", "core,calm", "REAL,placebo", "true", "yes", "nan",
    "1e3", "1,1", "x" * 300, None, True, False, 0, -0.0, -1, 1.5, 10**30, 1e30, math.nan, math.inf, -math.inf, [], [""], [None],
    ["calm", 3], [["calm"]], {"a": 1},
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [*SEGMENTS, *SESSIONS, gauge, introspection, introspection_free_text, preference, relief],
    ids=lambda one: one.__name__,
)
def test_whatever_a_parameter_is_given_a_task_comes_of_it_or_one_line_that_names_it(make: Callable):
    """No value ends in a traceback, in several lines, or in words that do not say which parameter is meant."""
    made = refused = 0
    for name in inspect.signature(make).parameters:
        for value in ODD:
            try:
                assert len(make(**{name: value}).dataset)
                made += 1
            except PrerequisiteError as error:
                said = str(error.message).strip()
                assert name in said, said
                assert len(said.splitlines()) == 1, said
                refused += 1
    assert made
    assert refused > made


@pytest.mark.parametrize(
    ("make", "argument", "tag"),
    [
        (gauge, "gauge=true", "true_gauge"),
        (gauge, "gauge=[constant, true]", "true_gauge"),
        (relief, "labels=true", "labels-true"),
        (relief, "labels=false", "labels-false"),
    ],
)
def test_names_that_yaml_reads_as_booleans_can_be_given_on_the_command_line(make: Callable, argument: str, tag: str):
    """Inspect reads values as YAML, where `true` alone is no word; what is said of the samples is in words again."""
    made = make(**parse_cli_args([argument]))
    assert tag in f"{made.tags} {[sample.id for sample in made.dataset]}"


def test_what_is_refused_on_the_command_line_is_all_that_is_said():
    """One sentence, wrapped to the width of the terminal, and an exit code that is not 0."""
    command = [INSPECT, "eval", "evals/introspection.py", "-T", "rotation=3", "--model", "mockllm/model"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603  our own
    said = (done.stdout + done.stderr).split("\n\n")
    assert done.returncode == 1
    assert [" ".join(part.split())[:83] for part in said if part.strip()] == [
        "rotation=3: introspection has no parameter 'rotation', did you mean 'rotations'? Choose from "[:83]
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evals/introspection.py", "-T", "arm=reel"], "arm='reel' is unknown; choose from real"),
        (
            ["evals/freeplay.py", "-M", "max_batch=4"],
            "-M max_batch=4: no model is named that it could be for; add --model",
        ),
        (
            ["evals/detection.py", "--model", "mockllm/model"],
            "mockllm/model cannot be steered; run this with --model nnsight",
        ),
        (
            ["{file}@plain", "--model", "mockllm/model", "--solver", "{solver}", "-S", "arm=reel"],
            "arm='reel' is unknown; choose from real, placebo, random, mislabelled",
        ),
        (["evals/detection.py", "--model", "{model}", "-T", "library={library}"], "the library in "),
        (["evals/detection.py", "--model", "nnsight/{nowhere}"], "{nowhere} is no model folder"),
        (["evals/detection.py", "--model", "{model}", "-M", "max_bach=4"], "unknown model arguments: max_bach; valid "),
        (
            ["evals/frustration.py", "--model", "{model}", "-T", "library={lacking}", "-T", "operators=add,ablate"],
            "clamp, ablate and the gauge start from the neutral stories' mean, which the library of tiny lacks; measure it with",
        ),
        (
            [
                "evals/localisation.py",
                "--model",
                "{model}",
                "-T",
                "library={own}",
                "-T",
                "vectors=calm",
                "-T",
                "max_imposed=3",
            ],
            "max_imposed=3: sample calm-0-A-real would have up to ",
        ),
        (
            ["evals/freeplay.py", "--model", "{model}", "-T", "library={own}", "-T", "gauge=true"],
            "gauge=true and arm=placebo: readings that no take moves give placebo away; choose from none, constant, reminder, or",
        ),
        (
            ["evals/relief.py", "--model", "{model}", "-T", "library={own}", "-T", "tries=3"],
            "tries=3 and answer=read: nothing is called there; leave tries out, or choose answer=act",
        ),
        (
            ["evals/relief.py", "--model", "{model}", "-T", "library={own}", "-T", "answer=act", "-T", "tries=0"],
            "tries=0; choose a whole number from 1 to 1000",
        ),
        (
            ["{file}@plain", "--model", "{model}", "--solver", "{solver}", "-S", "library={library}"],
            "the library in ",
        ),
    ],
)
def test_a_command_is_refused_before_the_first_sample(
    arguments: list[str], message: str, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Also what no parameter of the task is about, such as a library of another model."""
    monkeypatch.setenv("INSPECT_LOG_DIR", str(tmp_path / "logs"))
    monkeypatch.setenv("INSPECT_DISPLAY", "none")
    monkeypatch.chdir(ROOT)
    (tmp_path / "theirs.py").write_text(THEIRS)
    # The registry knows it with its package, or without where that is not installed by files.
    places = {
        "solver": registry_info(self_steer()).name,
        "file": tmp_path / "theirs.py",
        "library": tmp_path / "library",
        "lacking": tmp_path / "lacking",
        "nowhere": tmp_path / "nowhere",
        "model": str(tiny.model),
        "own": tiny.library,
    }
    save_library(places["library"], "f" * 32, names=CORE_VECTORS)
    save_library(places["lacking"], tiny.model.api.loaded.fingerprint)
    given = [part.format(**places) for part in arguments]
    done = CliRunner().invoke(inspect_command, ["eval", *given])
    assert isinstance(done.exception, Refusal), done.exception
    assert str(done.exception).startswith(message.format(**places))
    assert not list(tmp_path.glob("logs/*"))


@pytest.mark.parametrize("refuse", [partial(library_folder, "x" * 100_000), partial(check_dose, 10**600)])
def test_a_long_value_is_shown_in_part(refuse: Callable[[], object]):
    """Nobody reads, and no context holds, a message of 100,000 letters."""
    with pytest.raises(ValueError, match=r"letters\) …") as caught:
        refuse()
    assert len(str(caught.value)) < 2_000


def test_a_dose_of_more_digits_than_python_prints_is_refused():
    """A whole number of int of 5,000 digits is out of range, and no error of Python's."""
    with pytest.raises(PlanError, match="int of 5,000 digits is out of range"):
        check_dose(10**5_000)


def changed_card(folder: Path, **changes: object) -> None:
    card = json.loads((folder / CARD_FILE).read_text())
    (folder / CARD_FILE).write_text(json.dumps({**card, **changes}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": [-1, *LAYERS[1:]]}, "each larger than the one before"),
        ({"layers": LAYERS[::-1]}, "each larger than the one before"),
        ({"layers": [LAYERS[0]] * len(LAYERS)}, "each larger than the one before"),
        ({"default_doses": {"calm": float("nan"), "proud": 1.0}}, r"default_doses\.calm: .*finite"),
        ({"default_doses": {"calm": 1.0, "proud": float("inf")}}, r"default_doses\.proud: .*finite"),
    ],
)
def test_a_card_whose_layers_or_doses_make_no_sense_is_refused(changes: dict, message: str, tmp_path: Path):
    """Vectors would go to the wrong layers, or nothing that is a number would be added."""
    folder = Path(save_library(tmp_path / "library", "f"))
    changed_card(folder, **changes)
    with pytest.raises(LibraryError, match=message):
        load_library(folder, "f")


@pytest.mark.parametrize("dtype", [torch.float16, torch.int64])
def test_vectors_of_another_type_are_refused(dtype: torch.dtype, tmp_path: Path):
    """Even where the card vouches for the file."""
    folder = Path(save_library(tmp_path / "library", "f"))
    data = save({name: torch.ones(len(LAYERS), 64).to(dtype) for name in ("calm", "proud")})
    (folder / VECTORS_FILE).write_bytes(data)
    changed_card(folder, sha256={VECTORS_FILE: content_hash(data)})
    with pytest.raises(LibraryError, match=f"holds {dtype}, expected torch.float32"):
        load_library(folder, "f")


@pytest.mark.parametrize("how", ["folder", "loop"])
def test_a_card_that_is_no_file_is_refused(how: str, tmp_path: Path):
    """A folder or a link to itself in its place is told by its path."""
    folder = Path(save_library(tmp_path / "library", "f"))
    card = folder / CARD_FILE
    card.unlink()
    if how == "folder":
        card.mkdir()
    else:
        card.symlink_to(card)
    with pytest.raises(LibraryError, match=f"{card} cannot be read"):
        load_library(folder, "f")


def test_stories_that_are_nested_too_deep_are_refused(tmp_path: Path):
    """In TOML as in JSON."""
    folder = small_stories(tmp_path / "stories")
    (folder / "calm.toml").write_text(f"x = {DEEP}")
    with pytest.raises(CorpusError, match=r"calm\.toml cannot be read"):
        load_corpus(folder)
    (tmp_path / "deep.jsonl").write_text(f"{DEEP}\n")
    with pytest.raises(CorpusError, match=r"deep\.jsonl cannot be read: row 1"):
        open_corpus(tmp_path / "deep.jsonl")


@pytest.mark.parametrize("data", [b"", b"noise", b"PK\x05\x06" + bytes(18)])
def test_a_table_of_what_is_no_log_is_refused_by_name(data: bytes, tmp_path: Path, capsys: pytest.CaptureFixture):
    """An empty file, noise, and an archive without anything in it end in one line that names the file."""
    path = tmp_path / "some.eval"
    path.write_bytes(data)
    assert self_steering_command(["table", str(path)]) == 1
    assert f"self-steering: {path} is no Inspect log" in capsys.readouterr().err


def test_a_log_that_is_nested_too_deep_is_left_out_at_once(tmp_path: Path):
    """A kilobyte of brackets a level of depth would otherwise fill the memory of whoever reads it; brackets in texts do no harm."""
    (tmp_path / "deep.json").write_text('{"version": 2, "samples": ' + "[" * 2_000 + "]" * 2_000 + "}")
    (tmp_path / "words.json").write_text(json.dumps({"version": 2, "said": '\\"' + "[{" * 2_000}))
    reasons = read_tables(tmp_path).left_out.set_index("log").reason
    assert reasons["deep.json"] == "nested 2,001 deep, which no Inspect log is"
    assert reasons["words.json"].startswith("no Inspect log")


def test_a_report_of_a_link_to_itself_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture):
    """It names the link."""
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert self_steering_command(["report", str(loop), "--out", str(tmp_path / "out")]) == 1
    assert f"{loop} is a link to itself" in capsys.readouterr().err


def test_a_full_disk_is_named_and_nothing_is_left_on_it(tmp_path: Path):
    """The error of a full disk names no file by itself."""
    with pytest.raises(OSError, match=str(tmp_path)) as caught, naming(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(OSError, match="/dev/full"):
        write_full(tmp_path)


def write_full(folder: Path) -> None:
    write_file(folder / "whole", b"kept")
    with naming(Path("/dev/full")), Path("/dev/full").open("wb", buffering=0) as file:
        file.write(b"x")
