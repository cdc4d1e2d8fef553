"""vLLM's configuration: the arguments that users may give, those that steering fixes, and its environment."""

import importlib.util
import os
from collections.abc import Mapping
from typing import Any

from self_steering.steering.identity import ModelError

VLLM_ARGS = (
    "dtype",
    "tensor_parallel_size",
    "distributed_executor_backend",
    "max_model_len",
    "max_num_seqs",
    "max_num_batched_tokens",
    "gpu_memory_utilization",
    "kv_cache_memory_bytes",
    "kv_cache_dtype",
    "num_gpu_blocks_override",
    "block_size",
    "enable_prefix_caching",
    "enable_chunked_prefill",
    "quantization",
    "load_format",
    "cpu_offload_gb",
    "attention_backend",
    "disable_custom_all_reduce",
)
_FIXED = {
    "enforce_eager": "the hooks that steer run in the layers' own forward passes, which compiled graphs leave out",
    "pipeline_parallel_size": "steering is measured on ranks that hold all layers; use tensor_parallel_size",
    "speculative_config": "drafted tokens are read before they are chosen",
    "async_scheduling": "receipts are made before the next step begins",
    "trust_remote_code": "code of models is never run",
}
_CPU_CACHE = 2 << 30  # bytes of keys and values, as much as the other engine keeps
INSTALL = (
    "engine=vllm needs vLLM, which is not installed here; run `pip install 'self-steering[vllm]'` on a machine with GPUs; "
    "on one without, the CPU build as steering/on_vllm/README.md says, or use engine=transformers"
)


def check_installed() -> None:
    """Refuse to go on without vLLM.

    Raises:
        ModelError: It is not installed; the message says what to install.
    """
    if importlib.util.find_spec("vllm") is None:
        raise ModelError(INSTALL)


def refusals(arguments: Mapping[str, Any]) -> list[str]:
    """Return why some arguments of vLLM's cannot be given."""
    return [f"{name} cannot be given with engine=vllm: {_FIXED[name]}" for name in arguments if name in _FIXED]


def prepare_environment(ranks: int) -> None:
    """Set what vLLM reads from the environment; what the user has set is left, but for what steering depends on.

    Args:
        ranks: Workers with a share of the model each.
    """
    # The scheduler runs in this process, so that blocks are hashed with their steering, and steps are ours to take.
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    # The second runner keeps its count of positions on the device.
    os.environ["VLLM_USE_V2_MODEL_RUNNER"] = "0"
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    if ranks > 1:
        # Read by the CPU's workers only. Left alone, they ask for a memory node each.
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", _shares_of_cores(ranks))


def _shares_of_cores(ranks: int) -> str:
    """Return which cores each rank gets, such as `0,1|2,3`; `nobind` where there are fewer cores than ranks."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    each = len(cores) // ranks
    if not each:
        return "nobind"
    return "|".join(",".join(map(str, cores[rank * each : (rank + 1) * each])) for rank in range(ranks))


def engine_arguments(source: str, revision: str | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return vLLM's engine arguments.

    Args:
        source: Folder or hub id.
        revision: Hub branch, tag or commit.
        given: What the user gave, all of it of `VLLM_ARGS`.
    """
    from vllm.platforms import current_platform  # noqa: PLC0415  vLLM is there only in some environments

    on_cpu = bool(current_platform.is_cpu())
    defaults: dict[str, Any] = {"dtype": "float32" if on_cpu else "bfloat16", "enable_prefix_caching": True}
    if on_cpu and not {"kv_cache_memory_bytes", "gpu_memory_utilization"} & set(given):
        defaults["kv_cache_memory_bytes"] = _CPU_CACHE  # vLLM would take nine tenths of the machine's memory
    return {
        **defaults,
        **given,
        "model": source,
        "tokenizer": source,
        "revision": revision,
        "tokenizer_revision": revision,
        "trust_remote_code": False,
        "enforce_eager": True,
        "async_scheduling": False,
        "disable_log_stats": True,
        # One kind of cache for all layers: a token's slot is then the same in each.
        "disable_hybrid_kv_cache_manager": True,
        "max_logprobs": -1,
        "structured_outputs_config": {"backend": "guidance"},
        "worker_extension_cls": "self_steering.steering.on_vllm.worker.SteeringExtension",
    }
