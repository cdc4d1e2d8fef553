"""The one thread that owns a model: others hand it rows and calls, and get futures."""

import contextlib
import logging
import queue
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeVar

from self_steering.vectors.shown import in_one_line

logger = logging.getLogger(__name__)

Work = TypeVar("Work")
Result = TypeVar("Result")
Parameters = ParamSpec("Parameters")


CLOSED = "the engine is closed; make a new one"


@dataclass(frozen=True)
class _Call(Generic[Result]):
    """Something to call in the thread, and where its result goes."""

    function: Callable[[], Result]
    future: "Future[Result]"

    def run(self) -> None:
        if self.future.set_running_or_notify_cancel():
            try:
                self.future.set_result(self.function())
            except BaseException as error:  # handed to the caller, which raises it
                self.future.set_exception(error)
                if not isinstance(error, Exception):
                    raise  # the thread ends, and says so


class OwningThread(Generic[Work]):
    """A thread that starts with the first thing it is handed, and ends when it is closed, or when `run` raises.

    Whoever waits for it is told in either case: nothing that was handed over is left without an answer.

    Args:
        run: What the thread does; it takes its work with `take` until that returns False.
        name: The thread's name.
        abandon: Ends rows that were handed over and are not begun, and all that the thread holds, with an error.
    """

    def __init__(self, run: Callable[[], None], name: str, abandon: Callable[[list[Work], Exception], None]) -> None:
        self._run = run
        self._name = name
        self._abandon = abandon
        self._inbox: queue.SimpleQueue[list[Work] | _Call[Any] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._ended = ""  # why nothing is taken any more

    def put(self, item: "list[Work] | _Call[Any]") -> None:
        """Hand over rows, or something to call.

        Raises:
            RuntimeError: The thread was closed, or ended on an error.
        """
        with self._lock:
            if self._ended:
                raise RuntimeError(self._ended)
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
                self._thread.start()
                # Without close() it would still be in torch when the interpreter goes, which aborts the process.
                self._at_exit = weakref.finalize(self, _end, self._inbox, self._thread)
            self._inbox.put(item)

    def call(self, function: Callable[[], Result]) -> "Future[Result]":
        """Run `function` in the thread, between two steps."""
        future: Future[Result] = Future()
        self.put(_Call(function, future))
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
                item.run()
        return True

    def close(self) -> None:
        """Let the thread end, and wait for that."""
        with self._lock:
            self._ended = self._ended or CLOSED
            thread, self._thread = self._thread, None
        if thread is not None:
            self._at_exit()

    def _serve(self) -> None:
        ended: Exception = RuntimeError("the engine was closed while this request ran")
        try:
            self._run()
        except BaseException as error:
            logger.exception("the thread %s ended on an error", self._name)
            what = f"{type(error).__name__}: {in_one_line(error)}"
            ended = RuntimeError(f"the engine's thread ended on {what}; load the model again")
            ended.__cause__ = error
        with self._lock:
            self._ended = self._ended or str(ended)
        left: list[Work] = []
        while not self._inbox.empty():
            item = self._inbox.get()
            if isinstance(item, list):
                left += item
            elif item is not None:
                deliver(item.future, ended)
        self._abandon(left, ended)


def _end(inbox: "queue.SimpleQueue[Any]", thread: threading.Thread) -> None:
    """Let a thread end after its step, and wait for that."""
    inbox.put(None)
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
