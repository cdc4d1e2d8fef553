"""A corpus from any source: a folder of stories, a table in a file, or a data set on the Hugging Face hub.

A table has the columns emotion, topic and story, one row a story; the neutral narrator is the emotion `neutral`. Rows are
counted from 1, a header not among them.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pandas as pd
from datasets import DatasetDict, load_dataset
from datasets.exceptions import DatasetsError

from self_steering.vectors.corpus import NEUTRAL, Corpus, CorpusError, load_corpus, state_names

COLUMNS = ("emotion", "topic", "story")
_HUB_ID = re.compile(r"(?P<name>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>[\w./-]+))?")
_CHOICES = "a folder of stories, a .parquet, .csv or .jsonl file, or a hub data set such as someone/stories@revision"


def open_corpus(source: str | Path, states: Iterable[str] | None = None, unpaired: bool = False) -> Corpus:
    """Read a corpus from a folder, a table, or the hub.

    Args:
        source: A folder as `load_corpus` reads it; a file `.parquet`, `.csv` or `.jsonl` with the columns emotion, topic
            and story; or a hub data set's id, `someone/stories` or `someone/stories@revision`.
        states: The states to read; default all there are.
        unpaired: Whether the neutral narrator of a table may have topics of its own. All other states share theirs always.

    Raises:
        CorpusError: The source is none of these or cannot be read, a column or story is missing, a row comes twice, or a
            state lacks a topic that another one has.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return load_corpus(path, states)
    if path.suffix in _READERS:
        table = _read_file(path)
    elif not path.exists() and (match := _HUB_ID.fullmatch(str(source))):
        table = _read_hub(match["name"], match["revision"])
    else:
        raise CorpusError(
            f"{source} {'is no corpus that can be read' if path.exists() else 'does not exist'}; name {_CHOICES}"
        )
    return _corpus(_checked(table, str(source), states), str(source), unpaired)


def _read_file(path: Path) -> pd.DataFrame:
    try:
        table = _READERS[path.suffix](path)
    except FileNotFoundError:
        raise CorpusError(f"{path} does not exist; write it, or name {_CHOICES}") from None
    except (OSError, ValueError) as error:
        raise CorpusError(f"{path} cannot be read: {error}; mend the file") from error
    return table.set_index(table.index + 1) if path.suffix != ".jsonl" else table


def _read_csv(path: Path) -> pd.DataFrame:
    # A story may well be the word `NA` or `null`; only an empty cell is empty.
    table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    if not isinstance(table.index, pd.RangeIndex):
        raise ValueError("its rows have more fields than its header; put stories with a comma into quotes")
    return table


def _read_jsonl(path: Path) -> pd.DataFrame:
    rows = {}
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
            except (json.JSONDecodeError, RecursionError) as error:  # the latter where it is nested too deep
                raise ValueError(f"row {number} is no JSON ({error})") from error
            if not isinstance(row, dict):
                raise ValueError(f"row {number} is no JSON object")
            rows[number] = row
    return pd.DataFrame(rows.values(), index=pd.Index(rows, dtype=int))


def _read_parquet(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path).reset_index(drop=True)


_READERS: Mapping[str, Callable[[Path], pd.DataFrame]] = {
    ".parquet": _read_parquet,
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
}


def _read_hub(name: str, revision: str | None) -> pd.DataFrame:
    wanted = f"{name}@{revision}" if revision else name
    try:
        splits = load_dataset(name, revision=revision)
    except (OSError, ValueError, DatasetsError) as error:
        raise CorpusError(
            f"{wanted} is no folder here, and as a hub data set it cannot be read: {error}; check the name and the network, "
            f"or name {_CHOICES}"
        ) from error
    if not isinstance(splits, DatasetDict) or len(splits) != 1:
        raise CorpusError(
            f"hub data set {wanted} has the splits {', '.join(map(str, splits))}, and a corpus is one table; save the rows "
            "you want as a .parquet file and name that"
        )
    (split,) = splits.values()
    table: pd.DataFrame = split.to_pandas()
    return table.set_index(table.index + 1)


def _checked(table: pd.DataFrame, source: str, states: Iterable[str] | None) -> pd.DataFrame:
    """Return the rows of the states that were asked for, with white space evened out, once each holds a story."""
    missing = [column for column in COLUMNS if column not in table.columns]
    if missing:
        raise CorpusError(
            f"{source}: no column {', '.join(missing)}; it has {', '.join(map(str, table.columns)) or 'none'}; rename or "
            f"add columns until it has {', '.join(COLUMNS)}"
        )
    table = _texts(table, source, "emotion")
    there = sorted(set(table["emotion"]) - {NEUTRAL})
    wanted = there if states is None else state_names(states)
    for name in (NEUTRAL, *wanted):
        if not (table["emotion"] == name).any():
            raise CorpusError(
                f"{source}: no row has the emotion {name!r}; it has {', '.join(there) or 'none'}; add its stories"
                + (
                    " (the plain narrator that all others are contrasted with)"
                    if name == NEUTRAL
                    else ", or leave it out"
                )
            )
    if not wanted:
        raise CorpusError(f"{source}: no emotion but {NEUTRAL!r}; add the stories of a state")
    table = table[table["emotion"].isin([NEUTRAL, *wanted])]
    for column in ("topic", "story"):
        table = _texts(table, source, column)
    _check_duplicates(table, source)
    # Neutral first, then the states in the order that was asked for.
    return table.sort_values("emotion", key=lambda names: names.map([NEUTRAL, *wanted].index), kind="stable")


def _texts(table: pd.DataFrame, source: str, column: str) -> pd.DataFrame:
    values = table[column].astype(object)
    empty = values.isna() | values.map(lambda value: isinstance(value, str) and not value.strip())
    if empty.any():
        raise CorpusError(f"{source}: {_rows(table.index[empty])}: empty {column}; write one, or remove the row")
    other = ~values.map(lambda value: isinstance(value, str))
    if other.any():
        found = values[other].iloc[0]
        raise CorpusError(
            f"{source}: {_rows(table.index[other])}: {column} is {found!r}, no text; write it as a string"
        )
    return table.assign(**{column: values.map(lambda value: " ".join(value.split()))})


def _check_duplicates(table: pd.DataFrame, source: str) -> None:
    again = table.duplicated(list(COLUMNS))
    if again.any():
        row = table[again].iloc[0]
        same = (table[list(COLUMNS)] == row[list(COLUMNS)]).all(axis=1)
        raise CorpusError(
            f"{source}: rows {', '.join(map(str, table.index[same]))} hold the same story of {row['emotion']!r} in topic "
            f"{row['topic']!r}; {again.sum()} rows repeat another one: remove them"
        )


def _corpus(table: pd.DataFrame, source: str, unpaired: bool) -> Corpus:
    stories: dict[str, dict[str, tuple[str, ...]]] = {}
    for state, of_state in table.groupby("emotion", sort=False):
        told = of_state.groupby("topic")["story"]
        stories[str(state)] = {str(topic): tuple(texts) for topic, texts in told}
    sharing = {state: told for state, told in stories.items() if state != NEUTRAL or not unpaired}
    topics = tuple(sorted({topic for told in sharing.values() for topic in told}))
    gaps = [(state, topic) for state, told in sharing.items() for topic in topics if topic not in told]
    if gaps:
        state, topic = gaps[0]
        first = table[(table["topic"] == topic) & table["emotion"].isin(list(sharing))]
        more = f" ({len(gaps) - 1} more such gaps)" if len(gaps) > 1 else ""
        raise CorpusError(
            f"{source}: {state!r} has no story in topic {topic!r}, which {first['emotion'].iloc[0]!r} has in row "
            f"{first.index[0]}{more}; write it, or remove the topic from every state{_unpaired_hint(stories)}"
        )
    return Corpus(settings=topics, stories=stories)


def _unpaired_hint(stories: Mapping[str, Mapping[str, object]]) -> str:
    """Return the way out where only the neutral narrator's topics differ."""
    topics = {frozenset(told) for state, told in stories.items() if state != NEUTRAL}
    if len(topics) > 1:
        return ""
    return f"; if {NEUTRAL!r} is to have topics of its own, ask for an unpaired corpus (--unpaired)"


def _rows(numbers: pd.Index) -> str:
    more = f" and {len(numbers) - 1} more" if len(numbers) > 1 else ""
    return f"row {numbers[0]}{more}"
