"""How tokens are drawn: what a request asks for, else what the model's makers do. Each option is applied, or refused by name."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from inspect_ai.model import GenerateConfig
from transformers import GenerationConfig

from self_steering.steering.engine.sampling import Sampling

DEFAULT_MAX_TOKENS = 1024

# Inspect's options. A field that stands in none of the three is refused, so that one which is new there is never ignored.
_APPLIED = frozenset(
    {"max_tokens", "temperature", "top_p", "top_k", "seed", "stop_seqs", "logprobs", "top_logprobs", "extra_body"}
)
_INSPECTS_OWN = frozenset(  # carried out before or after the provider is asked; nothing is streamed
    {
        "adaptive_connections",
        "attempt_timeout",
        "cache",
        "fail_on_refusal",
        "max_connections",
        "max_retries",
        "max_tool_output",
        "reasoning_history",
        "stream_idle_timeout",
        "system_message",
        "timeout",
    }
)
_AS_IS: Mapping[str, tuple[Any, ...]] = MappingProxyType(  # values that ask for what is done anyway
    {
        "batch": (False,),
        "best_of": (1,),
        "cache_prompt": (True, "auto"),
        "extra_headers": ({},),
        "fallback_models": ([],),
        "frequency_penalty": (0,),
        "internal_tools": (False,),
        "logit_bias": ({},),
        "modalities": ([],),
        "num_choices": (1,),
        "parallel_tool_calls": (True,),
        "presence_penalty": (0,),
    }
)

# Entries of generation_config.json that draw tokens, with the values that change nothing.
_DRAWN = frozenset({"temperature", "top_p", "top_k", "min_p"})
_IDLE: Mapping[str, tuple[Any, ...]] = MappingProxyType(
    {
        "begin_suppress_tokens": ([],),
        "bad_words_ids": ([],),
        "diversity_penalty": (0,),
        "do_sample": (True, False),
        "encoder_no_repeat_ngram_size": (0,),
        "encoder_repetition_penalty": (1,),
        "epsilon_cutoff": (0,),
        "eta_cutoff": (0,),
        "guidance_scale": (1,),
        "length_penalty": (1,),
        "low_memory": (False,),
        "min_length": (0,),
        "min_new_tokens": (0,),
        "no_repeat_ngram_size": (0,),
        "num_beam_groups": (1,),
        "num_beams": (1,),
        "num_return_sequences": (1,),
        "penalty_alpha": (0,),
        "remove_invalid_values": (False,),
        "renormalize_logits": (True, False),
        "sequence_bias": ({}, []),
        "stop_strings": ([],),
        "suppress_tokens": ([],),
        "token_healing": (False,),
        "typical_p": (1,),
        "use_mtp": (False,),
    }
)
_NOT_OF_DRAWING = frozenset(  # names of tokens, lengths, caches, and what other ways of decoding read
    {
        "_from_model_config",
        "assistant_confidence_threshold",
        "assistant_early_exit",
        "assistant_ensemble_weight",
        "assistant_lookbehind",
        "bos_token_id",
        "cache_config",
        "cache_implementation",
        "compile_config",
        "continuous_batching_config",
        "decoder_start_token_id",
        "disable_compile",
        "early_stopping",
        "eos_token_id",
        "is_assistant",
        "max_cache_len",
        "max_length",
        "max_matching_ngram_size",
        "max_new_tokens",
        "max_time",
        "num_assistant_tokens",
        "num_assistant_tokens_schedule",
        "output_attentions",
        "output_hidden_states",
        "output_logits",
        "output_scores",
        "pad_token_id",
        "prefill_chunk_size",
        "prompt_lookup_num_tokens",
        "return_dict_in_generate",
        "speculation_type",
        "target_lookbehind",
        "transformers_version",
        "use_cache",
    }
)


def check_options(config: GenerateConfig) -> None:
    """Refuse an option of Inspect's that would be ignored.

    Raises:
        ValueError: One is set that neither this provider nor Inspect itself carries out; the message names it.
    """
    given = {name: getattr(config, name) for name in GenerateConfig.model_fields}
    refused = [
        f"{name}={value!r}"
        for name, value in given.items()
        if value is not None and name not in _APPLIED | _INSPECTS_OWN and value not in _AS_IS.get(name, ())
    ]
    if refused:
        hint = (
            "; how much the model thinks is told by -M thinking" if any("reasoning" in one for one in refused) else ""
        )
        raise ValueError(f"the nnsight provider does not support {', '.join(refused)}; leave what is named unset{hint}")
    if config.top_logprobs is not None and not config.logprobs:
        raise ValueError(f"top_logprobs={config.top_logprobs} without logprobs would be ignored; set logprobs=true too")


def sampling_of(
    config: GenerateConfig, own: GenerationConfig | None, seed: int, room: int, ends: Sequence[str] = ()
) -> Sampling:
    """Return how a request's tokens are drawn: as it says, else as the model's own generation configuration does.

    Args:
        config: The request's options.
        own: The model's generation configuration. Its temperature and cut-offs count where it samples, its penalty always, as
            in transformers.
        seed: Seed of a request that names none.
        room: Tokens that the context has left.
        ends: Texts that end the model's turn.

    Raises:
        ValueError: A value makes no sense; the message names it and the valid ones.
    """
    samples = own is not None and bool(own.do_sample)

    def pick(name: str, default: float) -> Any:
        asked = getattr(config, name, None)
        if asked is None and (samples or name not in _DRAWN):
            asked = getattr(own, name, None)
        return default if asked is None else asked

    most = DEFAULT_MAX_TOKENS if config.max_tokens is None else config.max_tokens
    return Sampling(
        max_tokens=min(most, room),
        temperature=float(pick("temperature", 1.0)),
        top_p=float(pick("top_p", 1.0)),
        top_k=int(pick("top_k", 0)),
        min_p=float(pick("min_p", 0.0)),
        repetition_penalty=float(pick("repetition_penalty", 1.0)),
        seed=seed if config.seed is None else config.seed,
        stop=(*(config.stop_seqs or ()), *ends),
        top_logprobs=(config.top_logprobs or 0) if config.logprobs else None,
    )


def unapplied(own: GenerationConfig | None) -> str | None:
    """Return a line on what a model's generation configuration asks for that is not carried out here; None where all is."""
    entries = {} if own is None else {k: v for k, v in own.to_dict().items() if v is not None}
    ignored = [
        f"{name}={value!r}"
        for name, value in entries.items()
        if name not in _DRAWN | _NOT_OF_DRAWING | {"repetition_penalty"} and value not in _IDLE.get(name, ())
    ]
    if not ignored:
        return None
    return f"the model's generation_config.json has {', '.join(ignored)}, which is not applied here: its texts may be others"
