"""The package as others get it: a wheel that has everything in it, and an entry a task for the register of inspect_evals."""

import json
import shutil
import site
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from inspect_ai import list_tasks

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
        assert task["dataset_samples"] == len(getattr(registry, task["name"])().dataset)
