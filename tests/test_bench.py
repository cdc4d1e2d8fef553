"""The benchmark's parts run: what they measure is theirs to say, that they still measure it is held here."""

import pytest

from self_steering.analysis.drawing.words import text_table
from tests.bench import reuse
from tests.bench.__main__ import Results
from tests.bench.contest import BAND, PLAIN
from tests.bench.launch import SHAPES, measure

pytestmark = pytest.mark.slow


def test_tokens_of_an_introspection_are_counted_alike_by_its_log_and_its_engine():
    shared = reuse.introspection_sharing(rotations=1)
    assert 0 < shared.distinct <= shared.computed < 1


def test_a_free_play_computes_each_of_its_tokens_about_once():
    assert 1 <= reuse.conversation_ratio(seeds=(0,)) < 2


def test_the_launch_bound_contest_fills_its_table_and_its_file():
    results = Results()
    shape = SHAPES["Qwen3, 36 layers"]._replace(layers=2, vocabulary=1_000)
    results.launch = {"tiny": measure(shape, rounds=1, new={1: 4, 2: 4})}
    results.figures["launch_1"] = results.launch["tiny"].ratio(BAND, PLAIN, 1)
    assert BAND in text_table(results.speed_rows())
    assert {figure["name"] for figure in results.as_json(rounds=1)["figures"]} == {
        row["figure"] for row in results.figure_rows()
    }
