"""From pairs of texts to vectors: the mean activation over the positive ones less that over the negative ones.

After contrastive activation addition (Rimsky et al., arXiv 2312.06681), read at the last token, and persona vectors (Chen et al.,
arXiv 2507.21509), read as the mean over a response to a prompt. A pair is a setting of its own: it is held out whole.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import torch
from inspect_ai.model import ChatMessageUser
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from self_steering.steering.chat import ChatRenderer
from self_steering.steering.engine.forward import SteeredModel
from self_steering.steering.engine.self_check import checked_model
from self_steering.steering.models import LoadedModel
from self_steering.vectors.card import LibraryError
from self_steering.vectors.foreign import NAME
from self_steering.vectors.library import Library
from self_steering.vectors.making.build import Material, Progress, Recipe, finish_library
from self_steering.vectors.making.corpus import NEUTRAL, load_corpus
from self_steering.vectors.making.extraction import Activations, construct, story_means, token_means
from self_steering.vectors.making.layers import checked_layers, default_band
from self_steering.vectors.making.quality import comparison, separation
from self_steering.vectors.report import LayerComparison, LibraryReport, Separation
from self_steering.vectors.shown import in_one_line, shown

ReadAt = Literal["mean", "last"]
FEWEST = 2
_Text = Annotated[str, Field(min_length=1)]


class Pair(BaseModel):
    """One row of a file of pairs.

    Attributes:
        positive: What the vector stands for.
        negative: The same without it.
        prompt: What both are said in answer to, as a user's message; without it they are texts of their own.
        positive_prompt: The same of the positive one alone, where they differ, as instructions that bring a persona out do.
        negative_prompt: The same of the negative one alone.
        name: The vector; default the file's name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    positive: _Text
    negative: _Text
    prompt: _Text | None = None
    positive_prompt: _Text | None = None
    negative_prompt: _Text | None = None
    name: str = ""


def read_pairs(path: Path) -> dict[str, list[Pair]]:
    """Return the pairs of each vector in a .jsonl file.

    Raises:
        LibraryError: The file cannot be read, a row is no pair, or a vector has too few; the message names the row.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LibraryError(f"{path} cannot be read: {in_one_line(error)}; name a .jsonl file of pairs") from error
    found: dict[str, list[Pair]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            pair = Pair.model_validate_json(line)
        except ValidationError as error:
            raise LibraryError(
                f"{path}, row {number}: {in_one_line(error)}; write a JSON object with `positive` and `negative`"
            ) from error
        name = pair.name or path.stem
        if not NAME.fullmatch(name):
            raise LibraryError(
                f"{path}, row {number}: {shown(name)} is no name for a vector; use letters, digits and `_`"
            )
        found.setdefault(name, []).append(pair)
    few = [name for name, pairs in found.items() if len(pairs) < FEWEST]
    if few or not found:
        raise LibraryError(f"{path} has fewer than {FEWEST} pairs of {', '.join(few) or 'anything'}; write more")
    return found


def pair_means(
    loaded: LoadedModel, model: SteeredModel, pairs: Sequence[Pair], read_at: ReadAt = "mean", skip: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the activations [pairs, layers, hidden] of positive and negative texts.

    Args:
        loaded: The model.
        model: The same, as it is run.
        pairs: The pairs.
        read_at: The mean over a text's tokens (those of the prompt aside), or its last token.
        skip: Tokens at the start of each text that do not count.

    Raises:
        ValueError: A text has no token beyond those that are skipped.
    """
    renderer = ChatRenderer(loaded.tokenizer, loaded.end_ids)
    halves = []
    for side in ("positive", "negative"):
        rows, firsts = [], []
        for pair in pairs:
            text = getattr(pair, side)
            prompt = getattr(pair, f"{side}_prompt") or pair.prompt
            before: list[int] = [] if prompt is None else renderer.render([ChatMessageUser(content=prompt)], []).ids
            own = loaded.tokenizer(text, add_special_tokens=prompt is None)["input_ids"]
            if len(own) <= skip:
                raise ValueError(
                    f"the text {shown(text)} has at most {skip} tokens; write longer ones, or --skip-tokens 0"
                )
            rows.append([*before, *own])
            firsts.append(len(rows[-1]) - 1 if read_at == "last" else len(before) + skip)
        halves.append(token_means(model, rows, firsts))
    return halves[0], halves[1]


def build_from_pairs(
    loaded: LoadedModel,
    pairs: Mapping[str, Sequence[Pair]],
    recipe: Recipe,
    *,
    read_at: ReadAt = "mean",
    work: Path | None = None,
    progress: Progress | None = None,
) -> tuple[Library, LibraryReport]:
    """Make a library from pairs, and measure how well each vector tells pairs that it was not made from.

    Args:
        loaded: The model.
        pairs: For each vector its pairs.
        recipe: How; its construction does not count.
        read_at: As for `pair_means`.
        work: As for `build_library`.
        progress: As for `build_library`.

    Raises:
        ValueError: A text is too short, or positive and negative ones are the same.
    """
    model = checked_model(loaded)
    wanted = recipe.layers if recipe.layers is not None else default_band(model.n_layers, loaded.name)
    band = checked_layers(wanted, model.n_layers)
    everywhere: dict[str, torch.Tensor] = {}
    separations: dict[str, Separation] = {}
    compared: list[LayerComparison] = []
    for done, (name, of_name) in enumerate(pairs.items(), 1):
        positive, negative = pair_means(loaded, model, of_name, read_at, recipe.skip)
        places = tuple(str(number) for number in range(len(of_name)))
        read = Activations({name: positive, NEUTRAL: negative}, {name: places, NEUTRAL: places})
        everywhere |= construct(read, "difference")
        if not (everywhere[name].norm(dim=-1) > 0).all() or not everywhere[name].isfinite().all():
            raise ValueError(f"the vector of {name} is zero or not finite at some layer; do its pairs differ?")
        separations |= separation(read.at(band), "difference")
        compared = comparison(read)
        if progress is not None:
            progress("pairs", done, len(pairs))
    count = sum(map(len, pairs.values()))
    material = Material(
        construction="pairs",
        everywhere=everywhere,
        separations=separations,
        comparison=compared if len(pairs) == 1 else (),
        neutral=neutral_activations(loaded, model),
        corpus=hashlib.sha256(repr((sorted(pairs.items()), read_at, recipe.skip)).encode()).hexdigest(),
        stories=2 * count,
        settings=count,
    )
    return finish_library(loaded, model, material, band, recipe, work=work, progress=progress)


def neutral_activations(loaded: LoadedModel, model: SteeredModel) -> torch.Tensor:
    """Return the mean activation of each neutral story that ships, [stories, layers, hidden]."""
    texts = [text for texts in load_corpus(states=[]).stories[NEUTRAL].values() for text in texts]
    return story_means(model, loaded.tokenizer, texts)


def neutral_mean(loaded: LoadedModel, layers: Sequence[int]) -> torch.Tensor:
    """Return the mean of the residual stream over the neutral stories that ship, at some layers: [layers, hidden]."""
    return neutral_activations(loaded, checked_model(loaded))[:, list(layers)].mean(0)
