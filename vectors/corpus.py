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
        settings: Setting ids in their fixed order.
        stories: For each state (the neutral narrator among them), text by setting id.
    """

    settings: tuple[str, ...]
    stories: Mapping[str, Mapping[str, str]]

    @property
    def states(self) -> list[str]:
        """Names of the states, without the neutral narrator."""
        return [state for state in self.stories if state != NEUTRAL]

    def hash(self) -> str:
        """Return the SHA-256 over all states, settings and texts, independent of file layout."""
        digest = hashlib.sha256()
        for state in sorted(self.stories):
            for setting in self.settings:
                digest.update("\0".join((state, setting, self.stories[state][setting])).encode())
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
    settings = tuple(_read_table(folder / _SETTINGS_FILE, "settings"))
    names = list(states) if states is not None else _states_in(folder)
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise CorpusError(f"states named twice: {', '.join(twice)}; name each state once")
    if NEUTRAL in names:
        raise CorpusError(f"{NEUTRAL!r} is what the states are contrasted with, not a state; leave it out")
    stories = {name: _read_state(folder / f"{name}.toml", settings) for name in (NEUTRAL, *names)}
    return Corpus(settings=settings, stories=stories)


def _states_in(folder: Path) -> list[str]:
    reserved = {NEUTRAL, Path(_SETTINGS_FILE).stem}
    names = sorted(path.stem for path in folder.glob("*.toml") if path.stem not in reserved)
    if not names:
        raise CorpusError(f"no story files in {folder}; add one `<state>.toml` per state beside `{NEUTRAL}.toml`")
    return names


def _read_state(path: Path, settings: tuple[str, ...]) -> dict[str, str]:
    stories = {key: " ".join(text.split()) for key, text in _read_table(path, "stories").items()}
    missing = [setting for setting in settings if not stories.get(setting)]
    unknown = [key for key in stories if key not in settings]
    if missing or unknown:
        raise CorpusError(
            f"{path}: missing or empty settings: {', '.join(missing) or 'none'}; unknown settings: "
            f"{', '.join(unknown) or 'none'}; write exactly one story for each setting of {_SETTINGS_FILE}"
        )
    return {setting: stories[setting] for setting in settings}


def _read_table(path: Path, table: str) -> dict[str, str]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CorpusError(f"{path} does not exist; write it, or leave this state out") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path} cannot be read as TOML: {error}; mend the file") from error
    value = content.get(table)
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise CorpusError(f"{path}: expected one table `[{table}]` of strings, found {sorted(content)}")
    return value


def story_faults(text: str, entry: CatalogueEntry | None = None) -> list[str]:
    """Return what is wrong with one story, in words; an empty list means nothing.

    Args:
        text: The story.
        entry: The state it shows; None for the neutral narrator.
    """
    faults = []
    words = len(text.split())
    if not MIN_WORDS <= words <= MAX_WORDS:
        faults.append(f"{words} words, expected {MIN_WORDS} to {MAX_WORDS}")
    if entry is None:
        return faults
    if said := entry.forbidden(text):
        faults.append(f"says {', '.join(sorted(set(said)))}")
    if entry.recurs:
        times = len(re.findall(re.escape(entry.recurs), text, re.IGNORECASE))
        if times < MIN_RECURRENCES:
            faults.append(f"says {entry.recurs!r} {times} times, expected at least {MIN_RECURRENCES}")
    return faults


def shared_phrases(stories: Mapping[str, str], length: int = 5) -> dict[str, list[str]]:
    """Return every run of `length` words that stands in more than one of `stories`, with the keys of those stories."""
    seen: dict[str, list[str]] = {}
    for key, text in stories.items():
        words = re.findall(r"[\w']+", text.lower())
        for phrase in {" ".join(words[i : i + length]) for i in range(len(words) - length + 1)}:
            seen.setdefault(phrase, []).append(key)
    return {phrase: keys for phrase, keys in seen.items() if len(keys) > 1}
