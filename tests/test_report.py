"""The report: from folders of logs to a page and the files beside it, and what it must never do."""

import hashlib
import re
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest

from self_steering.analysis.cli import main as self_steering_command
from self_steering.analysis.drawing.figures import Picture, ReportFigure, new_figure
from self_steering.analysis.drawing.style import BLUE
from self_steering.analysis.report import figures as report_figures
from self_steering.analysis.report.figures import FigureSection
from self_steering.analysis.report.files import ReportFolderError, check_report_folder, write_report
from self_steering.analysis.report.report import Runs, make_report, read_runs
from self_steering.analysis.tables import empty_tables
from self_steering.analysis.tables.columns import COLUMNS
from tests.support.browser import check_in_browser, needs_browser
from tests.support.hand_made_logs import said, sample, took, write_log
from tests.support.html_tree import read

pytestmark = pytest.mark.slow

HOSTILE = '"><script>alert(1)<script>\u202e<img src=x onerror=alert(2)>.eval'
MODEL = "vllm-lens/<b>Qwen</b>"
TAKEN = ["creative", "creative", "focused", "calm", "anxious"]


def play(path: Path, name: str, *, arm: str = "real", rollouts: int = 4, model: str = MODEL, **log) -> Path:
    """Write a log of free play: the first rollout takes one vector of TAKEN, the next two of them, and so on."""
    samples = [
        sample([part for one in TAKEN[: 1 + n] for part in took(one)] + said(), name=f"s-{n}") for n in range(rollouts)
    ]
    args = {"framing": "drugs", "steering_mode_runtime": arm}
    task = f"fp_{arm}_drugs"
    return write_log(path / name, samples, task=task, args=args, model=model, eval_id=name, task_id=name, **log)


@pytest.fixture(scope="module")
def logs(tmp_path_factory) -> Path:
    """Two arms, one file with a hostile name, one unfinished log, one file that is none."""
    folder = tmp_path_factory.mktemp("read") / "logs"
    play(folder, "a.eval")
    play(folder, HOSTILE)
    play(folder, "b.eval", arm="placebo", rollouts=3)
    play(folder, "started.eval", status="started")
    write_log(folder / "failed.eval", [sample(error=HOSTILE)])
    (folder / f"torn {HOSTILE}").write_bytes(b"PK torn")
    return folder


@pytest.fixture(scope="module")
def made(logs, tmp_path_factory) -> tuple[Path, str]:
    """The report of these logs, made by the command, and what that printed."""
    folder, printed = tmp_path_factory.mktemp("made") / "report", StringIO()
    with redirect_stdout(printed):
        assert self_steering_command(["report", str(logs), "--out", str(folder)]) == 0
    return folder, printed.getvalue()


@pytest.fixture(scope="module")
def out(made) -> Path:
    """The report's folder."""
    return made[0]


@pytest.fixture(scope="module")
def tree(out):
    """Its page, read."""
    return read((out / "index.html").read_text(encoding="utf-8"))


def figure(tables, key="one", *, label="One bar, of 2.") -> ReportFigure:
    """Return a figure of one bar."""
    drawing = new_figure(200, 100)
    drawing.subplots().bar([0], [2], color=BLUE)
    table = pd.DataFrame({"what": ["a"], "value": [2.0], "method": ["Wilson"]})
    return ReportFigure(key, f"Title of {key}", (Picture(drawing, label),), "It is 2.", "A bar.", table)


def section(*functions) -> tuple[FigureSection, ...]:
    return (FigureSection("A section", "What it is about.", functions),)


def report_of(*functions, tables=None):
    tables = empty_tables() if tables is None else tables
    return make_report(Runs(tables, {"logs": tables}), section(*functions))


def page_of(report):
    return read(report.files["index.html"].decode())


# ---------------------------------------------------------------- the page


def test_what_was_read_is_counted_by_experiment_model_and_arm(tree):
    """Rollouts, logs and takes of each cell; the two logs of one arm are one row."""
    rows = [[cell.text for cell in row.all("td")] for row in tree.all("table")[0].all("tbody")[0].all("tr")]
    # Rollouts take 1, 2, ... vectors: 1 + 2 + 3 + 4 in each real log, 1 + 2 + 3 under placebo.
    assert [row[1:2] + row[3:] for row in rows] == [
        ["freeplay", "placebo", "1", "3", "6", "0"],
        ["freeplay", "real", "2", "8", "20", "0"],
    ]
    assert "11 rollouts from 3 logs" in tree.all("p")[0].text


def test_files_that_were_left_out_are_listed_with_their_reasons(made, tree):
    """The page and the command both tell them; the logs beside them are in."""
    (table,) = [one for one in tree.all("table") if one.attributes.get("class") == "files-list"]
    listed = {row.all("td")[0].text: row.all("td")[1].text for row in table.all("tbody")[0].all("tr")}
    torn = f"torn {HOSTILE}".replace("\u202e", r"\u202e")
    assert listed.keys() == {"started.eval", "failed.eval", torn}
    assert "alert(2)" in listed["failed.eval"]
    assert "not finished (status started)" in listed["started.eval"]
    folder, printed = made
    for name, reason in listed.items():
        assert f"{name}: {reason}" in printed
    assert str(folder / "index.html") in printed


def test_names_in_logs_are_shown_as_text(out, tree):
    """No file name, model or reason puts an element or attribute into the page, or turns the direction of its text."""
    assert not tree.all("script", "b", "img")
    assert not [one for one in tree.all() if any(name.startswith("on") for name in one.attributes)]
    assert "<b>Qwen</b>" in tree.all("h1")[0].text
    assert "alert(1)" in tree.text
    assert "\u202e" not in (out / "index.html").read_text(encoding="utf-8")


def test_the_page_needs_no_network_and_no_scripts(out, tree):
    """Nothing is fetched, and a policy forbids it; links lead to the page itself or to files beside it."""
    page = (out / "index.html").read_text(encoding="utf-8")
    assert not tree.all("script", "link", "iframe", "object", "embed", "base", "form", "img")
    assert not re.search(r"@import|@font-face|url\((?!#)|https?:", page)
    policies = [one.attributes["content"] for one in tree.all("meta") if "http-equiv" in one.attributes]
    assert policies[0].startswith("default-src 'none'")
    addresses = {one.attributes["href"] for one in tree.all("a", "use", "image") if "href" in one.attributes}
    addresses = {one for one in addresses if not one.startswith("data:image/png")}
    ids = [one.attributes["id"] for one in tree.all() if "id" in one.attributes]
    assert len(ids) == len(set(ids))
    assert {one[1:] for one in addresses if one.startswith("#")} <= set(ids)
    files = {unquote(one) for one in addresses if not one.startswith("#")}
    assert files
    assert all((out / one).is_file() for one in files)


def test_every_figure_says_what_it_shows(out, tree):
    """Title, finding, alternative text with a number, reading, its files and its table."""
    figures = tree.all("figure")
    assert figures
    for one in figures:
        assert one.all("h3")[0].text
        assert re.search(r"\d", one.all("p")[0].text)
        assert one.all("figcaption")[0].text
        assert all(re.search(r"\d", svg.attributes["aria-label"]) for svg in one.all("svg"))
        assert all(svg.attributes["role"] == "img" for svg in one.all("svg"))
        links = [link.attributes["href"] for link in one.all("a")]
        assert len(links) == 1 + 2 * len(one.all("svg"))
        shown = len(one.all("tbody")[0].all("tr"))
        assert shown == min(200, len(pd.read_csv(out / links[0])))


def test_the_page_names_the_methods_it_uses(tree):
    """The appendix describes those that stand beside its numbers, no others, and leaves none out."""
    named = [one.text for one in tree.all("dt")]
    assert "bootstrap over clusters" in named
    assert "sign flips" not in named
    assert "not described here" not in tree.text


def test_logs_that_hold_nothing_for_any_figure_make_a_page_that_says_so():
    """It has no figure, and names those that it could not draw."""

    def wanted_figure(_):
        return None

    page = page_of(report_of(wanted_figure))
    assert "hold nothing for any figure" in page.text
    assert "hold nothing for: wanted figure" in page.text
    assert not page.all("figure")


def test_the_same_logs_give_the_same_bytes(logs, out, tmp_path):
    """No date, random id, order of a set or name of a machine's folder is in any file."""
    other = tmp_path / "elsewhere" / "logs"
    other.mkdir(parents=True)
    for path in logs.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    assert self_steering_command(["report", str(other), "--out", str(tmp_path / "again")]) == 0
    assert contents(tmp_path / "again") == contents(out)


def test_a_hostile_figure_cannot_break_the_page():
    """Titles, labels, findings, tables and names of columns are text, whatever is in them."""

    def hostile(tables):
        one = figure(tables, label=HOSTILE)
        table = pd.DataFrame({HOSTILE: [HOSTILE]})
        return replace(one, title=HOSTILE, finding=HOSTILE, reading=HOSTILE, table=table)

    report = report_of(hostile)
    page = page_of(report)
    assert not page.all("script", "img")
    assert "\u202e" not in report.files["index.html"].decode()
    assert page.all("figure")[0].text.count("alert(1)") == 5
    assert "alert(1)" in page.all("svg")[0].attributes["aria-label"]


@needs_browser
def test_the_page_opens_in_a_browser_and_fits_a_narrow_screen(out, tmp_path):
    """Without an error, whatever the names in the logs are."""
    check_in_browser((out / "index.html").read_text(encoding="utf-8"), tmp_path)


# ---------------------------------------------------------------- figures that fail


def broken(tables):
    raise ValueError("no such <b>column</b>")


def test_a_figure_that_fails_is_shown_as_failed_and_the_others_are_drawn():
    """The page says which it is, with its error; what comes after it is there."""
    report = report_of(broken, figure)
    assert [one.name for one in report.failed] == ["broken"]
    page = page_of(report)
    assert "1 figure could not be drawn" in page.all("p")[0].text
    (shown,) = [one for one in page.all("div") if one.attributes.get("class") == "failed"]
    assert "“broken” could not be drawn" in shown.text
    assert "ValueError: no such <b>column</b>" in shown.text
    assert [one.attributes["id"] for one in page.all("figure")] == ["figure-one"]


def test_two_figures_of_one_name_are_not_confused():
    """The second is a failure: its files would have replaced the first's."""
    report = report_of(figure, lambda tables: replace(figure(tables), title="Another"))
    assert [one.figure.title for one in report.drawn] == ["Title of one"]
    assert "two figures have the key 'one'" in report.failed[0].error


def test_the_command_fails_when_a_figure_does(logs, tmp_path, monkeypatch, capsys):
    """It writes the page, and ends in one line that names the figure and its error."""
    monkeypatch.setattr(report_figures, "REPORT_FIGURES", section(broken, figure))
    assert self_steering_command(["report", str(logs), "--out", str(tmp_path / "report")]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("self-steering: 1 figures could not be drawn")
    assert "broken (ValueError: no such <b>column</b>" in last
    assert (tmp_path / "report" / "figures" / "one.png").is_file()


# ---------------------------------------------------------------- the files beside it


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_tidy_table_is_written_with_its_columns(logs, out):
    """They hold the rows of the tables, and the empty ones their header."""
    tables = read_runs([logs]).tables
    for name, columns in COLUMNS.items():
        written = pd.read_csv(out / "tables" / f"{name}.csv")
        assert list(written) == list(columns)
        assert len(written) == len(getattr(tables, name))
    assert len(pd.read_csv(out / "tables" / "takes.csv")) == 26


def test_the_list_of_contents_is_that_of_the_folder(out):
    """Each file but the list itself stands in it, with its hash."""
    listed = (
        pd.read_csv(out / "contents.csv").set_index(pd.read_csv(out / "contents.csv").columns[0])["sha256"].to_dict()
    )
    files = contents(out)
    del files["contents.csv"]
    assert listed == {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


# ---------------------------------------------------------------- the folder


def test_a_report_takes_the_place_of_an_earlier_one(tmp_path):
    """The files of the earlier one are gone, and nothing is left beside it."""
    write_report(tmp_path / "report", {"index.html": b"old", "figures/old.png": b"1"})
    write_report(tmp_path / "report", {"index.html": b"new"})
    assert contents(tmp_path / "report").keys() == {"index.html", "contents.csv"}
    assert (tmp_path / "report" / "index.html").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


@pytest.mark.parametrize("own", [False, True])
def test_a_folder_with_files_that_are_no_reports_is_left_alone(own, tmp_path):
    """The message names one of them and the remedy; a file that somebody put into a report counts too."""
    folder = tmp_path / "report"
    if own:
        write_report(folder, {"index.html": b"old"})
    (folder / "notes").mkdir(parents=True)
    (folder / "notes" / "mine.txt").write_text("mine")
    before = contents(folder)
    with pytest.raises(ReportFolderError, match=r"holds 1 files that are no report's, 'notes/mine.txt' .*--out"):
        write_report(folder, {"index.html": b"new"})
    assert contents(folder) == before


def test_a_file_is_no_folder(tmp_path):
    """It is refused by name."""
    (tmp_path / "report").write_text("mine")
    with pytest.raises(ReportFolderError, match="report is a file; name a folder"):
        check_report_folder(tmp_path / "report")


def test_what_stops_the_writing_leaves_the_earlier_report_whole(tmp_path):
    """Nothing is half-written, and no scratch folder stays."""
    write_report(tmp_path / "report", {"index.html": b"old"})
    before = contents(tmp_path / "report")
    with pytest.raises((OSError, ValueError)):
        write_report(tmp_path / "report", {"index.html": b"new", "figures/a\0b.png": b"1"})
    assert contents(tmp_path / "report") == before
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


@pytest.mark.parametrize(("given", "message"), [("empty", "no log in the folder"), ("nowhere", "there is no")])
def test_a_folder_without_logs_is_an_error(given, message, tmp_path, capsys):
    """One line says so, and no report is written."""
    (tmp_path / "empty").mkdir()
    assert self_steering_command(["report", str(tmp_path / given), "--out", str(tmp_path / "report")]) == 1
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "report").exists()


# ---------------------------------------------------------------- several runs


def test_two_runs_are_read_together_and_told_apart(tmp_path):
    """Names are as long as it takes; a log that both hold counts once."""
    for name in ("x/logs", "y/logs"):
        play(tmp_path / name, f"{name[0]}.eval")
    runs = read_runs([tmp_path / "x" / "logs", tmp_path / "y" / "logs"])
    assert list(runs.apart) == ["x/logs", "y/logs"]
    assert [one.logs["log"].tolist() for one in runs.apart.values()] == [["x.eval"], ["y.eval"]]
    assert [len(one.takes) for one in runs.apart.values()] == [10, 10]
    assert len(runs.tables.takes) == 20
    both = read_runs([tmp_path / "x", tmp_path / "x" / "logs" / "x.eval"])
    assert len(both.tables.takes) == 10


def test_a_run_that_is_named_twice_is_refused(tmp_path):
    """There is nothing to compare."""
    play(tmp_path, "a.eval")
    with pytest.raises(ValueError, match="is named twice"):
        read_runs([tmp_path, f"{tmp_path}/."])


def test_two_runs_are_set_side_by_side_on_the_page(logs, tmp_path, monkeypatch):
    """The section names both, and its file has a row for each effect that both have."""
    monkeypatch.setattr(report_figures, "REPORT_FIGURES", ())
    play(tmp_path / "second", "a.eval", rollouts=5)
    assert self_steering_command(["report", str(logs), str(tmp_path / "second"), "--out", str(tmp_path / "out")]) == 0
    tree = read((tmp_path / "out" / "index.html").read_text(encoding="utf-8"))
    assert "Run logs beside second" in [one.text for one in tree.all("h3")]
    pairs = pd.read_csv(tmp_path / "out" / "comparison" / "pair_1.csv")
    assert set(pairs["arm"]) == {"real"}
    rate = pairs[pairs["effect"] == "redose rate"].iloc[0]
    # Of each log's 1 + 1 + 2 + 3 vectors taken 0 + 1 + 1 + 1 are taken again; the fifth rollout adds one of four.
    assert rate["first"] == pytest.approx(3 / 7)
    assert rate["second"] == pytest.approx(4 / 11)
    assert rate["difference"] == pytest.approx(4 / 11 - 3 / 7)
    assert rate["low"] < rate["difference"] < rate["high"]
