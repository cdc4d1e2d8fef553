"""The pages in a real browser: nothing is fetched, nothing goes wrong, and nothing overflows a narrow screen."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from self_steering.analysis.cli import main as self_steering_command
from self_steering.analysis.library.library_page import library_page
from tests.support.html_tree import read
from tests.test_library_page import library
from tests.test_report import play

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
NARROW = 390
# What the page's policy forbids: the test's own copy of the page measures itself.
MEASURE = "<script>document.title = document.documentElement.scrollWidth + ' of ' + window.innerWidth</script>"


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, str]:
    """A report on free play in two arms, and the page of a library."""
    folder = tmp_path_factory.mktemp("pages")
    for arm in ("real", "placebo"):
        play(folder / "logs", f"{arm}.eval", arm=arm)
    assert self_steering_command(["report", str(folder / "logs"), "--out", str(folder / "report")]) == 0
    return {
        "report": (folder / "report" / "index.html").read_text(encoding="utf-8"),
        "library": library_page(library()),
    }


def opened(page: str, folder: Path) -> tuple[str, str]:
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


@pytest.mark.parametrize("name", ["report", "library"])
def test_a_page_opens_without_an_error_and_fits_a_narrow_screen(name, pages, tmp_path):
    """Its policy lets nothing through, its console stays empty, no part is wider than the screen, every picture has a text."""
    dom, logged = opened(pages[name], tmp_path)
    assert "CONSOLE" not in logged
    pictures = read(dom).all("svg")
    assert pictures
    assert all(picture.attributes["aria-label"].strip() for picture in pictures)
    unguarded = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", pages[name])
    measured = read(opened(unguarded.replace("</body>", f"{MEASURE}</body>"), tmp_path)[0]).all("title")[0].text
    width, _, screen = measured.partition(" of ")
    assert int(width) <= int(screen)
