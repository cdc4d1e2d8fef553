"""Torch work outside the engine's thread, so that it leaves no threads behind."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def in_passing_thread(
    function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Result:
    """Return what `function` returns, run in a thread that ends with it.

    Every thread that runs a parallel operation of torch keeps an OpenMP team for as long as it lives. Once there are more
    of those than cores, GNU OpenMP puts its threads to sleep between any two operations, the engine's too (`GOMP_SPINCOUNT`
    in libgomp's manual), which costs it a quarter of its speed on two cores.
    """
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(function, *args, **kwargs).result()
