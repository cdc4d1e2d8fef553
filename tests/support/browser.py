"""Pages in a real browser: nothing is fetched, nothing goes wrong, and nothing overflows a narrow screen."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.html_tree import read

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
NARROW = 390
# What the page's policy forbids: the test's own copy of the page measures itself.
MEASURE = "<script>document.title = document.documentElement.scrollWidth + ' of ' + window.innerWidth</script>"


def check_in_browser(page: str, folder: Path) -> None:
    """Its policy lets nothing through, its console stays empty, no part is wider than the screen, every picture has a text."""
    dom, logged = _opened(page, folder)
    assert "CONSOLE" not in logged
    pictures = read(dom).all("svg")
    assert pictures
    assert all(picture.attributes["aria-label"].strip() for picture in pictures)
    unguarded = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    measured = read(_opened(unguarded.replace("</body>", f"{MEASURE}</body>"), folder)[0]).all("title")[0].text
    width, _, screen = measured.partition(" of ")
    assert int(width) <= int(screen)


def _opened(page: str, folder: Path) -> tuple[str, str]:
    """Return the page as the browser has it after loading, and what it logged."""
    path = folder / "page.html"
    path.write_text(page, encoding="utf-8")
    command = [
        BROWSER,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
        f"--window-size={NARROW},844",
    ]
    command += [f"--user-data-dir={folder / 'profile'}", "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)  # noqa: S603
    return done.stdout, done.stderr
