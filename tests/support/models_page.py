"""The tables of the page `steering/MODELS.md`: `python -m tests.support.models_page` writes them again."""

import re
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from self_steering.steering.call_formats import format_table
from self_steering.steering.template import ChatError, ChatTemplate
from self_steering.steering.thinking import find_thinking
from tests.support.templates import OWN_TEMPLATES, published_templates, template_renderer, template_tokenizer

PAGE = Path(__file__).parents[2] / "steering" / "MODELS.md"
_TABLE = r"(?:\|[^\n]*\n)*"


def written_again(page: str) -> str:
    """Return the page with its tables as they are now; that of real models stays where trl is not the one that it names."""
    forms = [(f"`{name}`", families, f"`` {_in_line(example)} ``") for name, families, example in format_table()]
    tables = {"forms": _table(("form", "models", "example"), forms), "own": _templates(OWN_TEMPLATES)}
    try:
        if f"trl {version('trl')} carries" in page:
            tables["published"] = _templates(published_templates())
    except PackageNotFoundError:
        pass
    for name, table in tables.items():
        before, mark, after = page.partition(f"<!-- {name} -->\n")
        page = before + mark + table + re.sub(rf"\A{_TABLE}", "", after)
    return page


def _templates(names: Iterable[str]) -> str:
    head = (
        "template",
        "tools from",
        "calls",
        "thinking",
        "thoughts between",
        "a turn ends with",
        "gets in another form",
    )
    return _table(head, map(_row, names))


def _row(name: str) -> tuple[str, ...]:
    tokenizer, renderer = template_tokenizer(name), template_renderer(name)
    marks = [f"`{one.open}` `{one.close}`" for one in renderer.thought_marks[:1]]
    written = str(tokenizer.chat_template)  # the tokenizer of bytes has an end of its own
    ends = [end for end in tokenizer.convert_ids_to_tokens(sorted(renderer.end_ids)) if end in written] or ["eos_token"]
    return (
        f"`{name}`",
        "itself" if renderer.template_knows_tools else "prompt of ours",
        renderer.call_format.name,
        _thinking(tokenizer),
        _in_line(" ".join(marks)),
        _in_line(" ".join(f"`{end}`" for end in (*ends, *renderer.stop_texts))),
        renderer.remedies,
    )


def _thinking(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return how a template is told whether to think."""
    found = {}
    for wanted in (True, False, "low"):
        try:
            found[wanted] = find_thinking(ChatTemplate(tokenizer), wanted)
        except ChatError:
            continue
    level = next(iter(found["low"].options), "") if "low" in found else ""
    switch = found.get(False) or found.get(True)
    parts = [f"levels: `{level}`"] if level else []
    if switch is not None and (name := next(iter(switch.options), switch.line)) and name != level:
        parts.insert(0, f"on or off: `{name}`")
    if not parts and True in found:
        return "always"
    return "; ".join(parts) or "no switch"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [tuple(head), *(tuple(row) for row in rows)]
    texts = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines]
    return "\n".join([texts[0], "| --- " * len(lines[0]) + "|", *texts[1:], ""])


def _in_line(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    PAGE.write_text(written_again(PAGE.read_text("utf-8")), "utf-8")
