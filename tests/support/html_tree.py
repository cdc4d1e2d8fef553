"""Pages of HTML, read into a tree; what is not closed, or closes something else, is an error."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br", "hr", "input", "base", "source", "embed"}


@dataclass
class Element:
    """One element of a page."""

    tag: str
    attributes: dict[str, str]
    children: list["Element | str"] = field(default_factory=list)

    def all(self, *tags):
        """Return the elements of these tags, in order; all if none is named."""
        found = [self] if self.tag in tags or not tags else []
        return found + [one for child in self.children if isinstance(child, Element) for one in child.all(*tags)]

    @property
    def text(self):
        """The words inside."""
        words = (child if isinstance(child, str) else child.text for child in self.children)
        return " ".join(" ".join(words).split())


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open = [Element("page", {})]

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(self.open[-1].children[-1])

    def handle_startendtag(self, tag, attrs):
        self.open[-1].children.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop().tag == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        self.open[-1].children.append(data)


def read(page):
    """Return the root of a page's elements."""
    reader = _Reader()
    reader.feed(page)
    assert len(reader.open) == 1, "something is not closed"
    return reader.open[0]
