"""What is known of a library's vectors, as data: the file `report.json` beside them, and what the page is drawn from. No torch."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from self_steering.vectors.card import REPORT_FILE, Construction, LibraryError, Origin
from self_steering.vectors.shown import in_one_line

# Below these a vector is marked bad.
GOOD_AUROC, GOOD_RELIABILITY = 0.9, 0.7


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Separation(_Data):
    """How well one vector tells its state from others on settings that it was not made from.

    Attributes:
        auroc: Against all other stories, the neutral ones among them; one figure a layer.
        auroc_neutral: Against the neutral stories alone; one figure a layer.
        auroc_band: As `auroc`, for the mean over the layers of h·v/(‖v‖ times the residual's norm).
        auroc_neutral_band: The same against the neutral stories alone.
        reliability: Split-half reliability (Spearman-Brown), one figure a layer; None for a vector that was not made here.
        nearest: The other state whose held-out stories lie highest on this vector; None if there is no other.
    """

    auroc: list[float]
    auroc_neutral: list[float]
    auroc_band: float
    auroc_neutral_band: float
    reliability: list[float] | None
    nearest: str | None


class LayerComparison(_Data):
    """One construction at one layer, over all vectors.

    Attributes:
        construction: How the vectors are made.
        layer: The decoder layer.
        auroc: Mean AUROC against all other stories, held-out settings.
        auroc_lowest: The lowest of them.
        auroc_good: How many are at least 0.9.
        auroc_neutral: Mean AUROC against the neutral stories.
        reliability: Mean split-half reliability.
        reliability_lowest: The lowest of them.
        cosine: Mean absolute cosine between two vectors.
        norm: Mean over vectors of ‖v‖ over the residual stream's norm.
    """

    construction: Construction
    layer: int
    auroc: float
    auroc_lowest: float
    auroc_good: int
    auroc_neutral: float
    reliability: float
    reliability_lowest: float
    cosine: float
    norm: float


class DoseTrial(_Data):
    """What one dose did on the held-out prompts.

    Attributes:
        dose: Multiple of the vector that was added at each of its layers.
        coherent: Share of answers that are coherent as published.
        surprisal_rise: Mean of -log p a token under the unsteered model, in nats, less that of the unsteered answers.
        shift: Mean over prompts of the projection of the answer, read unsteered, on the vector, less that of the unsteered
            answer; in units of the residual stream's norm, averaged over the layers.
        t: Paired t of that shift over prompts; None where it has no value.
        rank: Place of the vector among all of the library by how far the answers moved along each; 1 is best.
        answers: How many answers had a token at all.
    """

    dose: float
    coherent: float
    surprisal_rise: float | None
    shift: float | None
    t: float | None
    rank: int | None
    answers: int


class VectorCalibration(_Data):
    """How the default dose of one vector was found.

    Attributes:
        dose: The dose that 1.0 stands for: the highest tried at which the text holds.
        holds: Whether the text holds at that dose (False where it holds at none that was tried).
        arrives: Whether |t| ≥ 2 there.
        trials: Every dose tried, in order.
    """

    dose: float
    holds: bool
    arrives: bool
    trials: list[DoseTrial]


class Calibration(_Data):
    """The file `calibration.json`.

    Attributes:
        fingerprint: The model.
        vectors_sha256: The vectors.
        prompts: What was asked.
        max_tokens: Longest answer.
        temperature: At which it was drawn.
        coherent_at_least: Share of coherent answers that a dose needs.
        surprisal_rise_at_most: In nats a token.
        arrival_t: Value that |t| must reach.
        unsteered_coherent: Share of coherent answers without steering.
        unsteered_surprisal: Mean of -log p a token without steering, in nats.
        vectors: By name.
    """

    fingerprint: str
    vectors_sha256: str
    prompts: list[str]
    max_tokens: int
    temperature: float
    coherent_at_least: float
    surprisal_rise_at_most: float
    arrival_t: float
    unsteered_coherent: float
    unsteered_surprisal: float
    vectors: dict[str, VectorCalibration]


class Effect(_Data):
    """What a nominal dose of one vector does.

    Attributes:
        nominal: The dose as the model is told it; 1.0 is the default dose, negative inverts.
        trial: The measurements; its `dose` is nominal times the default dose.
        answers: One text a report prompt.
    """

    nominal: float
    trial: DoseTrial
    answers: list[str]


class VectorReport(_Data):
    """All that is known of one vector.

    Attributes:
        faults: Why it is marked bad, in words; empty if it is not.
        default_dose: Multiple of it that dose 1.0 adds.
        separation: How well it tells its state; None where there are no texts to tell that by.
        norms: ‖v‖ at each decoder layer of the model, steered or not; 0 where it is not known.
        top_tokens: Tokens that it raises most, through final norm and unembedding, at the band's middle layer.
        bottom_tokens: Tokens that it lowers most.
        effects: At doses -1, 1 and 2; empty if doses were not calibrated.
    """

    faults: list[str]
    default_dose: float
    separation: Separation | None
    norms: list[float]
    top_tokens: list[str]
    bottom_tokens: list[str]
    effects: list[Effect]


class LibraryReport(_Data):
    """The file `report.json`.

    Attributes:
        model: Name of the model.
        fingerprint: Its fingerprint.
        construction: How the library's vectors are made.
        layers: Decoder layers that are steered.
        depth: Number of decoder layers of the model.
        corpus: Hash of the stories or pairs; empty without either.
        stories: How many texts there are, the neutral ones among them.
        settings: In how many settings they are told, or how many pairs there are.
        residual_norms: Mean norm of the residual stream at each decoder layer, over the neutral stories.
        comparison: All constructions at all layers.
        names: Names of the vectors, in the order of `cosines`.
        cosines: Cosine between two vectors, averaged over the steered layers.
        prompts: The report's prompts; empty if doses were not calibrated.
        unsteered: The answers to them without steering.
        calibration: How the doses were found, where they were.
        vectors: By name.
    """

    model: str
    fingerprint: str
    construction: Origin
    layers: list[int]
    depth: int
    corpus: str
    stories: int
    settings: int
    residual_norms: list[float]
    comparison: list[LayerComparison]
    names: list[str]
    cosines: list[list[float]]
    prompts: list[str]
    unsteered: list[str]
    calibration: Calibration | None
    vectors: dict[str, VectorReport]


def read_report(folder: Path) -> LibraryReport:
    """Read the report of the library in `folder`.

    Raises:
        LibraryError: There is none, or it is torn.
    """
    path = folder / REPORT_FILE
    try:
        return LibraryReport.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise LibraryError(f"{folder} has no {REPORT_FILE}; build the library again") from None
    except ValidationError as error:
        raise LibraryError(f"{path} is not a valid report: {in_one_line(error)}; build the library again") from error
