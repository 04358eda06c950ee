"""Asynchronous twins of methods that compute: they run in a thread, so the event loop goes on."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

Owner = TypeVar("Owner")
Given = ParamSpec("Given")
Result = TypeVar("Result")


def in_thread(
    method: Callable[Concatenate[Owner, Given], Result],
) -> Callable[Concatenate[Owner, Given], Awaitable[Result]]:
    """Return a method that awaits `method` in a thread; arguments, result and errors are its own.

    numpy and torch let go of the interpreter while they compute, so other tasks proceed.
    """

    @wraps(method)
    async def awaited(self: Owner, /, *args: Given.args, **kwargs: Given.kwargs) -> Result:
        return await asyncio.to_thread(method, self, *args, **kwargs)

    return awaited
