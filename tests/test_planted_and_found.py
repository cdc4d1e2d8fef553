"""What was planted in the bundled model beside what logs show: drawn from the truth it is found, drawn from another it is not."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from self_steering.analysis.report.planted import planted_and_found, planted_beside_found, planted_text
from self_steering.analysis.tables import Tables, empty_tables
from self_steering.analysis.tables.columns import COLUMNS, typed
from self_steering.steering.bundled.conversion import BUNDLED, BUNDLED_BASE
from self_steering.steering.bundled.planted import Planted, planted
from tests.support.simulated_readouts import simulated_preferences

MENU = ("calm", "creative", "curious", "lsd", "spice", "proud", "soma", "weed", "honest", "goblins")
EVEN = Planted(weights={}, doses={"1.0": 1.0}, again=0.0, tones=dict.fromkeys(planted().tones, 0.9), held_out=())


def logs(truth: Planted, seed: int, model: str = BUNDLED, rollouts: int = 60, arm: str = "real") -> Tables:
    """Return tables of free play and frustration of a model that does what a truth says, in one arm."""
    rng = np.random.default_rng(seed)
    rows: dict[str, list[Mapping[str, Any]]] = {"logs": [], "rollouts": [], "takes": []}
    for number in range(rollouts):
        about = _about(model, "freeplay", str(number), intent="neutral")
        last = None
        for order in range(6):
            shares = truth.takes(MENU, last)
            name, dose = list(shares)[rng.choice(len(shares), p=list(shares.values()))]
            last = name
            said = {"name": name, "taken": name, "dose": 1.0 if dose is None else dose, "order": order, "turn": order}
            rows["takes"].append({**about, **said, "known": True, "ok": True, "scripted": False, "after_sitter": False})
        rows["rollouts"].append({**about, "turns": 8, "takes": 6, "steered": True})
        for tone in truth.tones:
            took = rng.random() < truth.after(tone, 5)
            framed = _about(model, "frustration", f"{tone}{number}", intent="neutral", tone=tone, possible=True)
            rows["rollouts"].append(
                {**framed, "problem": f"p{number}", "turns": 6, "takes": int(took), "steered": bool(took)}
            )
    for family in ("freeplay", "frustration"):
        rows["logs"].append({**_about(model, family, ""), "samples": rollouts, "menu": " ".join(MENU), "rounds": 5.0})
    arms = {name: [{**row, "arm": arm} for row in members] for name, members in rows.items()}
    return replace(empty_tables(), **{name: _table(members, name) for name, members in arms.items()})


def both_arms(real: Planted, placebo: Planted, seed: int) -> Tables:
    """Return tables of the same model with an arm of its own for each truth."""
    one, other = logs(real, seed), logs(placebo, seed + 100, arm="placebo")
    other.logs["log"] += "-placebo"
    for table in (other.rollouts, other.takes):
        table[["log", "rollout"]] += "-placebo"
    names = [field.name for field in fields(Tables)]
    return Tables(**{name: pd.concat([getattr(one, name), getattr(other, name)], ignore_index=True) for name in names})


def _about(model: str, family: str, rollout: str, **more: Any) -> dict[str, Any]:
    return {
        "log": f"{model}-{family}",
        "source": "self_steering",
        "task": family,
        "family": family,
        "model": model,
        "arm": "real",
        "framing": "vectors",
        "sample": rollout,
        "epoch": 1,
        "rollout": f"{model}-{family}-{rollout}",
        **more,
    }


def _table(rows: Sequence[Mapping[str, Any]], name: str) -> pd.DataFrame:
    return typed(pd.DataFrame(rows, columns=list(COLUMNS[name])).astype(object), name)


@pytest.mark.slow
def test_what_is_drawn_from_the_truth_is_found():
    """Nearly every figure's interval holds what was planted, over several draws."""
    found = pd.concat([planted_and_found(logs(planted(), seed), planted()) for seed in range(6)])
    told = found[found["holds"].notna()]
    assert len(told) == 6 * (len(planted().weights) + 3 + len(planted().tones))
    assert told["holds"].mean() > 0.85


def test_what_is_drawn_from_another_truth_is_not_found():
    """A model that takes all alike, never at a negative dose, and nearly always after rejections, is told from the planted one."""
    table = planted_and_found(logs(EVEN, 0), planted()).set_index("figure")
    for figure in ("takes of calm", "takes at a negative dose", "rollouts that take something, neutral rejections"):
        assert not table.loc[figure, "holds"]


def held(table: pd.DataFrame, experiment: str, arm: str) -> pd.Series:
    """Return whether what was planted holds, by figure."""
    rows = table[(table["experiment"] == experiment) & (table["arm"] == arm)]
    return rows.set_index("figure")["holds"]


def test_a_liking_for_names_is_the_same_under_placebo():
    """The planted shares are found in both arms, and their difference is none; where only what acts is liked it is not."""
    by_name = pd.concat([planted_and_found(both_arms(planted(), planted(), seed), planted()) for seed in range(4)])
    for arm in ("real", "placebo"):
        takes = held(by_name, "free play", arm)
        assert takes[[f"takes of {name}" for name in planted().weights]].mean() > 0.8
    assert held(by_name, "free play", "real − placebo").mean() > 0.8
    assert set(by_name[by_name["arm"] == "real − placebo"]["planted"]) == {"none"}
    by_state = planted_and_found(both_arms(planted(), EVEN, 0), planted())
    assert not held(by_state, "free play", "real − placebo")["share of takes of calm"]
    assert not held(by_state, "free play", "placebo")["takes of calm"]


def test_under_letters_no_liking_for_names_is_found():
    """A model that chooses evenly holds, one that chooses calm for what it does is told from it."""
    names = ("calm", "creative", "curious", "lsd", "proud", "honest")
    even = [
        planted_and_found(simulated_preferences(dict.fromkeys(names, 0.0), 8, seed, model=BUNDLED), planted())
        for seed in range(4)
    ]
    assert set(pd.concat(even)["planted"]) == {"none", 0.05}
    assert held(pd.concat(even), "preference", "real").mean() > 0.8
    liking = simulated_preferences({name: 2.0 * (name == "calm") for name in names}, 8, 0, model=BUNDLED)
    found = held(planted_and_found(liking, planted()), "preference", "real")
    assert not found["strength of calm, under letters"]
    text = planted_text(planted_and_found(liking, planted()))
    assert [line.split()[-1] for line in text.splitlines() if "strength of calm" in line] == ["NO"]


def test_what_is_taken_under_opaque_labels_is_not_by_name():
    """Such takes have no part in what was planted, which are names."""
    hidden = logs(planted(), 0, rollouts=4)
    hidden.takes["labels"] = "opaque"
    assert "free play" not in set(planted_and_found(hidden, planted())["experiment"])


def test_nothing_is_planted_in_the_untouched_model():
    """Its figures are there for comparison, and none of them holds or fails."""
    table = planted_and_found(logs(planted(), 0, BUNDLED_BASE, rollouts=8), planted())
    assert len(table)
    assert table["planted"].isna().all()
    assert table["holds"].isna().all()
    assert planted_beside_found(logs(planted(), 0, BUNDLED_BASE, rollouts=8)) is None


def test_other_models_are_left_out():
    """A log of any other model has no part in it."""
    assert planted_and_found(logs(planted(), 0, "qwen3-8b", rollouts=4), planted()).empty


def test_a_planted_share_is_that_of_what_was_listed():
    """The planted share is averaged over the very takes: of a vector beside those of its menu, and after itself."""
    table = planted_and_found(logs(planted(), 1, rollouts=200), planted()).set_index("figure")
    weights = [planted().weights.get(name, 1.0) for name in MENU]
    first = planted().weights["calm"] / sum(weights)
    assert table.loc["takes of calm", "planted"] == pytest.approx(first, abs=0.02)
    again = planted().again + (1 - planted().again) * sum((w / sum(weights)) ** 2 for w in weights)
    assert table.loc["takes of what was taken last", "planted"] == pytest.approx(again, abs=0.02)


def test_the_terminal_and_the_figure_say_the_same():
    """Both show every figure with what was planted and what was found."""
    tables = logs(planted(), 0, rollouts=10)
    table = planted_and_found(tables, planted())
    text, figure = planted_text(table), planted_beside_found(tables)
    assert figure is not None
    pd.testing.assert_frame_equal(figure.table, table)
    for row in table.to_dict("records"):
        assert row["figure"] in text
        assert f"{100 * row['planted']:.1f}%" in text
