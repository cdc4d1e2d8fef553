"""The templates of pages: one base, and what each page adds to it."""

from functools import cache
from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template

from self_steering.analysis.drawing.theme import THEMES
from self_steering.analysis.page import page_text


def page_template(name: str) -> Template:
    """Return the template `NAME.html.j2`; what is put into it is shown as text unless it is markup."""
    return _environment().get_template(f"{name}.html.j2")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(_source), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals["themes"] = THEMES
    environment.filters |= {
        "number": page_text.number,
        "plain": page_text.plain,
        "span": page_text.span,
        "visible": page_text.visible,
        "token": page_text.token,
    }
    return environment


def _source(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
