"""The package as others get it: a wheel that has everything in it, and an entry a task for the register of inspect_evals."""

import inspect
import json
import re
import shutil
import site
import subprocess
import sys
import tomllib
import zipfile
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
import yaml
from inspect_ai import list_tasks
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from self_steering.evals import _registry as registry

ROOT = Path(__file__).parent.parent
PACKAGES = ("analysis", "evals", "scorers", "solvers", "steering", "vectors")
NO_DATA = {".pyc", ".md", ".png"}  # pages and their pictures are for readers of the repository
# What Inspect's command line does first, then what each folder reads of its own data.
USE = """
import json, sys
sys.path[:0] = [sys.argv[1]]
sys.path += sys.argv[2:]
from importlib.metadata import entry_points
(point,) = [one for one in entry_points(group="inspect_ai") if one.value == "self_steering.evals._registry"]
registry = point.load()
made = {name: len(getattr(registry, name)().dataset) for name in ("introspection", "maths", "frustration", "freeplay")}
from self_steering.analysis.cli import main
from self_steering.analysis.report import report_page
from self_steering.steering.call_formats import call_formats
from self_steering.vectors.card import find_library, read_card
from self_steering.vectors.making.corpus import load_corpus
print(json.dumps({"from": registry.__file__, "made": made, "stories": len(load_corpus().stories)}))
"""


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a wheel's contents, built from a copy of the repository without network."""
    folder = tmp_path_factory.mktemp("package")
    source = folder / "source"
    source.mkdir()
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    build = f"from setuptools.build_meta import build_wheel; build_wheel({str(folder)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)  # noqa: S603  our own
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


@pytest.mark.slow
def test_a_wheel_holds_every_file_of_every_package(unpacked: Path):
    """Prompts, problems, stories, libraries, templates, weights: nothing that the editable install reads is left out."""

    def held(root: Path) -> set[str]:
        files = (path for package in PACKAGES for path in (root / package).rglob("*"))
        return {str(p.relative_to(root)) for p in files if p.is_file() and p.suffix not in NO_DATA}

    assert held(unpacked / "self_steering") == held(ROOT)
    (licence,) = unpacked.glob("*.dist-info/**/LICENSE")
    assert licence.read_text() == (ROOT / "LICENSE").read_text()


@pytest.mark.slow
def test_a_wheel_works_as_the_editable_install_does(unpacked: Path, tmp_path: Path):
    """Away from the repository, with nothing of it on the path: Inspect finds the tasks, and they find their data."""
    command = [sys.executable, "-S", "-c", USE, str(unpacked), *site.getsitepackages()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)  # noqa: S603  our own
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["from"].startswith(str(unpacked))
    assert found["made"] == {name: len(getattr(registry, name)().dataset) for name in found["made"]}
    assert found["stories"] == 41


def test_the_lock_file_names_every_package_that_an_install_brings():
    """What is not pinned is another version tomorrow."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {canonicalize_name(name) for name, is_pinned, _ in (line.partition("==") for line in lines) if is_pinned}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    waiting = {Requirement(text) for text in [*project["dependencies"], *project["optional-dependencies"]["dev"]]}
    brought: set[Requirement] = set()
    while waiting:
        one = waiting.pop()
        brought.add(one)
        needed: list[str] = []
        with suppress(PackageNotFoundError):  # of an extra that is not installed here nobody knows what it brings
            needed = requires(one.name) or []
        for other in map(Requirement, needed):
            if other.marker is None or any(other.marker.evaluate({"extra": extra}) for extra in one.extras or {""}):
                waiting |= {other} - brought
    assert {canonicalize_name(one.name) for one in brought} - pinned == set()


ENTRIES = sorted((ROOT / "register").glob("*/eval.yaml"))
NEEDED = {"full_title", "common_title", "description", "contributors", "tasks", "source"}
NO_DATASET = {"any_task", "ctf"}  # that of the task which is wrapped


def test_every_task_has_an_entry_of_its_own():
    """The register takes one task an entry, in a folder of its name."""
    tasks = {info.name for info in list_tasks("evals", root_dir=ROOT)}
    assert {path.parent.name for path in ENTRIES} == tasks


@pytest.mark.parametrize("path", ENTRIES, ids=lambda path: path.parent.name)
def test_an_entry_says_what_the_task_is(path: Path):
    """Where it is, and how many samples it has by default; all else is as the register's readers need it."""
    entry = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert NEEDED <= entry.keys() <= NEEDED | {"tags", "metadata", "arxiv", "evaluation_report"}
    assert "\n" not in entry["description"].strip()
    (task,) = entry["tasks"]
    assert task["name"] == path.parent.name
    assert f"\ndef {task['name']}(" in (ROOT / task["task_path"]).read_text(encoding="utf-8")
    if task["name"] not in NO_DATASET:
        made = getattr(registry, task["name"])()
        assert task["dataset_samples"] == len(made.dataset)
        if report := entry.get("evaluation_report"):
            # Scores of another number before the dash cannot be compared to this task's.
            assert report["version"].partition("-")[0] == str(made.version).partition("-")[0]
            given = re.findall(r"-T (\w+)=", report["command"])
            assert set(given) <= inspect.signature(getattr(registry, task["name"])).parameters.keys()


@pytest.mark.parametrize("path", ENTRIES, ids=lambda path: path.parent.name)
def test_the_register_reads_an_entry(path: Path):
    """With its own model of one, where inspect_evals is installed."""
    register = pytest.importorskip("inspect_evals.metadata", reason="pip install -e '.[evals]'")
    entry = yaml.safe_load(path.read_text(encoding="utf-8"))
    register.ExternalEvalMetadata(**entry, id=path.parent.name)
