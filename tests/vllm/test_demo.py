"""The bundled model's introspection on both engines."""

from pathlib import Path

from self_steering.steering.bundled.conversion import BUNDLED
from tests.vllm import demo


def test_read_outs_of_the_bundled_model_are_the_same_on_both_engines(tmp_path: Path):
    """Two vectors in four arms: every letter's log-probability, and what was steered where."""
    fixed = {"vectors": "calm,anxious", "random_directions": 2}
    one, other = (demo.run(engine, BUNDLED, tmp_path, **fixed) for engine in demo.ENGINES)
    assert len(one.gaps) == 8
    assert len(one.readouts) > 30
    assert sum(map(len, one.receipts.values())) > 10
    assert demo.difference(one, other) < demo.TOLERANCE
