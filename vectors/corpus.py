"""The stories that vectors are made from: one TOML file a state, thirty settings each.

A file `<state>.toml` holds a table `[stories]` with one multi-line string per setting. The narrator in the state is
contrasted with the file `neutral.toml`, which tells the same settings plainly.
"""

import hashlib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from self_steering.vectors.catalogue import CatalogueEntry

NEUTRAL = "neutral"
MIN_WORDS, MAX_WORDS = 60, 90
MIN_RECURRENCES = 3
_SETTINGS_FILE = "settings.toml"


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
        return sum(len(told) for by_setting in self.stories.values() for told in by_setting.values())

    def hash(self) -> str:
        """Return the SHA-256 over all states, settings and texts, independent of file layout and of any order."""
        digest = hashlib.sha256()
        for state, by_setting in sorted(self.stories.items()):
            for setting, told in sorted(by_setting.items()):
                for story in sorted(told):
                    digest.update(f"{state}\0{setting}\0{story}".encode())
                    digest.update(b"\0\0")
        return digest.hexdigest()


def bundled_stories() -> Path:
    """Return the folder of stories that ships with the package."""
    return Path(str(resources.files(__package__).joinpath("stories")))


def load_corpus(folder: Path | None = None, states: Iterable[str] | None = None) -> Corpus:
    """Read a folder of stories.

    Args:
        folder: Folder with `settings.toml`, `neutral.toml` and one file a state; default the bundled one.
        states: The states to read; default every file in the folder.

    Raises:
        CorpusError: A file is missing, torn or empty, or does not cover exactly the settings.
    """
    folder = folder or bundled_stories()
    settings = tuple(read_settings(folder / _SETTINGS_FILE))
    names = state_names(states) if states is not None else _states_in(folder)
    stories = {name: _read_state(folder / f"{name}.toml", settings) for name in (NEUTRAL, *names)}
    return Corpus(settings=settings, stories=stories)


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
    except (
        tomllib.TOMLDecodeError,
        UnicodeDecodeError,
        RecursionError,
    ) as error:  # the last where it is nested too deep
        raise CorpusError(f"{path} cannot be read as TOML: {error}; mend the file") from error
    value = content.get(table)
    if value == {}:
        raise CorpusError(f"{path}: the table `[{table}]` is empty; write a line for each setting")
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise CorpusError(f"{path}: expected one table `[{table}]` of strings, found {sorted(content)}")
    return value


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
    if said := entry.forbidden(text):
        faults["names the state"] = f"says {', '.join(sorted(set(said)))}"
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
