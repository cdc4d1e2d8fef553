"""The base model's own prose, which the training dialogues contain."""

from collections.abc import Callable

import torch
from inspect_ai.model import ChatMessageUser

from self_steering.steering.adapter.dialogues import Prose
from self_steering.steering.adapter.wordings import wordings
from self_steering.steering.chat import ChatRenderer
from self_steering.steering.models import LoadedModel

ANSWERS_A_PROMPT = 8
_MAX_TOKENS = 72
_TEMPERATURE = 0.9
_ENDS = ".!?"


@torch.no_grad()
def write_prose(loaded: LoadedModel, seed: int, progress: Callable[[int, int], object] = lambda *_: None) -> Prose:
    """Let the base model answer every prose prompt and plain prompt a few times, in at most a few sentences.

    Args:
        loaded: The base model.
        seed: Seed of the sampling.
        progress: Called with the number of prompts that are done, and that there are.
    """
    torch.manual_seed(seed)
    renderer = ChatRenderer(loaded.tokenizer, loaded.end_ids)
    prompts = [*wordings().prose.prompts, *wordings().plain.prompts]
    answers: dict[str, list[str]] = {}
    for prompt in prompts:
        ids = torch.tensor([renderer.render([ChatMessageUser(content=prompt)], []).ids])
        written = loaded.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=True,
            temperature=_TEMPERATURE,
            top_p=1.0,
            top_k=0,
            max_new_tokens=_MAX_TOKENS,
            num_return_sequences=ANSWERS_A_PROMPT,
            pad_token_id=loaded.tokenizer.eos_token_id,
        )
        texts = loaded.tokenizer.batch_decode(written[:, ids.shape[1] :], skip_special_tokens=True)
        answers[prompt] = [whole_sentences(text) for text in texts]
        progress(len(answers), len(prompts))
    return Prose(answers)


def whole_sentences(text: str) -> str:
    """Return a text up to the end of its last whole sentence; one without any, as it is."""
    text = text.strip()
    end = max(text.rfind(mark) for mark in _ENDS)
    return text[: end + 1] if end > 0 else text or "…"
