"""Pages in a real browser: nothing is fetched, nothing goes wrong, and nothing overflows a screen, wide or narrow."""

import html
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.html_tree import read

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
SCREENS = (390, 1280)
# Chromium's own window is never narrower than 500 pixels, so the page stands in frames; all that can be opened is.
FRAME = '<iframe style="border: 0; width: {width}px; height: 844px" srcdoc="{page}"></iframe>'
MEASURE = """<script>
onload = () => document.title = JSON.stringify([...document.querySelectorAll("iframe")].map(({contentDocument: page}) => {
  page.querySelectorAll("details").forEach(one => one.open = true);
  const drawn = [...page.querySelectorAll(".drawn")];
  const cut = drawn.filter(one => one.scrollWidth > one.clientWidth);
  const told = cut.filter(one => getComputedStyle(one, "::before").content !== "none");
  return [page.documentElement.scrollWidth, cut.length, told.length];
}));
</script>"""


def check_in_browser(page: str, folder: Path) -> None:
    """Its policy lets nothing through, its console stays empty, no part is wider than a screen, every picture has a text.

    Where a figure is wider than the screen, it scrolls by itself and says so.
    """
    pictures = [*read(page).all("svg"), *read(page).all("img")]
    assert all((one.attributes.get("aria-label") or one.attributes.get("alt") or "").strip() for one in pictures)
    frames = "".join(FRAME.format(width=width, page=html.escape(page)) for width in SCREENS)
    path = folder / "page.html"
    path.write_text(f'<!doctype html><meta charset="utf-8"><title></title>{frames}{MEASURE}', encoding="utf-8")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    command += [f"--user-data-dir={folder / 'profile'}", "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)  # noqa: S603
    assert "CONSOLE" not in done.stderr
    measured = json.loads(read(done.stdout).all("title")[0].text)
    assert all(cut == told for _, cut, told in measured), measured
    widths = [width for width, _, _ in measured]
    assert all(width <= screen for width, screen in zip(widths, SCREENS, strict=True)), widths
