"""From stories to a finished library: activations, vectors, their quality, their doses, and what they do."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from self_steering.steering.chat import ChatRenderer
from self_steering.steering.engine.engine import Engine
from self_steering.steering.engine.forward import SteeredModel
from self_steering.steering.engine.self_check import checked_model
from self_steering.steering.models import LoadedModel
from self_steering.vectors.card import CALIBRATION_FILE, REPORT_FILE, VECTORS_FILE, Construction, LibraryCard, Origin
from self_steering.vectors.catalogue import VectorEntry
from self_steering.vectors.directions import DirectionTensor, direction_of
from self_steering.vectors.library import Library, content_hash, serialised
from self_steering.vectors.making.calibration import Answer, Meter, Prober, calibrate, probes
from self_steering.vectors.making.corpus import NEUTRAL, Corpus
from self_steering.vectors.making.extraction import (
    SKIPPED_TOKENS,
    construct,
    read_corpus,
)
from self_steering.vectors.making.layers import checked_layers, default_band
from self_steering.vectors.making.quality import (
    check_corpus,
    comparison,
    cosines,
    faults,
    promoted_tokens,
    rounded,
    separation,
)
from self_steering.vectors.report import Calibration, Effect, LayerComparison, LibraryReport, Separation, VectorReport

NOMINAL_DOSES = (-1.0, 1.0, 2.0)
Progress = Callable[[str, int, int], object]


@dataclass(frozen=True)
class Recipe:
    """How a library is made.

    Attributes:
        layers: Decoder layers to steer; None takes `layers.default_band`.
        construction: How vectors are made from activations.
        scaled_to: Norm to scale each layer's vector to; None leaves it as it is.
        default_dose: One default dose for all vectors that come without; None calibrates each of these.
        skip: Tokens at the start of each story that do not count.
        max_batch: Answers that are generated together.

    Raises:
        ValueError: A number is none, or zero, or too small.
    """

    layers: Sequence[int] | None = None
    construction: Construction = "centred"
    scaled_to: float | None = None
    default_dose: float | None = None
    skip: int = SKIPPED_TOKENS
    max_batch: int = 64

    def __post_init__(self) -> None:
        for name, value in (("default dose", self.default_dose), ("norm", self.scaled_to)):
            if value is not None and (not math.isfinite(value) or value == 0):
                raise ValueError(f"{name} {value} adds nothing or no number; choose a finite number such as 0.6")
        if self.max_batch < 1:
            raise ValueError(f"batches of {self.max_batch} answers; choose 1 or more, such as 64")
        if self.skip < 0:
            raise ValueError(f"{self.skip} tokens to skip; choose 0 or more, such as {SKIPPED_TOKENS}")


def build_library(
    loaded: LoadedModel, corpus: Corpus, recipe: Recipe, *, work: Path | None = None, progress: Progress | None = None
) -> tuple[Library, LibraryReport]:
    """Make a library from a corpus, and measure it.

    Args:
        loaded: The model.
        corpus: The stories.
        recipe: How.
        work: Folder in which finished steps are saved, so that an interrupted build goes on; None saves nothing.
        progress: Called with the step, how much of it is done, and how much there is.

    Raises:
        ModelError: The model is of a kind that is not supported.
        ValueError: The recipe or the corpus does not fit the model.
    """
    model = checked_model(loaded)
    wanted = recipe.layers if recipe.layers is not None else default_band(model.n_layers, loaded.name)
    band = checked_layers(wanted, model.n_layers)
    check_corpus(corpus, recipe.construction)
    tell = progress or (lambda *_: None)
    activations = read_corpus(
        model,
        loaded.tokenizer,
        corpus,
        fingerprint=loaded.fingerprint,
        work=work,
        skip=recipe.skip,
        progress=lambda done: tell("stories", done, corpus.size),
    )
    everywhere = construct(activations, recipe.construction)
    if dead := [name for name, vector in everywhere.items() if not (vector.norm(dim=-1) > 0).all()]:
        raise ValueError(
            f"the vectors of {', '.join(dead)} are zero at some layer; do these states tell the same stories?"
        )
    material = Material(
        construction=recipe.construction,
        everywhere=everywhere,
        separations=separation(activations.at(band), recipe.construction),
        comparison=comparison(activations),
        neutral=activations.values[NEUTRAL],
        corpus=corpus.hash(),
        stories=corpus.size,
        settings=len(corpus.settings),
    )
    return finish_library(loaded, model, material, band, recipe, work=work, progress=progress)


@dataclass(frozen=True)
class Material:
    """Vectors and what is known of them before they have doses.

    Attributes:
        construction: How they were made.
        everywhere: Each vector [depth, hidden], zero at layers where it is not known.
        separations: How well each tells its state, where that is known.
        neutral: Mean activation of each neutral story, [stories, depth, hidden].
        comparison: All constructions at all layers.
        corpus: Hash of the texts.
        stories: How many texts there are.
        settings: In how many settings or pairs.
        doses: Default doses that are given, not to be found.
        origins: For each vector that was imported, from where.
        entries: What is said of them.
    """

    construction: Origin
    everywhere: Mapping[str, torch.Tensor]
    separations: Mapping[str, Separation]
    neutral: torch.Tensor
    comparison: Sequence[LayerComparison] = ()
    corpus: str = ""
    stories: int = 0
    settings: int = 0
    doses: Mapping[str, float] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)
    entries: Mapping[str, VectorEntry] = field(default_factory=dict)

    @property
    def residual_norms(self) -> torch.Tensor:
        """Mean norm of the residual stream at each layer over the neutral stories, [depth]."""
        norms: torch.Tensor = self.neutral.norm(dim=-1).mean(0)
        return norms


def finish_library(
    loaded: LoadedModel,
    model: SteeredModel,
    material: Material,
    band: Sequence[int],
    recipe: Recipe,
    *,
    work: Path | None = None,
    progress: Progress | None = None,
) -> tuple[Library, LibraryReport]:
    """Give vectors their doses, and put them and what is known of them together.

    Args:
        loaded: The model.
        model: The same, as it is run.
        material: The vectors.
        band: Decoder layers at which they are added.
        recipe: How.
        work: As for `build_library`.
        progress: As for `build_library`.
    """
    tell = progress or (lambda *_: None)
    layers = list(band)
    vectors = {name: _scaled(vector[layers], recipe.scaled_to) for name, vector in material.everywhere.items()}
    sha256 = content_hash(serialised(vectors))
    given = {} if recipe.default_dose is None else dict.fromkeys(vectors, recipe.default_dose)
    doses = {**given, **material.doses}
    directions = {name: direction_of(vector, layers) for name, vector in vectors.items() if name not in doses}
    lab = _measure(loaded, model, directions, recipe, sha256, work, tell) if directions else _Lab.none()
    report = _report(loaded, model, material, vectors, layers, doses, lab)
    hashes = {VECTORS_FILE: sha256, REPORT_FILE: content_hash(encoded(report))}
    if lab.calibration is not None:
        hashes[CALIBRATION_FILE] = content_hash(encoded(lab.calibration))
    card = LibraryCard(
        model=loaded.name,
        revision=loaded.revision,
        fingerprint=loaded.fingerprint,
        hidden=model.hidden,
        layers=layers,
        construction=material.construction,
        scaled_to=recipe.scaled_to,
        skipped_tokens=recipe.skip,
        corpus=material.corpus,
        norms={name: rounded(vector.norm(dim=-1)) for name, vector in vectors.items()},
        residual_norms=[report.residual_norms[layer] for layer in layers],
        default_doses={name: one.default_dose for name, one in report.vectors.items()},
        faults={name: one.faults for name, one in report.vectors.items() if one.faults},
        origins=dict(material.origins),
        entries=dict(material.entries),
        sha256=hashes,
    )
    return Library(card, vectors, material.neutral[:, layers].mean(0)), report


def encoded(data: LibraryReport | Calibration) -> bytes:
    """Return the bytes of a file of evidence."""
    return (data.model_dump_json(indent=1) + "\n").encode()


@dataclass(frozen=True)
class _Lab:
    """What was measured by generating."""

    calibration: Calibration | None
    unsteered: Sequence[Answer]
    effects: Mapping[str, list[Effect]]

    @classmethod
    def none(cls) -> "_Lab":
        return cls(None, (), {})


def _measure(
    loaded: LoadedModel,
    model: SteeredModel,
    directions: Mapping[str, DirectionTensor],
    recipe: Recipe,
    sha256: str,
    work: Path | None,
    tell: Progress,
) -> _Lab:
    """Calibrate doses and show what they do."""
    engine = Engine(
        model,
        loaded.tokenizer,
        end_ids=loaded.end_ids,
        context=loaded.context,
        max_batch=recipe.max_batch,
        cache_budget=1 << 28,
    )
    try:
        renderer = ChatRenderer(loaded.tokenizer, loaded.end_ids)
        calibration = calibrate(
            Prober(engine, renderer, probes().calibration),
            directions,
            fingerprint=loaded.fingerprint,
            vectors_sha256=sha256,
            work=work,
            progress=lambda done, most: tell("doses", done, most),
        )
        prober = Prober(engine, renderer, probes().report)
        return _effects(prober, directions, calibration, tell)
    finally:
        engine.close()


def _effects(
    prober: Prober, directions: Mapping[str, DirectionTensor], calibration: Calibration, tell: Progress
) -> _Lab:
    unsteered = prober.ask([None])[0]
    meter = Meter.of(directions, unsteered)
    effects: dict[str, list[Effect]] = {name: [] for name in directions}
    for count, nominal in enumerate(NOMINAL_DOSES, 1):
        doses = {name: nominal * calibration.vectors[name].dose for name in directions}
        asked = prober.ask([(directions[name], dose) for name, dose in doses.items()])
        for (name, dose), answers in zip(doses.items(), asked, strict=True):
            trial = meter.trial(name, round(dose, 4), answers)
            effects[name].append(Effect(nominal=nominal, trial=trial, answers=[answer.text for answer in answers]))
        tell("effects", count, len(NOMINAL_DOSES))
    return _Lab(calibration, unsteered, effects)


def _report(
    loaded: LoadedModel,
    model: SteeredModel,
    material: Material,
    vectors: Mapping[str, torch.Tensor],
    band: Sequence[int],
    doses: Mapping[str, float],
    lab: _Lab,
) -> LibraryReport:
    calibrated = lab.calibration.vectors if lab.calibration is not None else {}
    entries = {}
    for name, vector in vectors.items():
        held = vector.any(dim=-1).nonzero().flatten().tolist()
        top, bottom = promoted_tokens(model, loaded.tokenizer, vector[held[len(held) // 2]])
        measured = material.separations.get(name)
        entries[name] = VectorReport(
            faults=faults(measured, calibrated.get(name), len(band) // 2),
            default_dose=calibrated[name].dose if name in calibrated else float(doses[name]),
            separation=measured,
            norms=rounded(material.everywhere[name].norm(dim=-1)),
            top_tokens=top,
            bottom_tokens=bottom,
            effects=lab.effects.get(name, []),
        )
    alike = cosines(torch.stack(list(vectors.values()))).mean(0)
    return LibraryReport(
        model=loaded.name,
        fingerprint=loaded.fingerprint,
        construction=material.construction,
        layers=list(band),
        depth=model.n_layers,
        corpus=material.corpus,
        stories=material.stories,
        settings=material.settings,
        residual_norms=rounded(material.residual_norms),
        comparison=list(material.comparison),
        names=list(vectors),
        cosines=[rounded(row) for row in alike],
        prompts=list(probes().report) if lab.calibration is not None else [],
        unsteered=[answer.text for answer in lab.unsteered],
        calibration=lab.calibration,
        vectors=entries,
    )


def _scaled(vector: torch.Tensor, norm: float | None) -> torch.Tensor:
    """Return a vector [layers, hidden], each layer scaled to `norm`."""
    return vector.clone() if norm is None else vector * (norm / vector.norm(dim=-1, keepdim=True))
