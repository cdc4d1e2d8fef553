"""The page that shows what is known of a vector library: one HTML file that needs no network and no scripts."""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from self_steering.analysis.drawing.page import page_template
from self_steering.analysis.library.library_figures import library_figures
from self_steering.vectors.catalogue import NO_OWN, Own, VectorEntry, described
from self_steering.vectors.making import coherence
from self_steering.vectors.report import (
    GOOD_AUROC,
    Calibration,
    DoseTrial,
    LibraryReport,
    VectorCalibration,
    VectorReport,
)

_VALENCES = {-1: "negative", 0: "neutral", 1: "positive"}


class PageError(ValueError):
    """A report that no page can be drawn from; the message says what contradicts what."""


@dataclass(frozen=True)
class Column:
    """The answers at one dose.

    Attributes:
        nominal: The dose as the model is told it.
        trial: What it did; None without steering.
        answers: One a prompt.
    """

    nominal: float
    trial: DoseTrial | None
    answers: list[str]


@dataclass(frozen=True)
class Entry:
    """One vector as the page shows it.

    Attributes:
        name: Its name.
        anchor: Id of its section, made of its place: a name may hold anything.
        known: What its library or the catalogue says of it; None where neither does.
        data: Its report.
        reliability: At the middle of the steered layers.
        found: How its default dose was found, if it was.
        trials: Every dose tried, from low to high.
        chosen: The trial of the default dose, if there is one.
        columns: Answers by dose, from low to high; empty if doses were not calibrated.
    """

    name: str
    anchor: str
    known: VectorEntry | None
    data: VectorReport
    reliability: float | None
    found: VectorCalibration | None
    trials: list[DoseTrial]
    chosen: DoseTrial | None
    columns: list[Column]

    @property
    def valence(self) -> str | None:
        """Its valence, as a word."""
        return None if self.known is None or self.known.valence is None else _VALENCES[self.known.valence]


def library_page(report: LibraryReport, own: Own = NO_OWN) -> str:
    """Return the page of a library: HTML with its pictures and its style sheet inside.

    The same report gives the same page. Whatever a model said in it is shown as text.

    Args:
        report: What is known of the vectors.
        own: What the library says of those that the catalogue lacks or tells otherwise.

    Raises:
        PageError: The report contradicts itself.
    """
    for problem in _problems(report):
        raise PageError(f"the report on the vectors of {report.model!r} {problem}; build the library again")
    entries = [_entry(report, place, name, own) for place, name in enumerate(report.names)]
    doses = [entry.data.default_dose for entry in entries]
    return page_template("library_page").render(
        report=report,
        entries=entries,
        bad=[entry for entry in entries if entry.data.faults],
        figures=library_figures(report),
        good_auroc=GOOD_AUROC,
        told=[one for entry in entries if (one := entry.data.separation) is not None],
        reaching=sum(one.auroc_band >= GOOD_AUROC for entry in entries if (one := entry.data.separation) is not None),
        middle=report.layers[len(report.layers) // 2],
        doses=(min(doses), median(doses), max(doses)),
        coherence=coherence,
    )


def _entry(report: LibraryReport, place: int, name: str, own: Own) -> Entry:
    data = report.vectors[name]
    found = report.calibration.vectors.get(name) if report.calibration is not None else None
    trials = sorted(found.trials, key=lambda trial: trial.dose) if found is not None else []
    columns = [Column(effect.nominal, effect.trial, effect.answers) for effect in data.effects]
    if columns:
        columns.append(Column(0.0, None, report.unsteered))
    return Entry(
        name=name,
        anchor=f"vector-{place + 1}",
        known=described(name, own),
        data=data,
        reliability=_reliability(data, len(report.layers) // 2),
        found=found,
        trials=trials,
        chosen=next((trial for trial in trials if found is not None and trial.dose == found.dose), None),
        columns=sorted(columns, key=lambda column: column.nominal),
    )


def _reliability(data: VectorReport, layer: int) -> float | None:
    measured = None if data.separation is None else data.separation.reliability
    return None if measured is None else measured[layer]


def _problems(report: LibraryReport) -> Iterator[str]:
    """Yield what in the report contradicts what."""
    if not report.names or sorted(report.names) != sorted(report.vectors):
        yield f"names the vectors {report.names} and describes {sorted(report.vectors)}"
    if any(side != len(report.names) for side in (len(report.cosines), *map(len, report.cosines))):
        yield f"has no square of cosines for its {len(report.names)} vectors"
    if not report.layers or len(report.residual_norms) != report.depth:
        yield f"has {len(report.layers)} steered layers, and norms of {len(report.residual_norms)} of {report.depth}"
    if len(report.unsteered) != len(report.prompts):
        yield f"has {len(report.unsteered)} unsteered answers to {len(report.prompts)} prompts"
    for name, data in report.vectors.items():
        rows = [] if data.separation is None else [data.separation.auroc, data.separation.reliability]
        if any(row is not None and len(row) != len(report.layers) for row in rows) or len(data.norms) != report.depth:
            yield f"has too few or too many layers of {name!r}"
        if any(len(effect.answers) != len(report.prompts) for effect in data.effects):
            yield f"has answers of {name!r} to other than its {len(report.prompts)} prompts"
    if report.calibration is not None:
        yield from _dose_problems(report, report.calibration)


def _dose_problems(report: LibraryReport, calibration: Calibration) -> Iterator[str]:
    if odd := sorted(set(calibration.vectors) - set(report.vectors)):
        yield f"has doses of other vectors than it describes: {odd}"
        return
    for name, found in calibration.vectors.items():
        if report.vectors[name].default_dose != found.dose:
            yield f"has two default doses of {name!r}: {report.vectors[name].default_dose:g} and {found.dose:g}"
        if found.dose not in [trial.dose for trial in found.trials]:
            yield f"has no trial of {name!r} at its default dose {found.dose:g}"
