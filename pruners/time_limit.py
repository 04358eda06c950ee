"""A call that may take only so long."""

import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import TypeVar

T = TypeVar("T")


def within_time(call: Callable[[], T], seconds: float) -> T:
    """Return what a call gives, run in a thread of its own.

    A call that is late is left alone: it goes on until it ends, its result is dropped, and it does
    not keep the process alive.

    Args:
        call: without arguments.
        seconds: how long to wait, above 0.

    Raises:
        TimeoutError: if it takes longer.
        BaseException: whatever the call raises.
    """
    results: list[T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    context = copy_context()
    thread = threading.Thread(target=context.run, args=(run,), name="scoring", daemon=True)
    thread.start()
    thread.join(seconds)
    if failures:
        raise failures[0]
    if not results:
        raise TimeoutError(f"it took longer than {seconds:g} s")
    return results[0]
