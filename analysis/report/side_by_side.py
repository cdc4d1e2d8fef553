"""Rollouts of one seed side by side, real beside its controls, each marked at the first word in which they differ."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from inspect_ai.log import EvalSample
from inspect_ai.model import ChatMessage, ChatMessageAssistant

from self_steering.analysis.drawing.page import page_template
from self_steering.analysis.tables import Tables
from self_steering.analysis.tables.log_files import find_logs, open_log, read_samples
from self_steering.scorers.metrics import ARM_ORDER

_WORD = re.compile(r"\s*\S+|\s+$")
_LOGS_SHOWN = 10  # logs whose rollouts stand side by side beside a report


@dataclass(frozen=True)
class Said:
    """One message as a column shows it.

    Attributes:
        number: Its number, from 1, as View counts.
        role: Whose it is.
        same: What all columns share.
        first: The word in which this one differs; empty where it does not, or has differed before.
        after: What follows.
    """

    number: int
    role: str
    same: str
    first: str
    after: str


@dataclass(frozen=True)
class Column:
    """One arm's rollout."""

    arm: str
    messages: Sequence[Said]


@dataclass(frozen=True)
class Pair:
    """The rollouts of one seed.

    Attributes:
        name: What they share of their ids, and the epoch.
        columns: One an arm, real first.
        differs: Number of the message in which they part; None where they never do.
    """

    name: str
    columns: Sequence[Column]
    differs: int | None


def read_pairs(paths: Sequence[str | Path]) -> list[Pair]:
    """Return the rollouts of logs that are the same but for their arm, by log and id.

    Raises:
        ValueError: There is no log, or none has two arms of one seed.
        LogError: A log is broken or not finished.
    """
    pairs = _pairs([file.path for file in find_logs(paths)])
    if not pairs:
        raise ValueError(
            f"no two rollouts of one seed in two arms among {', '.join(map(str, paths))}; run an eval with -T arm=real,placebo"
        )
    return pairs


def pairs_to_show(paths: Sequence[str | Path], tables: Tables) -> list[Pair]:
    """Return such rollouts of the first logs that have any, for a page beside a report; none where there are none.

    Args:
        paths: The folders and files that the tables are read from.
        tables: The tables, which say what there is, so that no other log is read again.
    """
    arms = tables.rollouts[tables.rollouts["turns"] > 1].groupby("log")["arm"].nunique()
    known = {file.name: file.path for file in find_logs(paths)}
    return _pairs([known[name] for name in arms.index[arms > 1] if name in known][:_LOGS_SHOWN])


def _pairs(paths: Sequence[Path]) -> list[Pair]:
    found: dict[tuple[str, str, int], dict[str, EvalSample]] = {}
    for path in paths:
        log = open_log(path)
        for sample in read_samples(path):
            arm = (sample.metadata or {}).get("arm")
            if isinstance(arm, str) and sample.messages:
                shared = "-".join(part for part in str(sample.id).split("-") if part != arm)
                found.setdefault((log.eval.task, shared, sample.epoch), {})[arm] = sample
    return [
        _pair(f"{task}: {name}, epoch {epoch}", arms) for (task, name, epoch), arms in found.items() if len(arms) > 1
    ]


def side_by_side(pairs: Sequence[Pair]) -> str:
    """Return the page: HTML that needs no network."""
    return page_template("side_by_side").render(
        pairs=pairs, parted=[pair for pair in pairs if pair.differs is not None]
    )


def _pair(name: str, arms: Mapping[str, EvalSample]) -> Pair:
    order = sorted(arms, key=lambda arm: (ARM_ORDER.index(arm) if arm in ARM_ORDER else len(ARM_ORDER), arm))
    texts = {arm: [_text(message) for message in arms[arm].messages] for arm in order}
    words = {arm: [word for text in of_arm for word in ["\n", *_WORD.findall(text)]] for arm, of_arm in texts.items()}
    longest = max(map(len, words.values()))
    places = range(longest)
    parted = next((i for i in places if len({tuple(of_arm[i : i + 1]) for of_arm in words.values()}) > 1), None)
    columns = [Column(arm, _marked(arms[arm].messages, texts[arm], parted)) for arm in order]
    differs = next((one.number for one in columns[0].messages if one.first or (parted is not None and one.after)), None)
    return Pair(name, columns, differs if parted is not None else None)


def _marked(messages: Sequence[ChatMessage], texts: Sequence[str], parted: int | None) -> list[Said]:
    found, passed = [], 0
    for number, (message, text) in enumerate(zip(messages, texts, strict=True), 1):
        words = ["\n", *_WORD.findall(text)]
        at = len(words) if parted is None else min(max(parted - passed, 0), len(words))
        here = parted is not None and 0 <= parted - passed < len(words)
        first = words[at] if here else ""
        rest = words[at + 1 :] if here else words[at:]
        found.append(
            Said(number, message.role, "".join(words[:at]).strip("\n"), first.strip("\n"), "".join(rest).strip("\n"))
        )
        passed += len(words)
    return found


def _text(message: ChatMessage) -> str:
    calls = message.tool_calls or [] if isinstance(message, ChatMessageAssistant) else []
    told = [
        f"{call.function}({', '.join(f'{name}={value!r}' for name, value in call.arguments.items())})" for call in calls
    ]
    return "\n".join(part for part in (message.text, *told) if part)
