"""Writing a corpus with any Inspect model: what is missing is asked for, checked, and kept or dropped with its reason.

Three files hold it: the stories, the rejected attempts, and how they were asked for. Each line is written whole as soon as it is
known, so that a run that was killed loses at most the line it was writing.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from inspect_ai.model import GenerateConfig, Model, ModelOutput, get_model
from inspect_ai.util import collect
from pydantic import BaseModel, ConfigDict, ValidationError

from self_steering.steering.seeds import derived_seed
from self_steering.vectors.catalogue import catalogue
from self_steering.vectors.files import write_file
from self_steering.vectors.making.corpus import NEUTRAL, faults_by_kind, read_settings
from self_steering.vectors.making.story_prompts import Cell, prompts_hash, story_messages, story_prompts

# An attempt is counted by the first of these that is wrong with it.
REASONS = (
    "refusal",
    "empty",
    "preface",
    "too long",
    "cut off",
    "too short",
    "names the state",
    "obsession does not recur",
    "duplicate",
)
MAX_TOKENS = 1024
_MARKUP = re.compile(r"\[/?bold\]")
MAX_RETRIES = 5  # of one request; Inspect's own default waits for a server that is down for ever


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


@dataclass(frozen=True)
class Written:
    """What a run did.

    Attributes:
        there: How many of the wanted stories an earlier run had left.
        written: How many this run added.
        dropped: Attempts that this run dropped, by reason.
        missing: Stories that are still missing.
    """

    there: int
    written: int
    dropped: Counter[str]
    missing: list[Cell]


async def write_stories(
    model: str | Model,
    out: Path,
    *,
    states: Sequence[str] | None = None,
    settings: Mapping[str, str] | None = None,
    per_setting: int = 1,
    attempts: int = 3,
    temperature: float = 1.0,
    seed: int = 0,
    max_tokens: int = MAX_TOKENS,
    max_connections: int | None = None,
    mix: bool = False,
    notice: Callable[[str], object] = print,
    progress: Callable[[int, int], object] | None = None,
) -> Written:
    """Write the missing stories of a corpus to `out`, one JSON object a line, as `open_corpus` reads them.

    Args:
        model: Inspect model or its name, such as `openai/gpt-4o`.
        out: File of stories, `.jsonl`; what is there is kept. Dropped attempts go to `<out>.rejected.jsonl`, and how the
            stories were asked for to `<out>.meta.json`.
        states: Names of the catalogue, or `neutral`; default all.
        settings: Line of each setting by id; default the bundled ones.
        per_setting: Stories a state and setting.
        attempts: Most attempts a story, those of earlier runs counted.
        temperature: Sampling temperature.
        seed: Seed of the corpus; each attempt's own follows from it.
        max_tokens: Most tokens of one answer.
        max_connections: Requests in flight; default the provider's.
        mix: Whether to go on with a file that was written by another model, or with other prompts or numbers.
        notice: Called with a line about anything that was mended in the files.
        progress: Called with the number of wanted stories that are there, and of all that are wanted.

    Raises:
        StoryError: A parameter asks for nothing, the file does not fit, or the model failed; stories that were finished
            are kept.
    """
    settings = read_settings() if settings is None else settings
    cells = wanted_cells(states, settings, per_setting)
    if attempts < 1 or max_tokens < 1 or not 0 <= temperature < float("inf"):
        raise StoryError(
            f"attempts {attempts}, max_tokens {max_tokens} and temperature {temperature}: the first two must be at least 1, "
            "and the temperature a number from 0"
        )
    file = StoryFile(out, notice)
    async with AsyncExitStack() as stack:
        loaded = model if isinstance(model, Model) else await stack.enter_async_context(_model(model))
        meta = RunMeta(
            model=str(loaded),
            prompts=prompts_hash(settings),
            per_setting=per_setting,
            seed=seed,
            temperature=temperature,
            max_tokens=max_tokens,
        )
        file.claim(meta, mix=mix)
        writer = _Writer(loaded, file, cells, settings, meta, max_connections, progress)
        return await writer.run(attempts)


def wanted_cells(states: Iterable[str] | None, settings: Mapping[str, str], per_setting: int) -> list[Cell]:
    """Return the places of all stories that are to be there.

    Args:
        states: Names of the catalogue, or `neutral`; None for all of them.
        settings: Lines of the settings by id.
        per_setting: Stories a state and setting.

    Raises:
        StoryError: A state is unknown or named twice, or a number asks for nothing.
    """
    known = [NEUTRAL, *catalogue()]
    names = known if states is None else list(states)
    unknown = [name for name in names if name not in known]
    if unknown or len(set(names)) != len(names) or not names:
        wrong = f"unknown states: {', '.join(unknown)}" if unknown else "states are named twice, or none is"
        raise StoryError(f"{wrong}; name each once, of: {', '.join(known)}")
    if per_setting < 1 or not settings:
        raise StoryError(f"{per_setting} stories in each of {len(settings)} settings are none; ask for at least 1")
    return [Cell(name, topic, index) for name in names for topic in settings for index in range(1, per_setting + 1)]


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
        write_file(self._meta_path, (meta.model_dump_json(indent=1) + "\n").encode())

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


class _Writer:
    """One run: rounds of attempts over the cells that are missing."""

    def __init__(
        self,
        model: Model,
        file: StoryFile,
        cells: list[Cell],
        settings: Mapping[str, str],
        meta: RunMeta,
        max_connections: int | None,
        progress: Callable[[int, int], object] | None,
    ) -> None:
        self._model = model
        self._file = file
        self._cells = cells
        self._settings = settings
        self._meta = meta
        self._max_connections = max_connections
        self._progress = progress
        self._dropped: Counter[str] = Counter()

    async def run(self, attempts: int) -> Written:
        stories = self._file.stories
        before = {cell for cell in self._cells if cell in stories}
        self._report()
        for attempt in range(1, attempts + 1):
            used = Counter(cell for cell, _ in self._file.rejected)
            due = [cell for cell in self._cells if cell not in stories and used[cell] == attempt - 1]
            await self._round(due, attempt)
            repeated = _duplicates(stories.values())
            self._dropped.update(row.reason for row in repeated)
            self._file.move(repeated)
        self._report()
        return Written(
            there=len(before),
            written=sum(cell in stories and cell not in before for cell in self._cells),
            dropped=self._dropped,
            missing=[cell for cell in self._cells if cell not in stories],
        )

    async def _round(self, due: Iterable[Cell], attempt: int) -> None:
        try:
            await collect(*(self._attempt(cell, attempt) for cell in due))
        except ExceptionGroup as failures:  # several requests fail at once when a server does; the first says it
            raise failures.exceptions[0] from failures

    async def _attempt(self, cell: Cell, attempt: int) -> None:
        output = await self._generate(cell, attempt)
        story = Story(
            emotion=cell.emotion,
            topic=cell.topic,
            story=" ".join(output.completion.split()),
            index=cell.number,
            model=self._meta.model,
            attempt=attempt,
        )
        faults = _faults(story, output)
        if faults:
            reason = min(faults, key=REASONS.index)
            self._dropped[reason] += 1
            self._file.add(Rejected(**dict(story), reason=reason, detail="; ".join(faults.values())))
        else:
            self._file.add(story)
            self._report()

    async def _generate(self, cell: Cell, attempt: int) -> ModelOutput:
        config = GenerateConfig(
            temperature=self._meta.temperature,
            max_tokens=self._meta.max_tokens,
            max_retries=MAX_RETRIES,
            max_connections=self._max_connections,
            seed=derived_seed(self._meta.seed, *cell, attempt),
        )
        try:
            return await self._model.generate(story_messages(cell, self._settings, self._meta.seed), config=config)
        except Exception as error:  # every provider has its own; nothing goes on after it
            raise StoryError(
                f"{self._meta.model} failed at {cell}: {_error_line(error)}; {len(self._file.stories)} stories are kept; mend "
                "this and run the same command again to go on"
            ) from error

    def _report(self) -> None:
        if self._progress is not None:
            self._progress(sum(cell in self._file.stories for cell in self._cells), len(self._cells))


def _model(name: str) -> Model:
    try:
        return get_model(name, memoize=False)
    except Exception as error:  # a provider may lack its package, its key, or its weights, and says so in its own way
        raise StoryError(
            f"model {name!r} cannot be used: {_error_line(error)}; name an Inspect model as PROVIDER/NAME, such as openai/gpt-4o "
            "or nnsight/smollm2-135m-instruct"
        ) from error


def _error_line(error: BaseException) -> str:
    """Return what an error says, in one line: the last failure where Inspect gave up retrying, and without its markup."""
    last_attempt = getattr(error, "last_attempt", None)
    cause = error if last_attempt is None else last_attempt.exception()
    text = " ".join(_MARKUP.sub("", str(cause)).split())
    return f"{type(cause).__name__}: {text}" if text else type(cause).__name__


def _faults(story: Story, output: ModelOutput) -> dict[str, str]:
    """Return what is wrong with an answer, in words, by reason."""
    answers = story_prompts().answers
    opening = story.story.casefold().replace("’", "'").lstrip("\"'“ ")
    if output.stop_reason == "content_filter" or opening.startswith(answers.refusals):
        return {"refusal": output.error or f"stopped by {output.stop_reason}"}
    if not story.story:
        return {"empty": f"no text (stopped by {output.stop_reason})"}
    entry = catalogue().get(story.emotion)
    faults = faults_by_kind(story.story, entry)
    if entry is not None and entry.effect.casefold() in story.story.casefold():
        faults["names the state"] = "quotes the line that describes the state"
    if opening.startswith(answers.prefaces):
        faults["preface"] = "opens with words about the story"
    if output.stop_reason in {"max_tokens", "model_length"}:
        faults["cut off"] = f"stopped by {output.stop_reason}"
    return faults


def _duplicates(stories: Iterable[Story]) -> list[Rejected]:
    """Return those that say the same as another one, an earlier attempt and then the earlier place coming first."""
    first: dict[tuple[str, ...], Cell] = {}
    repeated = []
    for story in sorted(stories, key=lambda story: (story.attempt, story.cell)):
        words = tuple(re.findall(r"\w+", story.story.casefold()))
        kept = first.setdefault(words, story.cell)
        if kept != story.cell:
            repeated.append(Rejected(**dict(story), reason="duplicate", detail=f"says the same as {kept}"))
    return repeated


_Row = TypeVar("_Row", Story, Rejected)


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
    write_file(path, "".join(row.model_dump_json() + "\n" for row in rows).encode())
