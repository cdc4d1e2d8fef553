"""The tidy tables' columns, and what each of them means.

Every table but `left_out` starts with the columns that say what a row's rollout was: they are repeated in each, so that no
table has to be joined before it can be grouped.
"""

import pandas as pd

_TEXT = "str"
_COUNT, _NUMBER, _FLAG = "int64", "float64", "boolean"
_COLUMN_TYPES_LOG = {"possible": _FLAG}
_COLUMN_TYPES_ROLLOUT = {**_COLUMN_TYPES_LOG, "epoch": _COUNT, "valence": _NUMBER}


def _of(dtype: str, *columns: str) -> dict[str, str]:
    return dict.fromkeys(columns, dtype)


TYPES: dict[str, dict[str, str]] = {
    "logs": {**_COLUMN_TYPES_LOG, "samples": _COUNT, **_of(_NUMBER, "dose", "seed")},
    "rollouts": {
        **_COLUMN_TYPES_ROLLOUT,
        **_of(_COUNT, "turns", "takes"),
        "steered": _FLAG,
        **_of(_NUMBER, "sitter_clears", "sitter_errors", "computed_tokens", "prompt_tokens"),
    },
    "scores": {**_COLUMN_TYPES_ROLLOUT, "value": _NUMBER},
    "takes": {
        **_COLUMN_TYPES_ROLLOUT,
        **_of(_COUNT, "turn", "order"),
        **_of(_NUMBER, "taken_valence", "dose", "strength"),
        **_of(_FLAG, "known", "ok", "scripted", "after_sitter"),
    },
    "problems": {**_COLUMN_TYPES_ROLLOUT, **_of(_FLAG, "attempted", "correct", "parsed")},
    "readouts": {
        **_COLUMN_TYPES_ROLLOUT,
        "number": _COUNT,
        "is_true": _FLAG,
        **_of(
            _NUMBER, "rotation", "direction", "dose", "strength", "place", "logprob", "probability", "share", "options"
        ),
    },
    "receipts": {
        **_COLUMN_TYPES_ROLLOUT,
        "number": _COUNT,
        **_of(_NUMBER, "strength", "start", "stop", "planned", "steered", "reused"),
        **_of(_NUMBER, "projection_before", "projection_after", "expected_shift"),
    },
    "left_out": {},
}


def empty(table: str) -> pd.DataFrame:
    """Return a table without a row, with all its columns."""
    return pd.DataFrame({column: pd.Series(dtype=TYPES[table].get(column, _TEXT)) for column in COLUMNS[table]})


def typed(frame: pd.DataFrame, table: str) -> pd.DataFrame:
    """Return a table's rows with exactly its columns, in order, each of its type; text that is missing is empty.

    Raises:
        ValueError: A column is missing, or holds something else.
    """
    if missing := [column for column in COLUMNS[table] if column not in frame]:
        raise ValueError(f"the table {table} lacks {', '.join(missing)}")
    types = {column: TYPES[table].get(column, _TEXT) for column in COLUMNS[table]}
    return frame[list(types)].fillna({c: "" for c, dtype in types.items() if dtype == _TEXT}).astype(types)


_LOG = {
    "log": "path of the log file below the folder that was read",
    "source": "who wrote it: self_steering (this suite), study (the published study), other",
    "task": "name of the task as it was run, without its package",
    "family": "freeplay, maths, frustration, ctf, free_text, introspection, detection, localisation, comparison, preference, "
    "relief, other",
    "model": "the model's name without its provider",
    "arm": "real, placebo, random, other, opposite, mislabelled, prompt_only; none where no steering was offered",
    "framing": "drugs, aids, vectors; none where no steering was offered",
    "intent": "neutral, helpful, mandatory; empty where the task has no intents; none where no steering was offered",
    "tone": "tone of the rejections (frustration)",
    "possible": "whether the problem has an answer (frustration)",
    "primer": "none, introspection, length_matched, poetic, wrong_mechanism, lorem; empty where the task has no primers",
    "visibility": "whether the model is told that it is watched (free play)",
}
_ROLLOUT = {
    **_LOG,
    "rollout": "unique for each rollout over all logs that were read together",
    "sample": "the sample's id in its log",
    "epoch": "number of its epoch, from 1",
    "vector": "name of the vector that was applied, or asked for, where the experiment has one",
    "category": "the category of `vector`",
    "valence": "its valence, as its library or the catalogue has it: -1, 0, 1",
    "problem": "id of the problem, or wording of the prompt, where rollouts repeat it: their cluster",
}
COLUMNS: dict[str, dict[str, str]] = {
    "logs": {
        **_LOG,
        "created": "when the run began, ISO 8601",
        "samples": "samples in the log",
        "shard": "which shard of a sweep it is, such as 3/8; empty where it holds all of its eval",
        "dose": "the dose that the task applies, where it is the log's",
        "seed": "the task's seed, where it has one",
        "inspect": "version of inspect-ai that wrote it",
    },
    "rollouts": {
        **_ROLLOUT,
        "turns": "messages that the model wrote",
        "takes": "take calls that the model made, failed ones too",
        "steered": "whether one of them succeeded",
        "sitter_clears": "how often the trip sitter cleared effects; empty where it did not run",
        "sitter_errors": "how often it failed",
        "computed_tokens": "tokens that were computed, where the log says so",
        "prompt_tokens": "tokens that computing everything alone would take, where the log says so",
    },
    "scores": {
        **_ROLLOUT,
        "scorer": "name of the scorer",
        "score": "name of the figure, for scorers that give several; else `value`",
        "value": "the figure; NaN where it is unscored",
        "reason": "why it is unscored",
    },
    "takes": {
        **_ROLLOUT,
        "turn": "number of the message that held the call, among those that the model wrote, from 0",
        "order": "number of the take call within its rollout, in call order, from 0",
        "name": "what was asked for, as the model wrote it",
        "known": "whether the library has a vector of that name (or the task such a label)",
        "taken": "the vector that was applied; under opaque labels not `name`; empty for failed calls",
        "taken_category": "the category of `taken`, or else of `name`",
        "taken_valence": "its valence there",
        "dose": "the dose that the model asked for; NaN where it is no number",
        "strength": "what was added for it, in multiples of the vector: dose times its default dose; 0 under placebo; NaN unknown",
        "ok": "whether the call succeeded",
        "scripted": "whether the task inserted the call: no choice of the model's",
        "after_sitter": "whether the trip sitter had cleared effects in this rollout before",
    },
    "problems": {
        **_ROLLOUT,
        "attempted": "whether an answer was submitted",
        "correct": "whether it was right; False where none was submitted",
        "parsed": "whether the answer that was submitted could be read as one",
        "answer": "the answer",
        "truth": "the right one",
    },
    "readouts": {
        **_ROLLOUT,
        "reading": "cached, uncached, or the name of a condition",
        "number": "number of the reading within its rollout",
        "rotation": "by how many places the options were rotated",
        "direction": "number of the random direction that was applied, in the random arm",
        "question": "what was asked, where a rollout asks several things",
        "dose": "nominal dose under which it was read",
        "strength": "what was added, in multiples of the vector",
        "option": "the option",
        "is_true": "whether it is the right one",
        "place": "its place among the options as shown, from 0",
        "logprob": "log-probability of its answer over the full vocabulary, all token forms together",
        "probability": "its probability over the full vocabulary",
        "share": "its probability among all options of this reading",
        "options": "how many options there were",
    },
    "receipts": {
        **_ROLLOUT,
        "reading": "cached, uncached, the name of a condition, or `turn N` for a message that the model wrote",
        "number": "number of the reading within its rollout",
        "label": "what the conversation calls the vector",
        "direction_key": "hash of the direction that was added",
        "strength": "multiple of it that was added",
        "layers": "layers it was added at, separated by spaces",
        "start": "first steered token",
        "stop": "first token that is not; empty if the window stayed open",
        "planned": "tokens that were to be steered",
        "steered": "tokens that were",
        "reused": "those among them whose steered keys and values came from the cache",
        "projection_before": "mean projection of h on the direction at its monitored layer, before it was added",
        "projection_after": "the same afterwards",
        "expected_shift": "by how much the projection was to move",
    },
    "left_out": {
        "log": "path of the file below the folder that was read",
        "reason": "why it is in no table",
    },
}
