"""Estimates: tokens as the logs have them, arithmetic that can be done by hand, and a page whose figures are the command's."""

import json
import re
import shlex
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from self_steering.analysis.tables import read_tables
from self_steering.evals.freeplay import freeplay
from self_steering.evals.introspection import introspection
from self_steering.evals.sweep import TASKS
from self_steering.evals.token_counts import TokenCount, read_token_counts, written_token_counts
from self_steering.vectors.cli import main
from tests.scripted import Tiny, says, turn_by_turn

PAGE = Path(__file__).parent.parent / "evals" / "SCALE.md"
GRID = """
[one]
about = "one eval"
[[one.evals]]
task = "comparison"
parameters = { vectors = "calm,anxious", arm = "real,placebo", n_per_vector = 2 }
"""
PLAIN = {"model": "m", "sizes": ""}


def estimate(capsys: pytest.CaptureFixture, *arguments: object) -> str:
    """Run the command, which must succeed, and return what it says."""
    code = main(["estimate", *map(str, arguments)])
    said = capsys.readouterr()
    assert code == 0, said.err
    return said.out


def refused(capsys: pytest.CaptureFixture, *arguments: object) -> str:
    """Run the command, which must fail with one line, and return the line."""
    assert main(["estimate", *map(str, arguments)]) == 1
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.fixture
def one(tmp_path: Path) -> list[str]:
    """Arguments for a grid of eight samples, each of 3600 computed, 400 reused and 720 decoded tokens."""
    (tmp_path / "grid.toml").write_text(GRID)
    counts = [
        TokenCount(
            task="comparison", arm=arm, **PLAIN, samples=2, requests=8, prompt=8000, computed=7200, decoded=1440,
            decoded_least=360, decoded_most=1080, longest=2000,
        )
        for arm in ("real", "placebo")
    ]  # fmt: skip
    (tmp_path / "tokens.csv").write_bytes(written_token_counts(counts))
    return ["one", "--grids", str(tmp_path / "grid.toml"), "--tokens", str(tmp_path / "tokens.csv"), "--engines", "1"]


def row(said: str, name: str) -> list[str]:
    """Return the cells of a table's row."""
    return next(re.split(r" {2,}", line) for line in said.splitlines() if line.startswith(f"{name}  "))


def test_hours_are_tokens_over_the_stated_rates(one: list[str], capsys: pytest.CaptureFixture):
    """8 x 3600 tokens at 8 a second are an hour, 8 x 720 at 1.6 another; the shortest have 360."""
    said = estimate(capsys, *one, "--prefill", 8, "--decode", 1.6, "--engines", 2)
    assert row(said, "comparison") == ["comparison", "8", "0.03", "0.00", "0.01", "2.0 h", "1.5 h to 2.0 h", "1.0 h"]
    assert row(said, "all")[5:] == ["2.0 h", "1.5 h to 2.0 h", "1.0 h"]
    assert "longest of 2 shards" in said
    assert "8 tokens a second (stated)" in said
    assert "assumed" not in said


def test_the_limit_is_every_turn_that_a_task_allows(capsys: pytest.CaptureFixture):
    """Six rollouts of 15 turns and two closing answers, each of 120 tokens, the first of which comes with its prompt."""
    given = ("small", "--only", "freeplay", "-T", "turns=15", "-T", "max_tokens=120", "--engines", 1)
    said = estimate(capsys, *given, "--prefill", 1e12, "--decode", 6 * 17 * 119 / 3600)
    assert row(said, "freeplay")[6].endswith(" to 1.0 h")


def test_rates_follow_from_the_card_where_none_are_stated(one: list[str], capsys: pytest.CaptureFixture):
    """Prefill: arithmetic over two operations a parameter. Decoding: bandwidth over weights and all rollouts' keys and values."""
    said = estimate(capsys, *one, "--concurrent", 4)
    prefill = 989e12 * 0.4 / (2 * 8190735360)
    decode = 4 * 3350e9 * 0.5 / (8190735360 * 2 + 4 * 2000 * 147456)
    assert f"prefill: {prefill:,.0f} tokens a second (40% of the data sheet's arithmetic, assumed)" in said
    assert f"decode: {decode:,.0f} tokens a second, all rollouts together (50% of" in said
    assert f"prefill: {2 * prefill:,.0f} tokens" in estimate(capsys, *one, "--tensor-parallel", 2)


@pytest.mark.parametrize(
    ("model", "billions", "weights", "token"),
    [("Qwen/Qwen3-8B", "8.19", "16.4 GB", "147 kB"), ("nnsight/Qwen/Qwen3-32B", "32.76", "65.5 GB", "262 kB")],
)
def test_models_have_the_size_that_was_published(
    one: list[str], model: str, billions: str, weights: str, token: str, capsys: pytest.CaptureFixture
):
    """8.2 and 32.8 billion parameters; keys and values of 8 heads of 128 in 36 and 64 layers."""
    said = estimate(capsys, *one, "--model", model)
    assert f"{billions} billion parameters" in said
    assert row(said, "weights")[1] == weights
    assert row(said, "keys and values, one token")[1] == token


def test_what_is_left_of_a_card_goes_to_rollouts_and_cache(one: list[str], capsys: pytest.CaptureFixture):
    """90 % of 80 GB, less weights and vectors, holds the batch; the rest is cache."""
    said = estimate(capsys, *one, "--concurrent", 10)
    sizes = {name: row(said, name)[1] for name in ("keys and values, 10 rollouts", "left for the prefix cache")}
    assert sizes == {"keys and values, 10 rollouts": "2.9 GB", "left for the prefix cache": "52.7 GB"}
    assert row(said, "vector library, 40 vectors")[1] == "5.9 MB"
    assert "12 rollouts at a time" in estimate(capsys, *one, "--model", "Qwen/Qwen3-32B")


def test_a_config_file_is_read_as_the_model_that_it_is(one: list[str], tiny: Tiny, capsys: pytest.CaptureFixture):
    """A folder or its config.json: parameters are those of the real model."""
    folder = Path(str(tiny.model).partition("/")[2])
    real = AutoModelForCausalLM.from_pretrained(folder).num_parameters()
    said = estimate(capsys, *one, "--model", folder, "--dtype", "float32")
    assert said == estimate(capsys, *one, "--model", folder / "config.json", "--dtype", "float32").replace(
        "/config.json", ""
    )
    assert row(said, "weights")[1] == f"{real * 4 / 1e6:.1f} MB" if real * 4 > 1e6 else f"{real * 4 / 1e3:.0f} kB"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "Qwen/Qwen9"], "choose from Qwen/Qwen3-8B, Qwen/Qwen3-32B, or name a config.json or its folder"),
        (["--card", "abacus"], "the card 'abacus' is unknown; choose from h100-80gb, a100-80gb"),
        (["--dtype", "int3"], "the dtype 'int3' is unknown; choose from bfloat16, float16, float32"),
        (
            ["--model", "Qwen/Qwen3-32B", "--dtype", "float32"],
            "weights 131.0 GB of 72.0 GB; give a larger --tensor-parallel",
        ),
        (["--engines", "9"], "has 4 blocks of samples; choose a number from 1 to 4"),
        (["--tokens", "nowhere.csv"], "nowhere.csv: there is no such file; make it with"),
        (["--tokens", "{grid}"], "is no table of token counts"),
        (["--measure", "{empty}"], "--measure: name the file to write with --tokens FILE"),
        (["--measure", "{empty}", "--tokens", "{empty}/x"], "no log in the folder"),
        (["three"], "the sweep 'three' is unknown; choose from one"),
    ],
)
def test_mistakes_are_named_with_what_can_be_chosen(
    one: list[str], arguments: list[str], said: str, capsys: pytest.CaptureFixture, tmp_path: Path
):
    """One line, with the value and the remedy."""
    (tmp_path / "empty").mkdir()
    given = [part.format(grid=tmp_path / "grid.toml", empty=tmp_path / "empty") for part in arguments]
    given = given if "--measure" in given and "--tokens" not in given else [*one[1:], *given]
    assert said in " ".join(
        refused(capsys, *(given if "three" in given or "--measure" in given else ["one", *given])).split()
    )


@pytest.mark.parametrize(
    "option", ["--engines=0", "--tensor-parallel=1.5", "--prefill=-1", "--decode=nan", "--memory-share=2"]
)
def test_numbers_that_make_no_sense_are_refused(option: str, capsys: pytest.CaptureFixture):
    """As argparse refuses: with the option and what it takes."""
    with pytest.raises(SystemExit):
        main(["estimate", option])
    assert "choose a" in capsys.readouterr().err


def test_a_mixture_of_experts_is_refused(one: list[str], capsys: pytest.CaptureFixture, tmp_path: Path):
    """Its active parameters are not all of them: the arithmetic would be wrong without a word."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3_moe", "num_experts": 8}))
    assert "mixture of experts (num_experts)" in refused(capsys, *one, "--model", tmp_path)


def test_what_was_not_measured_is_said(one: list[str], capsys: pytest.CaptureFixture):
    """A condition stands by what is most like it, a size that differs asks for another measurement, a task for a first."""
    said = estimate(capsys, *one, "-T", "arm=random", "--engines", 1)
    assert "comparison: not measured, taken from what is most like it: random." in said
    turns = estimate(capsys, "small", "--only", "freeplay", "--engines", 1)
    assert re.search(
        r"freeplay is planned with turns=6 max_tokens=60 .*, and was measured with turns=15 max_tokens=120", turns
    )
    assert "the tokens of maths were not measured, only those of comparison" in refused(
        capsys, "small", "--only", "maths", "--tokens", one[4]
    )


def test_tokens_are_measured_as_the_logs_have_them(tiny: Tiny, capsys: pytest.CaptureFixture, tmp_path: Path):
    """Per task and condition: the same prompt and computed tokens as the tables', and the tokens decoded beside them."""
    script = turn_by_turn(says("Hm."), says("I am done.", ("end_session", {})))
    folder = {"library": str(tiny.library)}
    tiny.run(
        freeplay(vectors="calm,anxious", framing="drugs", rollouts=2, turns=3, max_tokens=5, **folder),
        script,
        log_dir=str(tmp_path),
    )
    read = introspection(vectors="calm", arm="real,placebo", options=2, rotations=2, **folder)
    tiny.run(read, log_dir=str(tmp_path))
    file = tmp_path / "tokens.csv"
    assert "6 samples in 4 conditions" in estimate(capsys, "--measure", tmp_path, "--tokens", file)
    counts = {(count.task, count.arm): count for count in read_token_counts(file).rows}
    rollouts = read_tables(tmp_path).rollouts.groupby(["task", "arm"])[["computed_tokens", "prompt_tokens"]].sum()
    for key, count in counts.items():
        computed, prompt = rollouts.loc[key]
        assert (count.computed + count.decoded, count.prompt + count.decoded) == (computed, prompt)
        assert count.decoded_least * count.samples <= count.decoded <= count.decoded_most * count.samples
    assert counts["introspection", "real"].decoded == 0  # a reading is the first token of its prompt
    assert counts["introspection", "real"].requests == 4
    played = counts["freeplay", "real"]
    assert (played.samples, played.framing) == (2, "drugs")
    assert "turns=3 max_tokens=5" in played.sizes


def test_logs_of_different_sizes_are_not_measured_together(tiny: Tiny, capsys: pytest.CaptureFixture, tmp_path: Path):
    """Means over two sizes are of neither."""
    for rotations in (1, 2):
        task = introspection(vectors="calm", arm="real", options=2, rotations=rotations, library=str(tiny.library))
        tiny.run(task, log_dir=str(tmp_path))
    assert "measure them apart" in refused(capsys, "--measure", tmp_path, "--tokens", tmp_path / "tokens.csv")


def test_the_shipped_counts_are_of_the_study(capsys: pytest.CaptureFixture):
    """Every task, every framing, arm and primer of its grid, at its own turns and lengths: nothing stands by something else."""
    assert {count.task for count in read_token_counts().rows} == set(TASKS)
    said = estimate(capsys, "study")
    assert "not measured" not in said
    assert "measure it again" not in said


def console_blocks() -> list[tuple[str, str]]:
    """Return the page's (command, what it prints)."""
    found = re.findall(
        r"```console\n\$ self-steering (estimate.*?)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL
    )
    assert len(found) > 2
    return found


@pytest.mark.parametrize(("command", "printed"), console_blocks())
def test_the_pages_figures_are_the_commands(command: str, printed: str, capsys: pytest.CaptureFixture):
    """`evals/SCALE.md` shows what the command prints, to the letter."""
    assert estimate(capsys, *shlex.split(command)[1:]).strip() == printed.strip()
