"""A corpus while it is being written: a file of stories, one of rejected attempts, and one that says how they were asked for.

Each line is written whole as soon as it is known, so that a run that was killed loses at most the line it was writing.
"""

import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from self_steering.vectors.story_prompts import Cell


class StoryError(ValueError):
    """Stories that cannot be written or gone on with; the message names the remedy."""


class Story(BaseModel):
    """One accepted story: a row of the corpus.

    Attributes:
        emotion: The state, or `neutral`.
        topic: The setting's id.
        story: The text.
        index: Number of the story in its state and setting, from 1.
        model: The model that wrote it.
        attempt: Which attempt it was, from 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    emotion: str
    topic: str
    story: str
    index: int
    model: str
    attempt: int

    @property
    def cell(self) -> Cell:
        """Its place in the corpus."""
        return Cell(self.emotion, self.topic, self.index)


class Rejected(Story):
    """One attempt that was dropped.

    Attributes:
        reason: The kind of fault, by which attempts are counted.
        detail: All that is wrong with it, in words.
    """

    reason: str
    detail: str


class RunMeta(BaseModel):
    """How the stories of a file were asked for; a file holds stories of one such way."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    prompts: str
    per_setting: int
    seed: int
    temperature: float
    max_tokens: int


_Row = TypeVar("_Row", Story, Rejected)


class StoryFile:
    """The three files of one corpus: `out`, `out.rejected.jsonl` and `out.meta.json`.

    Attributes:
        stories: Accepted stories by their place.
        rejected: Dropped attempts by place and attempt.
    """

    def __init__(self, out: Path, notice: Callable[[str], object]) -> None:
        """Read what is there.

        Args:
            out: The file of stories, `.jsonl`.
            notice: Called with a line about anything that was mended.

        Raises:
            StoryError: The name is no `.jsonl`, or a file is torn anywhere but in its last line.
        """
        if out.suffix != ".jsonl" or out.is_dir():
            raise StoryError(f"--out {out} is no .jsonl file; name one such as stories.jsonl")
        self._out = out
        self._rejected_path = out.with_name(f"{out.name}.rejected.jsonl")
        self._meta_path = out.with_name(f"{out.name}.meta.json")
        stories = _read(out, Story, notice)
        self.stories = {story.cell: story for story in stories}
        if len(self.stories) < len(stories):
            twice = next(story.cell for story in stories if sum(other.cell == story.cell for other in stories) > 1)
            raise StoryError(f"{out} holds {twice} more than once; remove all lines of it but one")
        self.rejected = {(row.cell, row.attempt): row for row in _read(self._rejected_path, Rejected, notice)}

    def claim(self, meta: RunMeta, *, mix: bool) -> None:
        """Make sure that the stories there were asked for in the same way, and put down how.

        Raises:
            StoryError: They were not, and `mix` does not allow it.
        """
        found = self._meta()
        if found is None:
            how = f"nobody knows how: {self._meta_path} is missing"
        else:
            changed = {name: (getattr(found, name), value) for name, value in meta if getattr(found, name) != value}
            how = ", ".join(
                "with other prompts" if name == "prompts" else f"with {name} {there} (now {value})"
                for name, (there, value) in changed.items()
            )
        if how and not mix and (self.stories or self.rejected):
            raise StoryError(
                f"the stories in {self._out} were written {how}; repeat the command that wrote them, name another --out, "
                "or add --mix to go on regardless"
            )
        _write(self._meta_path, meta.model_dump_json(indent=1) + "\n")

    def add(self, row: Story | Rejected) -> None:
        """Append one row to the file that it belongs in."""
        if isinstance(row, Rejected):
            self.rejected[row.cell, row.attempt] = row
            _append(self._rejected_path, row)
        else:
            self.stories[row.cell] = row
            _append(self._out, row)

    def move(self, rows: Iterable[Rejected]) -> None:
        """Take stories out again, as rejected attempts, and put both files in order."""
        for row in rows:
            self.rejected[row.cell, row.attempt] = row
            del self.stories[row.cell]
        # In this order: a run killed in between finds such a story in both files, and takes it out again.
        _write_rows(self._rejected_path, [self.rejected[key] for key in sorted(self.rejected)])
        _write_rows(self._out, [self.stories[key] for key in sorted(self.stories)])

    def _meta(self) -> RunMeta | None:
        try:
            return RunMeta.model_validate_json(self._meta_path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise StoryError(f"{self._meta_path} is torn; remove it and add --mix") from error


def _read(path: Path, kind: type[_Row], notice: Callable[[str], object]) -> list[_Row]:
    """Return the rows of a file; a last line that a killed run left torn is cut off."""
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(kind.model_validate_json(line))
        except ValidationError as error:
            if line.endswith(b"\n"):
                fault = error.errors()[0]
                where = f" ({', '.join(map(str, fault['loc']))})" if fault["loc"] else ""
                raise StoryError(f"{path}: row {number}: {fault['msg']}{where}; mend or remove it") from error
            notice(f"{path}: the last line was torn, and is dropped")
    if lines and not lines[-1].endswith(b"\n"):
        _write_rows(path, rows)
    return rows


def _append(path: Path, row: Story) -> None:
    with path.open("a", encoding="utf-8", newline="\n") as file:
        file.write(row.model_dump_json() + "\n")


def _write_rows(path: Path, rows: Iterable[Story]) -> None:
    _write(path, "".join(row.model_dump_json() + "\n" for row in rows))


def _write(path: Path, text: str) -> None:
    """Write a file, complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        Path(scratch).chmod(0o644)
        Path(scratch).replace(path)
    finally:
        Path(scratch).unlink(missing_ok=True)
