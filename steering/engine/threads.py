"""The one thread that owns a model: others hand it rows and calls, and get futures."""

import contextlib
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from typing import Generic, ParamSpec, TypeVar

Work = TypeVar("Work")
Result = TypeVar("Result")
Parameters = ParamSpec("Parameters")


class OwningThread(Generic[Work]):
    """A thread that starts with the first thing it is handed, and ends when it is closed.

    Args:
        run: What the thread does; it takes its work with `take` until that returns False.
        name: The thread's name.
    """

    def __init__(self, run: Callable[[], None], name: str) -> None:
        self._run = run
        self._name = name
        self._inbox: queue.SimpleQueue[list[Work] | Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closed = False

    def put(self, item: list[Work] | Callable[[], None]) -> None:
        """Hand over rows, or something to call.

        Raises:
            RuntimeError: The thread was closed.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError("the engine is closed; make a new one")
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._inbox.put(item)

    def call(self, function: Callable[[], Result]) -> "Future[Result]":
        """Run `function` in the thread, between two steps."""
        future: Future[Result] = Future()

        def run() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function())
                except Exception as error:  # noqa: BLE001  handed to the caller, which raises it
                    future.set_exception(error)

        self.put(run)
        return future

    def take(self, admit: Callable[[list[Work]], None], *, idle: bool) -> bool:
        """Admit new rows and run calls; only for the thread itself.

        Args:
            admit: Takes rows in.
            idle: Whether to wait for rows, as there is nothing else to do.

        Returns:
            False once the thread is closed.
        """
        while idle or not self._inbox.empty():
            item = self._inbox.get()
            if item is None:
                return False
            if isinstance(item, list):
                admit(item)
                idle = idle and not item
            else:
                item()
        return True

    def close(self) -> None:
        """Let the thread end, and wait for that."""
        with self._lock:
            self._closed = True
            thread, self._thread = self._thread, None
        if thread is not None:
            self._inbox.put(None)
            thread.join()


def deliver(future: "Future[Result]", result: Result | Exception) -> None:
    """Give a future its result, or the error that it raises; one that was cancelled a moment ago is left alone."""
    with contextlib.suppress(InvalidStateError):
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)


def in_short_lived_thread(
    function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Result:
    """Return what `function` returns, run in a thread that ends with it.

    Every thread that runs a parallel operation of torch keeps an OpenMP team for as long as it lives. Once there are more
    of those than cores, GNU OpenMP puts its threads to sleep between any two operations, the engine's too (`GOMP_SPINCOUNT`
    in libgomp's manual), which costs it a quarter of its speed on two cores.
    """
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(function, *args, **kwargs).result()
