"""Our operators, generators and pipelines as LangChain runnables."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from langchain_core.callbacks import AsyncCallbackManagerForChainRun as AsyncChainRun
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun as AsyncTextRun
from langchain_core.callbacks import CallbackManagerForChainRun as ChainRun
from langchain_core.callbacks import CallbackManagerForLLMRun as TextRun
from langchain_core.outputs import Generation, LLMResult
from langchain_core.runnables import Runnable, RunnableConfig
from typing_extensions import override

from rag.interop.calls import Piece, Target, target
from rag.protocols import LanguageModel


class DovetailRunnable(Runnable[Any, Any]):
    """An operator or a pipeline that runs in a LangChain chain.

    The input is a text, which goes to `query` or the only input, or a dict of inputs; LangChain
    documents among them become passages, and `documents` stands for `passages`. The output is what
    the operator returns; of a pipeline, its only output or the dict of all.

    A stream yields pieces of text as models write them, from every step that writes any, and the
    output itself last. Each text that is written is a model run under the chain's run, so that
    handlers see `on_llm_new_token`.

    `batch` runs all items together, so encoders see full batches; with `return_exceptions` they run
    one by one, so that a failure stays with its item. `max_concurrency` says nothing here.
    """

    def __init__(self, called: Target) -> None:
        """Wrap what `rag.interop.calls.target` gives."""
        self.called = called
        self.name = called.name

    @override
    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        return self._call_with_config(self.called.run, input, config, **kwargs)

    @override
    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        return await self._acall_with_config(self.called.arun, input, config, **kwargs)

    @override
    def batch(
        self,
        inputs: list[Any],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[Any]:
        run = self._one_by_one if return_exceptions else self.called.batch
        return self._batch_with_config(
            cast("Callable[[list[Any]], list[Any]]", run),
            inputs,
            config,
            return_exceptions=return_exceptions,
            **kwargs,
        )

    @override
    async def abatch(
        self,
        inputs: list[Any],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[Any]:
        run = self._aone_by_one if return_exceptions else self.called.abatch
        return await self._abatch_with_config(
            cast("Any", run), inputs, config, return_exceptions=return_exceptions, **kwargs
        )

    @override
    def stream(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Iterator[Any]:
        yield from self._transform_stream_with_config(iter([input]), self._said, config, **kwargs)

    @override
    async def astream(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        async def given() -> AsyncIterator[Any]:
            yield input

        async for chunk in self._atransform_stream_with_config(
            given(), self._asaid, config, **kwargs
        ):
            yield chunk

    def _one_by_one(self, inputs: Sequence[Any]) -> list[Any]:
        outputs: list[Any] = []
        for item in inputs:
            try:
                outputs.append(self.called.run(item))
            except Exception as error:  # noqa: BLE001  # the caller asked to be handed it
                outputs.append(error)
        return outputs

    async def _aone_by_one(self, inputs: Sequence[Any]) -> list[Any]:
        outputs: list[Any] = []
        for item in inputs:
            try:
                outputs.append(await self.called.arun(item))
            except Exception as error:  # noqa: BLE001  # the caller asked to be handed it
                outputs.append(error)
        return outputs

    def _said(self, inputs: Iterator[Any], run_manager: ChainRun) -> Iterator[Any]:
        (given,) = inputs
        written = _Written(self.called.name, str(given), run_manager)
        try:
            for item in self.called.stream(given):
                if isinstance(item, Piece):
                    written.add(item)
                    yield item.text
                else:
                    written.end()
                    yield item.output
        except Exception as error:
            written.fail(error)
            raise

    async def _asaid(
        self, inputs: AsyncIterator[Any], run_manager: AsyncChainRun
    ) -> AsyncIterator[Any]:
        (given,) = [item async for item in inputs]
        written = _AsyncWritten(self.called.name, str(given), run_manager)
        try:
            async for item in self.called.astream(given):
                if isinstance(item, Piece):
                    await written.add(item)
                    yield item.text
                else:
                    await written.end()
                    yield item.output
        except Exception as error:
            await written.fail(error)
            raise


@dataclass
class _Written:
    """Reports the texts that are being written as model runs below a chain's run."""

    name: str
    prompt: str
    parent: ChainRun
    runs: dict[str, tuple[TextRun, list[str]]] = field(default_factory=dict)

    def add(self, piece: Piece) -> None:
        if piece.source not in self.runs:
            below = self.parent.get_child()
            (run,) = below.on_llm_start({"name": self.name}, [self.prompt], name=self.name)
            self.runs[piece.source] = run, []
        run, pieces = self.runs[piece.source]
        pieces.append(piece.text)
        run.on_llm_new_token(piece.text)

    def end(self) -> None:
        for run, pieces in self.runs.values():
            run.on_llm_end(_result(pieces))

    def fail(self, error: Exception) -> None:
        for run, _ in self.runs.values():
            run.on_llm_error(error)


@dataclass
class _AsyncWritten:
    """The asynchronous twin of `_Written`."""

    name: str
    prompt: str
    parent: AsyncChainRun
    runs: dict[str, tuple[AsyncTextRun, list[str]]] = field(default_factory=dict)

    async def add(self, piece: Piece) -> None:
        if piece.source not in self.runs:
            below = self.parent.get_child()
            (run,) = await below.on_llm_start({"name": self.name}, [self.prompt], name=self.name)
            self.runs[piece.source] = run, []
        run, pieces = self.runs[piece.source]
        pieces.append(piece.text)
        await run.on_llm_new_token(piece.text)

    async def end(self) -> None:
        for run, pieces in self.runs.values():
            await run.on_llm_end(_result(pieces))

    async def fail(self, error: Exception) -> None:
        for run, _ in self.runs.values():
            await run.on_llm_error(error)


def _result(pieces: Sequence[str]) -> LLMResult:
    return LLMResult(generations=[[Generation(text="".join(pieces))]])


def as_runnable(called: Any) -> DovetailRunnable:
    """Return an operator, a function or a pipeline as a LangChain `Runnable`.

    Args:
        called: its inputs are the parameters of its call; of a pipeline, `definition.inputs`.

    Raises:
        ValueError: if it cannot be called.
    """
    return DovetailRunnable(target(called))


def as_generator_runnable(generator: LanguageModel) -> DovetailRunnable:
    """Return a generator as a `Runnable` from `{"query": …, "documents": […]}` to an `Answer`.

    Args:
        generator: answers a query from passages; streams if it has `stream`.

    Raises:
        ValueError: if its inputs are not `query` and `passages`.
    """
    called = target(generator)
    if not {"query", "passages"} <= set(called.names):
        raise ValueError(
            f"a generator must take query and passages, {called.name} takes "
            f"{', '.join(called.names) or 'nothing'}"
        )
    return DovetailRunnable(called)
