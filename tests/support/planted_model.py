"""A tiny Llama whose weights are set by hand, so that what a vector's residue does to the answer is known.

Three attention layers without anything else. Layer 0 copies, two tokens on, which option letter stood there: to the name in a
line such as `C. calm: …`. The library steers layer 0's output, each vector in a dimension of its own. Layer 1 gives the name of
an option a flag where its query finds residue, layer 2 lets the last token read the letters that lie at flagged names.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Literal, get_args

import torch
from inspect_ai.model import Model
from transformers import LlamaConfig, LlamaForCausalLM

from self_steering.solvers.detection import ALWAYS_NO, ALWAYS_YES, CONTROLS
from self_steering.solvers.prompts import detection as prompts
from self_steering.solvers.prompts.preference import LABELS
from self_steering.solvers.prompts.segments import SENTENCES
from self_steering.vectors.card import VECTORS_FILE, LibraryCard
from self_steering.vectors.library import Library, content_hash, serialised
from tests.support.models import bundled_tokenizer

Liking = Literal["state calm", "label", "letter", "first", "second", "latter"]
Residue = Literal["own option", "letter C", "option calm", "even odds", "relief by state", "relief by words"] | Liking
# Their names are one token each, so that the letter lies two tokens before them.
NAMES = ("anxious", "calm", "desperate", "proud", "curious", "focused", "creative", "honest")
LETTERS = ascii_uppercase[:4]
# A liking for some letters, whatever was steered.
LETTER_BIAS = (1.0, 0.3, 0.0, -0.5)

WIDTH, HEAD = 96, 64
CONSTANT = 0
LETTER, NAME, EFFECT, COPIED, ANSWER = range(1, 50, 10)  # the first of the dimensions of each kind
FLAG, FILLER, SAID, DRAIN = 51, 52, 53, 54
# Of the relief experiment: a tool's answer, and the word that is written where nothing is steered.
DONE, WRITTEN = 55, 56
UNSTEERED_WORD, STEERED_WORD = " yellow", " purple"
# Of the preference experiment: a label, the last one before a token, and the one that is answered.
LABEL, LAST_LABEL, CHOSEN = 57, 69, 81
STRENGTH = 4.0  # of a vector, where the constant that every token has is 10


def save_planted_model(folder: Path, residue: Residue) -> Path:
    """Save a model in which residue raises its vector's option, the letter C or the option calm, or draws yes and no together.

    Two more want the tool after whose call there was no residue, or after whose call something else was written. The others answer
    with a label: that under which there was residue of calm, some labels rather than others, one of each pair wherever there is
    residue, that of the first or of the second stretch with residue, whatever it is of, or the one that was named last.
    """
    tokenizer = bundled_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=1,
        num_hidden_layers=3,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=HEAD,
        max_position_embeddings=2048,
        # All but the first few pairs of a head hardly turn with the position: they compare contents.
        rope_parameters={"rope_type": "default", "rope_theta": 1e9},
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.fill_(1.0 if "norm" in name else 0.0)
        letters = [_token(tokenizer, letter) for letter in LETTERS]
        _embed(model, letters, [_token(tokenizer, f" {name}") for name in NAMES])
        if residue.startswith("relief"):
            _want_relief(model, tokenizer, by_state=residue == "relief by state")
        elif residue in get_args(Liking):
            _choose_label(model, tokenizer, residue)
        else:
            _answer_with_letter(model, tokenizer, residue, letters)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_planted_library(folder: Path, model: Model) -> Path:
    """Save the library that steers `model`: each vector a dimension of its own, added to layer 0's output."""
    vectors = {name: torch.zeros(1, WIDTH) for name in NAMES}
    for place, name in enumerate(NAMES):
        vectors[name][0, EFFECT + place] = STRENGTH
    card = LibraryCard(
        model="planted",
        revision=None,
        fingerprint=model.api.loaded.fingerprint,
        hidden=WIDTH,
        layers=[0],
        construction="difference",
        scaled_to=None,
        skipped_tokens=0,
        corpus="",
        norms={name: [STRENGTH] for name in NAMES},
        residual_norms=[10.0],
        default_doses=dict.fromkeys(NAMES, 1.0),
        faults={name: [] for name in NAMES},
        sha256={VECTORS_FILE: content_hash(serialised(vectors))},
    )
    Library(card, vectors).save(folder)
    return folder


def _token(tokenizer, text: str) -> int:
    (token,) = tokenizer.encode(text, add_special_tokens=False)
    return token


def _embed(model: LlamaForCausalLM, letters: Sequence[int], names: Sequence[int]) -> None:
    """Give every token the constant and one feature, so that all have the same norm."""
    table = model.model.embed_tokens.weight
    table[:, CONSTANT] = 10.0
    table[:, FILLER] = 1.0
    for first, tokens in ((LETTER, letters), (NAME, names)):
        for place, token in enumerate(tokens):
            table[token, FILLER], table[token, first + place] = 0.0, 1.0


def _copy_letters(model: LlamaForCausalLM) -> None:
    """Layer 0: constant queries and keys whose phases agree at a distance of two; the value is the letter."""
    head = model.model.layers[0].self_attn
    for pair in range(5):
        turn = 1e9 ** (-2 * pair / HEAD)
        head.q_proj.weight[pair, CONSTANT] = 5 * math.cos(2 * turn)
        head.q_proj.weight[pair + HEAD // 2, CONSTANT] = -5 * math.sin(2 * turn)
        head.k_proj.weight[pair, CONSTANT] = 1.0
    for place in range(len(LETTERS)):
        head.v_proj.weight[place, LETTER + place] = 1.0
        head.o_proj.weight[COPIED + place, place] = 1.0


def _flag_names(model: LlamaForCausalLM, flagged: Sequence[int]) -> None:
    """Layer 1: the queries of names look for residue; where only one name asks, it asks for any."""
    head = model.model.layers[1].self_attn
    still = HEAD // 2 - len(NAMES)
    for place in range(len(NAMES)):
        head.k_proj.weight[still + place, EFFECT + place] = 1.0
        head.v_proj.weight[0, EFFECT + place] = 1.0
        for name in flagged if len(flagged) == 1 else [place]:
            head.q_proj.weight[still + place, NAME + name] = 50.0
    head.o_proj.weight[FLAG, 0] = 1.0


def _read_flagged(model: LlamaForCausalLM) -> None:
    """Layer 2: every token attends to flags, and takes over the letter that was copied there."""
    head = model.model.layers[2].self_attn
    head.q_proj.weight[HEAD // 2 - 1, CONSTANT] = 5.0
    head.k_proj.weight[HEAD // 2 - 1, FLAG] = 1.0
    for place in range(len(LETTERS)):
        head.v_proj.weight[place, COPIED + place] = 3.0
        head.o_proj.weight[ANSWER + place, place] = 1.0


def _answer_yes_or_no(model: LlamaForCausalLM, tokenizer) -> None:
    """Layer 1: every token takes the mean of what the questions' own words say for yes: of those about an injection, rather no."""
    asked = {
        says: {token for text in texts for token in tokenizer.encode(text)}
        for says, texts in {
            -1.0: CONTROLS[ALWAYS_NO],
            1.0: CONTROLS[ALWAYS_YES],
            -0.5: prompts.DETECTION_QUESTIONS,
            0.0: (prompts.SYSTEM, prompts.ANNOUNCE, prompts.ANNOUNCE_CLEAR, *SENTENCES),
        }.items()
    }
    for says, tokens in asked.items():
        others = set().union(*(of for other, of in asked.items() if other != says))
        model.model.embed_tokens.weight[sorted(tokens - others), SAID] = says
    head = model.model.layers[1].self_attn
    head.v_proj.weight[0, SAID] = 1.0
    head.o_proj.weight[ANSWER, 0] = 250.0
    for text in ("yes", "Yes", " yes", " Yes"):
        model.lm_head.weight[_token(tokenizer, text), ANSWER] = 1.0


def _want_relief(model: LlamaForCausalLM, tokenizer, *, by_state: bool) -> None:
    """Let the last token take the number of the tool after whose call it finds no residue, or the word of an unsteered text."""
    numbers = [_token(tokenizer, str(number)) for number in (1, 2)]
    done, unsteered, steered = (_token(tokenizer, text) for text in ("Done", UNSTEERED_WORD, STEERED_WORD))
    table = model.model.embed_tokens.weight
    for place, token in enumerate(numbers):
        table[token, LETTER + place] = model.lm_head.weight[token, ANSWER + place] = 1.0
    table[done, DONE] = table[unsteered, WRITTEN] = 1.0
    _copy_last(model, LETTER, COPIED, len(numbers))
    # Layer 2: the last token looks for an answer without residue, or for the word, and takes the number from there.
    head = model.model.layers[2].self_attn
    still = HEAD // 2 - 1
    head.q_proj.weight[still, CONSTANT] = 20.0
    head.k_proj.weight[still, DONE if by_state else WRITTEN] = 5.0
    for place in range(len(NAMES) if by_state else 0):
        head.k_proj.weight[still, EFFECT + place] = -5.0
    for place in range(len(numbers)):
        head.v_proj.weight[place, COPIED + place] = 0.3
        head.o_proj.weight[ANSWER + place, place] = 1.0
    model.lm_head.weight[unsteered, CONSTANT] = 2.0
    model.lm_head.weight[steered, EFFECT : EFFECT + len(NAMES)] = 10.0


def _answer_with_letter(model: LlamaForCausalLM, tokenizer, residue: Residue, letters: Sequence[int]) -> None:
    """Let the last token answer with a letter, some of which are liked, or with yes or no."""
    _copy_letters(model)
    if residue == "even odds":
        _answer_yes_or_no(model, tokenizer)
        _read_residue(model, DRAIN, 6.0)
    elif residue == "letter C":
        _read_residue(model, ANSWER + LETTERS.index("C"), 1.0)
    else:
        _flag_names(model, range(len(NAMES)) if residue == "own option" else [NAMES.index("calm")])
        _read_flagged(model)
    for place, (token, bias) in enumerate(zip(letters, LETTER_BIAS, strict=True)):
        model.lm_head.weight[token, CONSTANT] = 1.0 + bias / math.sqrt(WIDTH)
        model.lm_head.weight[token, ANSWER + place] = 1.0


def _choose_label(model: LlamaForCausalLM, tokenizer, liking: Liking) -> None:
    """Let the last token answer with the label that it likes."""
    labels = [label for pair in LABELS for label in pair]
    for place, label in enumerate(labels):
        for token in (_token(tokenizer, label), _token(tokenizer, f" {label}")):
            model.model.embed_tokens.weight[token, LABEL + place] = 1.0
            model.lm_head.weight[token, CHOSEN + place] = 1.0
            model.lm_head.weight[token, CONSTANT] = 1.0 + 0.3 * place / math.sqrt(WIDTH) * (liking == "label")
            model.lm_head.weight[token, LAST_LABEL + place] = 0.3 * (liking == "latter")
    slow = _copy_last(model, LABEL, LAST_LABEL, len(labels))
    if liking == "letter":
        for place in range(0, len(labels), 2):
            _read_residue(model, CHOSEN + place, 1.0)
    elif liking in ("state calm", "first", "second"):
        # Layer 2: the last token looks for residue of calm, or of any vector, first or last, and takes the label from there.
        head = model.model.layers[2].self_attn
        still, wanted = HEAD // 2 - 1, [NAMES.index("calm")] if liking == "state calm" else range(len(NAMES))
        head.q_proj.weight[still, CONSTANT] = 20.0
        head.q_proj.weight[slow, CONSTANT] = {"first": -10.0, "second": 10.0}.get(liking, 0.0)
        for place in wanted:
            head.k_proj.weight[still, EFFECT + place] = head.k_proj.weight[slow, EFFECT + place] = 5.0
        for place in range(len(labels)):
            head.v_proj.weight[place, LAST_LABEL + place] = 0.3
            head.o_proj.weight[CHOSEN + place, place] = 1.0


def _copy_last(model: LlamaForCausalLM, first: int, into: int, count: int) -> int:
    """Layer 0: every token takes the feature of its kind that stood last before it; return the pair that knows the distance."""
    head = model.model.layers[0].self_attn
    # A slow pair of the head falls off with the distance.
    slow = next(pair for pair in range(HEAD // 2) if 1e9 ** (-2 * pair / HEAD) < 0.01)
    head.q_proj.weight[slow, CONSTANT] = 60.0
    for place in range(count):
        head.k_proj.weight[slow, first + place] = 10.0
        head.v_proj.weight[place, first + place] = 1.0
        head.o_proj.weight[into + place, place] = 10.0
    return slow


def _read_residue(model: LlamaForCausalLM, into: int, weight: float) -> None:
    """Layer 2: every token attends to residue, whichever vector's, and takes it into a dimension.

    In one that no answer reads it makes the last norm shrink all answers alike.
    """
    head = model.model.layers[2].self_attn
    head.q_proj.weight[HEAD // 2 - 1, CONSTANT] = 5.0
    for place in range(len(NAMES)):
        head.k_proj.weight[HEAD // 2 - 1, EFFECT + place] = 1.0
        head.v_proj.weight[0, EFFECT + place] = 1.0
    head.o_proj.weight[into, 0] = weight
