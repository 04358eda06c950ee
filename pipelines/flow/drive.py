"""Drivers: whoever does what the executor asks for, in this thread or awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

from pipelines.flow.events import Event
from pipelines.flow.requests import END, Call, Failed, Make, Pull, Requests


def drive(requests: Requests) -> Iterator[Event]:
    """Do everything in this thread; yield the events."""
    answer: Any = None
    with closing(requests):
        while True:
            try:
                request = requests.send(answer)
            except StopIteration:
                return
            if not isinstance(request, (Call, Pull, Make)):
                answer = None
                yield request
            elif isinstance(request, Call) and request.asynchronous:
                answer = _finished(_awaited(request))
            else:
                answer = _done(request)


async def adrive(requests: Requests) -> AsyncGenerator[Event, None]:
    """Await asynchronous operators and run the others in a thread; yield the events."""
    answer: Any = None
    with closing(requests):
        while True:
            try:
                request = requests.send(answer)
            except StopIteration:
                return
            if not isinstance(request, (Call, Pull, Make)):
                answer = None
                yield request
            elif isinstance(request, Call) and request.asynchronous:
                answer = await _awaited(request)
            else:
                answer = await asyncio.to_thread(_done, request)


def _done(request: Call | Pull | Make) -> Any:
    if isinstance(request, Call):
        return _called(request)
    try:
        return request.make() if isinstance(request, Make) else next(request.pieces, END)
    except Exception as error:  # noqa: BLE001 a step's own error, whatever it is
        return Failed(error)


def _called(call: Call) -> list[Any]:
    """Return the outcome of each item; those with the same ports go together if they can."""
    if not call.batched or len(call.arguments) < 2:
        return [_tried(call, given) for given in call.arguments]
    groups: dict[frozenset[str], list[int]] = {}
    for place, given in enumerate(call.arguments):
        groups.setdefault(frozenset(given), []).append(place)
    outcomes: list[Any] = [None] * len(call.arguments)
    for places in groups.values():
        together = _together(call, [call.arguments[place] for place in places])
        for place, outcome in zip(places, together, strict=True):
            outcomes[place] = outcome
    return outcomes


def _together(call: Call, arguments: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Return the outcomes of one batched call; if it fails, items are tried one by one."""
    if len(arguments) == 1:
        return [_tried(call, arguments[0])]
    ports = {port: [given[port] for given in arguments] for port in arguments[0]}
    try:
        outcomes = list(call.operator.batch(**ports))
    except Exception:  # noqa: BLE001 whatever it was, one by one it shows whose it is
        return [_tried(call, given) for given in arguments]
    if len(outcomes) != len(arguments):
        message = f"batch returned {len(outcomes)} results for {len(arguments)} items"
        return [Failed(ValueError(message))] * len(arguments)
    return outcomes


def _tried(call: Call, given: Mapping[str, Any]) -> Any:
    try:
        return call.operator(**given)
    except Exception as error:  # noqa: BLE001 a step's own error, whatever it is
        return Failed(error)


async def _awaited(call: Call) -> list[Any]:
    """Return the outcome of each item, a bounded number of them under way at once."""
    turn = asyncio.Semaphore(call.limit)

    async def one(given: Mapping[str, Any]) -> Any:
        async with turn:
            try:
                return await call.operator(**given)
            except Exception as error:  # noqa: BLE001 a step's own error, whatever it is
                return Failed(error)

    return list(await asyncio.gather(*map(one, call.arguments)))


def _finished(awaited: Coroutine[Any, Any, list[Any]]) -> list[Any]:
    """Run a coroutine to its end; in a thread of its own where a loop runs already (notebooks)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(awaited)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, awaited).result()
