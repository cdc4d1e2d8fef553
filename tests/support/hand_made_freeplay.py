"""Tables of free play written out by hand, rollout by rollout."""

from dataclasses import replace

import pandas as pd

from self_steering.analysis.tables import Tables, empty_tables
from self_steering.analysis.tables.columns import COLUMNS
from self_steering.vectors.catalogue import catalogue


def take(name, dose=1.0, **changes):
    """A take call that the model made and that succeeded; default doses are 0.5."""
    entry = catalogue().get(name)
    fields = {
        "name": name,
        "known": True,
        "ok": True,
        "taken": name,
        "taken_category": entry.category if entry else "",
        "taken_valence": entry.valence if entry else float("nan"),
        "dose": dose,
        "strength": 0.5 * dose,
        "scripted": False,
        "after_sitter": False,
    }
    return {**fields, **changes}


def failed(name):
    """A call for a name of the library that failed."""
    return take(name, ok=False, taken="")


def outside(name):
    """A call for a name that the library does not have."""
    return take(name, ok=False, taken="", known=False)


def rollout(*takes, **changes):
    """A rollout with these take calls in order, each a call or just the name of a vector."""
    calls = [take(one) if isinstance(one, str) else one for one in takes]
    fields = {
        "source": "self_steering",
        "family": "freeplay",
        "model": "small",
        "arm": "real",
        "framing": "drugs",
        "visibility": "",
        "sitter_clears": 0,
    }
    return {**fields, **changes}, calls


def tables(*rollouts):
    """The tables of these rollouts."""
    rolled, taken = [], []
    for number, (row, calls) in enumerate(rollouts):
        row["rollout"] = f"rollout {number}"
        rolled.append({**row, "takes": len(calls)})
        # The calls of a rollout come in no particular order: their number says which was first.
        taken += [{**row, **call, "order": order} for order, call in enumerate(calls)][::-1]
    return replace(
        empty_tables(),
        rollouts=pd.DataFrame(rolled, columns=list(COLUMNS["rollouts"])),
        takes=pd.DataFrame(taken, columns=list(COLUMNS["takes"])),
    )


def joined(*parts: Tables):
    """The tables of several together."""
    return replace(
        empty_tables(),
        **{
            name: pd.concat([getattr(part, name) for part in parts], ignore_index=True)
            for name in ("rollouts", "takes")
        },
    )


def only(frame, **values):
    """The one row of a table that has these values."""
    for column, value in values.items():
        frame = frame[frame[column] == value]
    assert len(frame) == 1, f"{len(frame)} rows with {values}"
    return frame.iloc[0]
