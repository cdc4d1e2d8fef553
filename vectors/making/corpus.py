"""The stories that vectors are made from: a folder with one TOML file a state, or a table with one story a row.

In a folder, `<state>.toml` holds a table `[stories]` with one multi-line string per setting. The narrator in the state is
contrasted with the file `neutral.toml`, which tells the same settings plainly. A table has the columns emotion, topic and story.
"""

import hashlib
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import pandas as pd
from datasets import DatasetDict, load_dataset
from datasets.exceptions import DatasetsError

from self_steering.vectors.catalogue import CatalogueEntry
from self_steering.vectors.shown import in_one_line, shown

NEUTRAL = "neutral"
MIN_WORDS, MAX_WORDS = 60, 90
MIN_RECURRENCES = 3
_SETTINGS_FILE = "settings.toml"
COLUMNS = ("emotion", "topic", "story")
_HUB_ID = re.compile(r"(?P<name>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>[\w./-]+))?")
_CHOICES = "a folder of stories, a .parquet, .csv or .jsonl file, or a hub data set such as someone/stories@revision"


class CorpusError(ValueError):
    """A corpus that cannot be used, with the file and the remedy in its message."""


@dataclass(frozen=True)
class Corpus:
    """Stories by state and setting; every state covers the same settings.

    Attributes:
        settings: Ids of the settings that all states share, in their fixed order.
        stories: For each state (the neutral narrator among them), one or more texts by setting id. The neutral narrator's
            keys are the same settings, or settings of its own where the corpus is not paired.
    """

    settings: tuple[str, ...]
    stories: Mapping[str, Mapping[str, tuple[str, ...]]]

    @property
    def states(self) -> list[str]:
        """Names of the states, without the neutral narrator."""
        return [state for state in self.stories if state != NEUTRAL]

    @property
    def paired(self) -> bool:
        """Whether the neutral narrator tells the settings of the states, so that the setting cancels in the contrast."""
        return set(self.stories[NEUTRAL]) == set(self.settings)

    @property
    def size(self) -> int:
        """Number of stories, the neutral ones among them."""
        return sum(len(texts) for by_setting in self.stories.values() for texts in by_setting.values())

    def hash(self) -> str:
        """Return the SHA-256 over all states, settings and texts, independent of file layout and of any order."""
        digest = hashlib.sha256()
        for state, by_setting in sorted(self.stories.items()):
            for setting, texts in sorted(by_setting.items()):
                for story in sorted(texts):
                    digest.update(f"{state}\0{setting}\0{story}".encode())
                    digest.update(b"\0\0")
        return digest.hexdigest()


def bundled_stories() -> Path:
    """Return the folder of stories that ships with the package."""
    return Path(str(resources.files("self_steering.vectors").joinpath("stories")))


def load_corpus(folder: Path | None = None, states: Iterable[str] | None = None) -> Corpus:
    """Read a folder of stories.

    Args:
        folder: Folder with `settings.toml`, `neutral.toml` and one file a state; default the bundled one.
        states: The states to read; default every file in the folder.

    Raises:
        CorpusError: A file is missing, torn or empty, or does not cover exactly the settings.

    Example:
        >>> corpus = load_corpus(states=["calm", "anxious"])
        >>> corpus.states, len(corpus.settings), corpus.size
        (['calm', 'anxious'], 30, 90)
    """
    folder = folder or bundled_stories()
    settings = tuple(read_settings(folder / _SETTINGS_FILE))
    names = state_names(states) if states is not None else _states_in(folder)
    stories = {name: _read_state(folder / f"{name}.toml", settings) for name in (NEUTRAL, *names)}
    return Corpus(settings=settings, stories=stories)


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


def read_settings(path: Path | None = None) -> dict[str, str]:
    """Return the line that describes each setting, by its id.

    Args:
        path: TOML file with one table `[settings]`; default the bundled one.

    Raises:
        CorpusError: The file is missing, torn, or holds no such table of strings.
    """
    return _read_table(path or bundled_stories() / _SETTINGS_FILE, "settings")


def state_names(states: Iterable[str]) -> list[str]:
    """Return the states that were asked for, once they are known to make sense.

    Raises:
        CorpusError: A state is named twice, or the neutral narrator is named as one.
    """
    names = list(states)
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise CorpusError(f"states named twice: {', '.join(twice)}; name each state once")
    if NEUTRAL in names:
        raise CorpusError(f"{NEUTRAL!r} is what the states are contrasted with, not a state; leave it out")
    return names


def story_faults(text: str, entry: CatalogueEntry | None = None) -> list[str]:
    """Return what is wrong with one story, in words; an empty list means nothing.

    Args:
        text: The story.
        entry: The state it shows; None for the neutral narrator.
    """
    return list(faults_by_kind(text, entry).values())


def faults_by_kind(text: str, entry: CatalogueEntry | None = None) -> dict[str, str]:
    """Return what is wrong with one story, in words, by the kind of fault.

    The kinds are `too short`, `too long`, `names the state` and `obsession does not recur`.

    Args:
        text: The story.
        entry: The state it shows; None for the neutral narrator.
    """
    faults: dict[str, str] = {}
    words = len(text.split())
    if not MIN_WORDS <= words <= MAX_WORDS:
        faults["too short" if words < MIN_WORDS else "too long"] = f"{words} words, expected {MIN_WORDS} to {MAX_WORDS}"
    if entry is None:
        return faults
    if forbidden := entry.forbidden(text):
        faults["names the state"] = f"says {', '.join(sorted(set(forbidden)))}"
    if entry.recurs:
        times = len(re.findall(re.escape(entry.recurs), text, re.IGNORECASE))
        if times < MIN_RECURRENCES:
            faults["obsession does not recur"] = (
                f"says {entry.recurs!r} {times} times, expected at least {MIN_RECURRENCES}"
            )
    return faults


def shared_phrases(stories: Mapping[str, str], length: int = 5) -> dict[str, list[str]]:
    """Return every run of `length` words that stands in more than one of `stories`, with the keys of those stories."""
    seen: dict[str, list[str]] = {}
    for key, text in stories.items():
        words = re.findall(r"[\w']+", text.lower())
        for phrase in {" ".join(words[i : i + length]) for i in range(len(words) - length + 1)}:
            seen.setdefault(phrase, []).append(key)
    return {phrase: keys for phrase, keys in seen.items() if len(keys) > 1}


def _states_in(folder: Path) -> list[str]:
    reserved = {NEUTRAL, Path(_SETTINGS_FILE).stem}
    names = sorted(path.stem for path in folder.glob("*.toml") if path.stem not in reserved)
    if not names:
        raise CorpusError(f"no story files in {folder}; add one `<state>.toml` per state beside `{NEUTRAL}.toml`")
    return names


def _read_state(path: Path, settings: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    stories = {key: " ".join(text.split()) for key, text in _read_table(path, "stories").items()}
    missing = [setting for setting in settings if not stories.get(setting)]
    unknown = [key for key in stories if key not in settings]
    if missing or unknown:
        raise CorpusError(
            f"{path}: missing or empty settings: {', '.join(missing) or 'none'}; unknown settings: "
            f"{', '.join(unknown) or 'none'}; write exactly one story for each setting of {_SETTINGS_FILE}"
        )
    return {setting: (stories[setting],) for setting in settings}


def _read_table(path: Path, table: str) -> dict[str, str]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CorpusError(f"{path} does not exist; write it, or leave this state out") from None
    except (OSError, ValueError, RecursionError) as error:  # the last where it is nested too deep
        raise CorpusError(f"{path} cannot be read as TOML: {in_one_line(error)}; mend the file") from error
    value = content.get(table)
    if value == {}:
        raise CorpusError(f"{path}: the table `[{table}]` is empty; write a line for each setting")
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise CorpusError(f"{path}: expected one table `[{table}]` of strings, found {sorted(content)}")
    return value


def _read_file(path: Path) -> pd.DataFrame:
    try:
        table = _READERS[path.suffix](path)
    except FileNotFoundError:
        raise CorpusError(f"{path} does not exist; write it, or name {_CHOICES}") from None
    except Exception as error:  # pandas and pyarrow fail on torn files in ways of their own
        raise CorpusError(f"{path} cannot be read: {in_one_line(error)}; mend the file") from error
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
                raise ValueError(f"row {number} is no JSON ({in_one_line(error)})") from error
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
            f"{wanted} is no folder here, and as a hub data set it cannot be read: {in_one_line(error)}; check the name and "
            f"the network, or name {_CHOICES}"
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
            f"{source}: {_rows(table.index[other])}: {column} is {shown(found)}, no text; write it as a string"
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
        by_topic = of_state.groupby("topic")["story"]
        stories[str(state)] = {str(topic): tuple(texts) for topic, texts in by_topic}
    sharing = {state: by_topic for state, by_topic in stories.items() if state != NEUTRAL or not unpaired}
    topics = tuple(sorted({topic for by_topic in sharing.values() for topic in by_topic}))
    gaps = [(state, topic) for state, by_topic in sharing.items() for topic in topics if topic not in by_topic]
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
    topics = {frozenset(by_topic) for state, by_topic in stories.items() if state != NEUTRAL}
    if len(topics) > 1:
        return ""
    return f"; if {NEUTRAL!r} is to have topics of its own, ask for an unpaired corpus (--unpaired)"


def _rows(numbers: pd.Index) -> str:
    more = f" and {len(numbers) - 1} more" if len(numbers) > 1 else ""
    return f"row {numbers[0]}{more}"
