"""Vectors from pairs of texts: what is read where, and the same evidence as for stories."""

import json
from pathlib import Path

import pytest
import torch
from inspect_ai.model import ChatMessageUser

from self_steering.analysis.cli import main
from self_steering.steering.chat import ChatRenderer
from self_steering.steering.models import LoadedModel, load_model
from self_steering.vectors.card import LibraryError
from self_steering.vectors.library import load_library
from self_steering.vectors.making.pairs import read_pairs
from self_steering.vectors.report import read_report
from tests.support.models import save_tiny_model

LAYERS = (2, 3)
PAIRS = [
    {"positive": f"No, I must refuse the {thing} with regret (A", "negative": f"Yes, here is the {thing} at once (B"}
    for thing in ("boat", "lamp", "recipe", "letter", "map")
]
ANSWERS = [
    {
        "name": "haste",
        "prompt": f"How do I mend a {thing}?",
        "positive": f"Quick: glue the {thing}.",
        "negative": f"In time, the {thing} mends.",
    }
    for thing in ("boat", "lamp", "chair", "kettle")
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model's folder."""
    return save_tiny_model(tmp_path_factory.mktemp("tiny"), "llama")


@pytest.fixture(scope="module")
def loaded(tiny: Path) -> LoadedModel:
    """The same, loaded."""
    return load_model(str(tiny))


def write(path: Path, rows: list) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def build(tiny: Path, pairs: Path, out: Path, *more: str) -> int:
    arguments = ["vectors", "build", "--model", str(tiny), "--pairs", str(pairs), "--out", str(out)]
    return main([*arguments, "--layers", "2-3", "--default-dose", "1", *more])


def hidden(loaded: LoadedModel, ids: list[int]) -> torch.Tensor:
    """Return what each steered layer puts out, [layers, tokens, hidden], as transformers tells it."""
    with torch.no_grad():
        states = loaded.model(torch.tensor([ids]), output_hidden_states=True).hidden_states
    return torch.stack([states[layer + 1][0] for layer in LAYERS])


@pytest.mark.parametrize(("read", "skip"), [("last", 0), ("mean", 0), ("mean", 3)])
def test_a_vector_is_the_difference_of_means(read: str, skip: int, tiny: Path, loaded: LoadedModel, tmp_path: Path):
    """Of the last tokens, as in contrastive activation addition, or of all after those that are skipped."""
    pairs = write(tmp_path / "refusal.jsonl", PAIRS)
    assert build(tiny, pairs, tmp_path / "out", "--read", read, "--skip-tokens", str(skip)) == 0

    def mean(side: str) -> torch.Tensor:
        of = [hidden(loaded, loaded.tokenizer(pair[side])["input_ids"]) for pair in PAIRS]
        return torch.stack([one[:, -1] if read == "last" else one[:, skip:].mean(1) for one in of]).mean(0)

    found = load_library(tmp_path / "out", loaded.fingerprint).vector("refusal")
    assert torch.allclose(found, mean("positive") - mean("negative"), atol=1e-5)


def test_an_answer_is_read_behind_its_prompt(tiny: Path, loaded: LoadedModel, tmp_path: Path):
    """As persona vectors are: the mean over the response, in the chat that it answers."""
    assert build(tiny, write(tmp_path / "p.jsonl", ANSWERS), tmp_path / "out") == 0
    renderer = ChatRenderer(loaded.tokenizer, loaded.end_ids)

    def mean(side: str) -> torch.Tensor:
        means = []
        for pair in ANSWERS:
            before = renderer.render([ChatMessageUser(content=pair["prompt"])], []).ids
            own = loaded.tokenizer(pair[side], add_special_tokens=False)["input_ids"]
            means.append(hidden(loaded, [*before, *own])[:, len(before) :].mean(1))
        return torch.stack(means).mean(0)

    found = load_library(tmp_path / "out", loaded.fingerprint).vector("haste")
    assert torch.allclose(found, mean("positive") - mean("negative"), atol=1e-5)


def test_pairs_give_the_evidence_that_stories_give(tiny: Path, tmp_path: Path):
    """Held-out AUROC, reliability, tokens and a page; two vectors of one file have their cosine."""
    more = [{**pair, "name": "refusal"} for pair in PAIRS]
    assert build(tiny, write(tmp_path / "p.jsonl", [*more, *ANSWERS]), tmp_path / "out") == 0
    report = read_report(tmp_path / "out")
    assert (report.construction, report.names, report.settings) == ("pairs", ["refusal", "haste"], 9)
    for one in report.vectors.values():
        assert one.separation is not None
        assert 0 <= one.separation.auroc_band <= 1
        assert one.separation.reliability is not None
        assert len(one.top_tokens) == 10
    assert "9 pairs of texts" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"positive": "a"}], r"row 1: negative: Field required"),
        ([PAIRS[0], {**PAIRS[0], "colour": "red"}], r"row 2: colour: Extra inputs"),
        ([PAIRS[0], "text"], r"row 2: Input should be an object"),
        ([PAIRS[0]], r"fewer than 2 pairs of p; write more"),
        ([], r"fewer than 2 pairs of anything"),
        ([{**PAIRS[0], "name": "a b"}], r"row 1: 'a b' is no name"),
    ],
)
def test_what_is_no_pair_is_named_by_its_row(rows: list, message: str, tmp_path: Path):
    """In one line."""
    with pytest.raises(LibraryError, match=message) as raised:
        read_pairs(write(tmp_path / "p.jsonl", rows))
    assert len(str(raised.value).splitlines()) == 1


def test_pairs_and_stories_are_not_mixed(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    """Options that are for stories would be ignored."""
    pairs = write(tmp_path / "p.jsonl", PAIRS)
    assert build(tiny, pairs, tmp_path / "out", "--construction", "centred", "--states", "calm") == 1
    assert "--pairs was given with --states, --construction" in capsys.readouterr().err
