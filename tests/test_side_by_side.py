"""The page that shows one seed's rollouts side by side."""

from dataclasses import replace
from pathlib import Path

import pytest

from self_steering.analysis.cli import main
from self_steering.analysis.report.files import PAGE_FILE, PAIRS_FILE
from self_steering.analysis.report.report import Runs, make_report
from self_steering.analysis.report.side_by_side import pairs_to_show, read_pairs, side_by_side
from self_steering.analysis.tables import read_tables
from tests.support.browser import check_in_browser, needs_browser
from tests.support.hand_made_logs import asked, said, sample, took, write_log
from tests.support.html_tree import read

pytestmark = pytest.mark.slow


def write(folder: Path, arms: dict[str, list]) -> Path:
    samples = [sample(messages, name=f"vectors-{arm}-0", metadata={"arm": arm}) for arm, messages in arms.items()]
    return write_log(folder / "a.eval", samples)


def test_arms_of_one_seed_are_marked_where_they_first_differ(tmp_path: Path):
    """In the message and at the word; what stands before is shared, whatever follows is not."""
    start = [*asked("Go on."), *took("calm")]
    write(
        tmp_path, {"placebo": [*start, *said("I am here now")], "real": [*start, *said("I am far away"), *said("Bye")]}
    )
    (pair,) = read_pairs([tmp_path])
    assert [column.arm for column in pair.columns] == ["real", "placebo"]
    assert pair.differs == 4
    real, placebo = (column.messages for column in pair.columns)
    assert [(one[3].same, one[3].first, one[3].after) for one in (real, placebo)] == [
        ("I am", " far", " away"),
        ("I am", " here", " now"),
    ]
    assert (real[4].same, real[4].first, real[4].after) == ("", "", "Bye")
    assert all(one.first == one.after == "" for one in real[:3])


def test_a_rollout_that_goes_on_parts_where_the_other_ends(tmp_path: Path):
    """One more message is a difference; none at all is none."""
    write(tmp_path, {"real": [*said("Yes"), *said("More")], "placebo": said("Yes")})
    assert [pair.differs for pair in read_pairs([tmp_path])] == [2]
    write(tmp_path, {"real": said("Yes"), "placebo": said("Yes")})
    assert [pair.differs for pair in read_pairs([tmp_path])] == [None]


def test_the_command_writes_one_page_that_needs_no_network(tmp_path: Path, capsys: pytest.CaptureFixture):
    """Whatever a model said is text in it."""
    write(tmp_path, {"real": said("<script>x</script> one"), "placebo": said("<script>x</script> two")})
    out = tmp_path / "page.html"
    assert main(["compare", str(tmp_path), "--out", str(out)]) == 0
    assert "1 seeds in two arms or more, 1 of which part" in capsys.readouterr().out
    page = out.read_text()
    assert "<script" not in page
    assert "http" not in page.split("<body>")[1]
    assert read(page) is not None


@needs_browser
def test_the_page_opens_in_a_browser_and_fits_a_narrow_screen(tmp_path: Path):
    """Without an error, whatever was said, in three arms and with words that nobody broke."""
    told = {arm: said(f"<img src=x onerror=alert(1)> {arm} {'W' * 400}") for arm in ("real", "placebo", "random")}
    write(tmp_path, told)
    check_in_browser(side_by_side(read_pairs([tmp_path])), tmp_path)


def test_one_arm_alone_has_nothing_beside_it(tmp_path: Path, capsys: pytest.CaptureFixture):
    """One line says what to run."""
    write(tmp_path, {"real": said("Yes")})
    assert main(["compare", str(tmp_path), "--out", str(tmp_path / "page.html")]) == 1
    assert "run an eval with -T arm=real,placebo" in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()


def test_a_report_of_several_arms_links_such_a_page(tmp_path: Path):
    """It stands beside the report, which says how many rollouts it holds; one arm alone has none."""
    write(tmp_path, {"real": [*said("Yes"), *said("No")], "placebo": [*said("Yes"), *said("Oh")]})
    tables = read_tables(tmp_path)
    assert pairs_to_show([tmp_path], tables) == []
    both = replace(tables, rollouts=tables.rollouts.assign(arm=["real", "placebo"]))
    pairs = pairs_to_show([tmp_path], both)
    report = make_report(Runs(both, {"logs": both}), (), pairs=pairs)
    page = report.files[PAGE_FILE].decode()
    assert f'<a href="{PAIRS_FILE}">1 rollout stands side by side</a>' in page
    assert "Oh" in report.files[PAIRS_FILE].decode()
    assert PAIRS_FILE not in make_report(Runs(both, {"logs": both}), ()).files
