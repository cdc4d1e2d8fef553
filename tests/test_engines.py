"""Choosing an engine with `-M engine=…`: what goes with which, and what a machine without vLLM is told."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from inspect_ai.model import get_model

from self_steering.steering.engine.additions import Signatures, Span
from self_steering.steering.engine.open import ENGINE_ARGS, open_model
from self_steering.steering.identity import ModelError
from self_steering.steering.on_vllm.block_keys import steering_within
from self_steering.steering.on_vllm.settings import VLLM_ARGS
from tests.support.models import save_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model's folder."""
    return save_tiny_model(tmp_path_factory.mktemp("model") / "model")


def test_without_vllm_the_error_says_what_to_install(model: Path, monkeypatch: pytest.MonkeyPatch):
    """Through the provider, before the weights are loaded: both installations are named, and the way without."""
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "vllm" else found(name, *more))
    with pytest.raises(
        ModelError, match=r"needs vLLM.*pip install 'self-steering\[vllm\]'.*CPU build.*engine=transformers"
    ):
        get_model(f"nnsight/{model}", memoize=False, engine="vllm")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"engine": "tgi"}, r"engine is 'tgi'; choose one of transformers, vllm"),
        (
            {"engine": "vllm", "max_batch": 4},
            r"max_batch \(of engine=transformers\); valid with engine=vllm: .*max_num_seqs",
        ),
        ({"engine": "vllm", "device": "cpu"}, r"device \(of engine=transformers\)"),
        ({"engine": "vllm", "max_sequences": 4}, r"unknown model arguments: max_sequences; valid"),
        ({"engine": "vllm", "enforce_eager": False}, r"enforce_eager cannot be given.*compiled graphs leave out"),
        ({"engine": "vllm", "pipeline_parallel_size": 2}, r"pipeline_parallel_size cannot be given"),
        ({"tensor_parallel_size": 2}, r"tensor_parallel_size \(of engine=vllm\); valid with engine=transformers"),
        ({"engine": "transformers", "max_num_seqs": 2}, r"max_num_seqs \(of engine=vllm\)"),
    ],
    ids=str,
)
def test_arguments_that_do_not_go_with_the_engine_are_refused_by_name(model: Path, arguments: dict, message: str):
    """Each message has the argument and what may be given; arguments of the other engine are said to be that."""
    with pytest.raises(ModelError, match=message):
        get_model(f"nnsight/{model}", memoize=False, **arguments)


def test_engine_transformers_is_the_default(model: Path):
    """Named or not, it is the same engine."""
    opened = [open_model(str(model), arguments) for arguments in ({}, {"engine": "transformers", "max_batch": 100})]
    shapes = [one.engine.shape for one in opened]
    assert shapes[0] == shapes[1]
    assert [one.engine.max_concurrency for one in opened] == [64, 100]
    for one in opened:
        one.engine.close()


def test_the_documented_arguments_are_those_that_pass(model: Path):
    """The engine's README names every argument that goes to vLLM."""
    text = (Path(__file__).parent.parent / "steering/on_vllm/README.md").read_text(encoding="utf-8")
    assert [name for name in VLLM_ARGS if f"`{name}`" not in text and f"{name}=" not in text] == []
    assert ENGINE_ARGS["vllm"] == VLLM_ARGS


def test_signatures_tell_positions_apart_by_all_that_steers_them():
    """The same set has one number, whatever the order; each stretch between edges has its own."""
    signatures = Signatures()
    spans = [Span("b", 1.0, 2, 6), Span("a", -1.0, 4, None), Span("c", 0.0, 9, 9)]
    along = signatures.along(spans, 0, 8)
    assert [list(group) for group in (along[:2], along[2:4], along[4:6], along[6:])] == [[0, 0], [1, 1], [2, 2], [3, 3]]
    assert np.array_equal(signatures.along(spans[::-1], 3, 7), along[3:7])
    assert [(one.key, one.strength) for one in signatures.stack(2)] == [("a", -1.0), ("b", 1.0)]


def test_signatures_tell_operations_targets_and_their_order_apart():
    """What acts one after the other does not commute; additions in a row do."""
    add, more = Span("a", 1.0, 0, 1), Span("b", 2.0, 0, 1)
    clamp, higher = Span("a", 1.0, 0, 1, "clamp", (3.0,)), Span("a", 1.0, 0, 1, "clamp", (4.0,))
    ablate, gain = Span("a", 1.0, 0, 1, "ablate", (3.0,)), Span("a", 1.0, 0, 1, "gain")
    stacks = [[add], [clamp], [higher], [ablate], [gain], [add, clamp], [clamp, add], [gain, clamp], [clamp, gain]]
    signatures = Signatures()
    assert len({signatures.of(stack) for stack in stacks}) == len(stacks)
    assert signatures.of([add, more, clamp]) == signatures.of([more, add, clamp])
    assert signatures.of([add, clamp, more]) != signatures.of([more, clamp, add])
    within = {steering_within(stack, 0, 4) for stack in stacks}
    assert len(within) == len(stacks)


def test_a_blocks_key_speaks_of_its_own_tokens_alone():
    """Where a window began or will end does not matter, as long as it is outside of the block."""
    inside = steering_within([Span("a", 1.0, 2, 40)], 16, 32)
    assert inside == (("a", 1.0, 0, 16),)
    assert steering_within([Span("a", 1.0, 15, None)], 16, 32) == inside
    assert steering_within([Span("a", 1.0, 0, 16), Span("a", 1.0, 32, None)], 16, 32) == ()
    assert steering_within([Span("b", 1.0, 20, 21), Span("a", 2.0, 31, None)], 16, 32) == (
        ("a", 2.0, 15, 16),
        ("b", 1.0, 4, 5),
    )
