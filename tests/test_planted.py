"""What the introspection scores say where the answer is known: models with a planted effect, and with planted artefacts.

The whole way is taken: real provider, engine, chat, solver, scorer and statistics, over models whose weights are set by hand.
"""

from pathlib import Path

import pandas as pd
import pytest
from inspect_ai import eval  # noqa: A004  Inspect's name for it
from inspect_ai.model import get_model

from self_steering.analysis.introspection.arms import arm_effect, primary_effects, scored_table
from self_steering.evals.detection import detection
from self_steering.evals.introspection import introspection
from self_steering.scorers.identification import Identification, identify
from tests.support.planted_model import LETTERS, Residue, save_planted_library, save_planted_model

pytestmark = pytest.mark.slow

ALL = len(LETTERS)
CHANCE = 1 / ALL


def asked(folder: Path, residue: Residue, *runs: dict) -> list[pd.DataFrame]:
    """Return the scored samples of each run on a planted model, that in most rotations first."""
    model = get_model(f"nnsight/{save_planted_model(folder / 'model', residue)}", memoize=False)
    try:
        library = str(save_planted_library(folder / "library", model))
        tasks = [introspection(vectors="all", options=ALL, library=library, **run) for run in runs]
        logs = eval(tasks, model=model, log_dir=str(folder), display="none", log_realtime=False, score_display=False)
    finally:
        model.api.close()
    assert [log.status for log in logs] == ["success"] * len(runs), [log.error for log in logs]
    return [scored_table(log) for log in sorted(logs, key=lambda log: -log.eval.task_args["rotations"])]


# One rotation leaves the liking for letters in, so that the artefacts have what they can feign with.
ONE_ROTATION = {"rotations": 1, "arm": "real,other"}


@pytest.fixture(scope="module")
def recognition(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A model whose residue raises its own option: in all rotations with controls, and in one."""
    full = {"rotations": ALL, "arm": "real,placebo,random,other", "random_directions": ALL}
    return tuple(
        asked(
            tmp_path_factory.mktemp("recognition"),
            "own option",
            full,
            {"rotations": 1, "n_per_vector": 2, "arm": "real"},
        )
    )


@pytest.fixture(scope="module")
def letter(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A model whose residue raises the letter C whatever the vector: in all rotations, and in one."""
    full = {"rotations": ALL, "arm": "real"}
    return tuple(asked(tmp_path_factory.mktemp("letter"), "letter C", full, ONE_ROTATION))


@pytest.fixture(scope="module")
def attractor(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """A model whose residue raises the option calm whatever the vector, in one rotation."""
    return asked(tmp_path_factory.mktemp("attractor"), "option calm", ONE_ROTATION)[0]


def comparisons(samples: pd.DataFrame) -> dict[str, dict]:
    return {row["comparison"]: row for row in primary_effects(samples)}


def identified(samples: pd.DataFrame, arm: str = "real") -> Identification:
    return identify(samples.loc[samples["arm"] == arm, "answered"].tolist())


def test_a_planted_effect_is_found(recognition):
    """The true option gains far beyond chance, and beyond what it gains under other and random vectors."""
    full, _ = recognition
    assert arm_effect(full, "real")["difference_low"] > 0.3
    found = comparisons(full)
    for against in ("real - random", "real - other"):
        assert found[against]["difference_low"] > 0.3
        assert found[against]["p_holm"] < 0.001
    random = pd.DataFrame(full["gaps"][full["arm"] == "random"].sum())
    assert random.groupby("direction")["gap"].mean().max() < full["gap"][full["arm"] == "real"].mean()
    assert (identified(full).accuracy_corrected, identified(full).accuracy_moved) == (1, 1)


def test_a_planted_effect_gives_nothing_where_it_was_not_applied(recognition):
    """Strength zero changes no score at all; other and random vectors do not raise the true option."""
    full, _ = recognition
    assert set(full["gap"][full["arm"] == "placebo"]) == {0.0}
    assert arm_effect(full, "other")["difference"] == pytest.approx(0, abs=0.01)
    assert arm_effect(full, "random")["difference"] == pytest.approx(0, abs=0.05)


def test_every_planned_steering_was_done(recognition, letter, attractor):
    """Planted results rest on clean receipts."""
    for samples in (*recognition, *letter, attractor):
        assert (samples["clean_receipt"] == 1).all()


def test_a_planted_effect_is_found_in_one_rotation(recognition):
    """The liking for letters that stays in does not hide it."""
    _, one = recognition
    found = identified(one)
    assert (found.accuracy_corrected, found.balanced_accuracy) == (1, 1)
    assert found.information_p < 0.01


def test_a_letter_raised_by_any_vector_is_no_effect_over_all_rotations(letter):
    """Every option stands on C once: not the true one alone gains."""
    full, _ = letter
    assert set(full["gap"].round(3)) == {0.0}


@pytest.mark.parametrize("artefact", ["letter", "attractor"])
def test_a_planted_artefact_is_not_taken_for_an_effect(artefact: str, letter, attractor):
    """With one rotation options on C, or calm, do gain; yet the corrected scores stay at chance, and other vectors gain as much."""
    samples = letter[1] if artefact == "letter" else attractor
    assert samples["gap"][samples["arm"] == "real"].max() > 0.3
    found = identified(samples)
    assert abs(found.accuracy_corrected - CHANCE) <= 0.15
    assert abs(found.accuracy_moved - CHANCE) <= 0.15
    assert found.information_p > 0.05
    effects = comparisons(samples)
    assert effects["real"]["difference_low"] < 0
    assert effects["real - other"]["difference"] <= 1e-6


def test_an_attractor_takes_the_raw_answers_but_not_the_corrected_ones(attractor):
    """The raw answer is calm wherever it is offered; above its mean under other vectors it is not."""
    answered = attractor.loc[attractor["arm"] == "real", "answered"]
    offered = [one for one in answered if "calm" in one.shares]
    assert {one.raw for one in offered} == {"calm"}


def test_answers_that_only_draw_together_are_no_detection(tmp_path: Path):
    """A model whose residue does nothing but shrink all log-odds says yes more readily where its default is no."""
    model = get_model(f"nnsight/{save_planted_model(tmp_path / 'model', 'even odds')}", memoize=False)
    try:
        library = str(save_planted_library(tmp_path / "library", model))
        task = detection(vectors="calm", arm="real,placebo", doses=1, library=library)
        (log,) = eval(task, model=model, display="none", log_dir=str(tmp_path), log_realtime=False)
    finally:
        model.api.close()
    assert log.status == "success", log.error
    for sample in log.samples:
        value = next(iter(sample.scores.values())).value
        if sample.metadata["arm"] == "placebo":
            assert value["shift"] == value["beyond_line"] == 0
        else:
            assert value["net_shift"] > 0.1
            assert abs(value["beyond_line"]) < 0.05 * value["net_shift"]
            assert value["line_slope"] < -0.2
