"""Answering: an index folder and a language model, wired into retrieve, prune and generate."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kvstore.store import KVStore
from pipelines.index_folder import open_index
from pruners.sentences import SentencePruner
from rag.errors import FolderLockedError
from rag.generation.cached import GenerateCached, Mode
from rag.generation.citations import SupportMatcher
from rag.generation.decoding import Sampling
from rag.generation.engine import Engine
from rag.generation.prompt import PromptEncoder
from rag.models.encoder import load_encoder
from rag.models.language_model import DtypeName, load_language_model
from rag.records import Answer, Query, TokenUse
from rag.tracing import Trace
from retrievers.hybrid import Hybrid

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from rag.protocols import Encoder, LanguageModel, Pruner, Retriever

RAM_BYTES = 4_000_000_000
DISK_BYTES = 10_000_000_000


@dataclass(frozen=True)
class Answering:
    """Three operators in a row: retrieve, prune, generate.

    Attributes:
        retrieve: query to passages.
        prune: decides which sentences of them are read; None reads all.
        generate: answers with citations.
    """

    retrieve: Retriever
    prune: Pruner | None
    generate: LanguageModel

    def __call__(self, query: Query, trace: Trace | None = None) -> Answer:
        """Return the answer; see `stream`."""
        for event in self.stream(query, trace):
            if isinstance(event, Answer):
                return event
        raise AssertionError("stream ends with an Answer")

    def stream(self, query: Query, trace: Trace | None = None) -> Iterator[str | Answer]:
        """Yield pieces of the answer, and the `Answer` with all timings last.

        Args:
            query: the question.
            trace: records what every step did.
        """
        trace = trace or Trace()
        started = time.perf_counter()
        with trace.span("retrieve"):
            passages = self.retrieve(query)
        trace.event("retrieved", passages=[{"id": p.id, "score": p.score} for p in passages])
        with trace.span("prune"):
            if self.prune is not None:
                passages = self.prune(query, passages)
        for passage in passages:
            if passage.kept is not None:
                trace.event(
                    "pruned",
                    passage=passage.id,
                    method=passage.kept.method,
                    sentences=[
                        {
                            "span": [s.span.start, s.span.end],
                            "score": round(s.score, 4),
                            "kept": s.kept,
                            "forced": s.forced,
                        }
                        for s in passage.kept.sentences
                    ],
                )
        with trace.span("generate"):
            for event in self.generate.stream(query, passages):
                if not isinstance(event, Answer):
                    yield event
                    continue
                answer = event
        timings = {
            "retrieve": trace.wall_ms("retrieve"),
            "prune": trace.wall_ms("prune"),
            **answer.timings_ms,
            "total": (time.perf_counter() - started) * 1e3,
        }
        answer = replace(answer, timings_ms={k: round(v, 3) for k, v in timings.items()})
        _record(trace, answer)
        yield answer


def _record(trace: Trace, answer: Answer) -> None:
    """Put into the trace what the generator reports of itself."""
    use, tokens = answer.cache, answer.tokens
    trace.event("kv", hits=use.hits, misses=use.misses, bytes=use.bytes, segments=dict(use.reasons))
    trace.event("prompt", text=answer.prompt, tokens=tokens.prompt, mode=answer.mode)
    decode_s = answer.timings_ms["decode"] / 1e3
    trace.event(
        "generated",
        text=answer.text,
        model=answer.model,
        tokens=tokens.generated,
        ttft_ms=answer.timings_ms["ttft"],
        tokens_per_s=_rate(tokens, decode_s),
        finish=answer.finish,
        abstained=answer.abstained,
    )


def _rate(tokens: TokenUse, decode_s: float) -> float:
    """Return decoded tokens a second, the first not counted."""
    return round((tokens.generated - 1) / decode_s, 1) if tokens.generated > 1 and decode_s else 0.0


@dataclass(frozen=True, slots=True)
class AskOptions:
    """What a person may choose about answering; see `dovetail ask --help`.

    Attributes:
        model: name, folder or hub id of the language model.
        dtype: `auto` picks the fastest exact one for the device.
        download: let bare model names reach the hub.
        mode: `ape` or `sequential`.
        top_k: passages to retrieve.
        threshold: score above which a sentence is kept; 0 keeps all. Stricter than the pruner's own
            default, as the default model answers better from less text.
        sampling: how tokens are chosen.
        kv_ram: bytes of RAM for KV; half of it holds rotated copies.
        kv_disk: bytes of disk for KV.
    """

    model: str = "smollm2-135m"
    dtype: DtypeName = "auto"
    download: bool = False
    mode: Mode = "ape"
    top_k: int = 3
    threshold: float = 0.4
    sampling: Sampling = Sampling()
    kv_ram: int = RAM_BYTES
    kv_disk: int = DISK_BYTES


class AnsweringSession:
    """An open index, a loaded model and an open KV store: created once, shared, closed together.

    Use as a context manager. If another process is writing to the KV store, the session reads it
    and keeps new entries in RAM only; `notes` says so.

    Attributes:
        index: the open index folder.
        encoder: what made its vectors.
        engine: runs the language model.
        prompt: tokenises for it.
        store: the KV store in the index folder.
        generate: the generator over all of them.
        answering: the operators, wired.
        notes: what a person should know about how the session was opened.
    """

    def __init__(self, folder: Path, options: AskOptions | None = None) -> None:
        options = options or AskOptions()
        self.notes: list[str] = []
        with ExitStack() as resources:
            self._open(folder, options, resources)
            self._resources = resources.pop_all()

    def _open(self, folder: Path, options: AskOptions, resources: ExitStack) -> None:
        index = open_index(folder)
        self.encoder: Encoder = load_encoder(index.manifest.encoder.name, download=options.download)
        index.check_encoder(self.encoder)
        self.index = index
        loaded = load_language_model(options.model, dtype=options.dtype, download=options.download)
        self.store = resources.enter_context(self._open_store(index.kv_folder, options))
        self.engine = Engine(
            loaded.model, loaded.identity, self.store, placed_bytes=options.kv_ram // 2
        )
        self.prompt = PromptEncoder(loaded.tokenizer, loaded.identity)
        self.generate = GenerateCached(
            self.engine,
            self.prompt,
            mode=options.mode,
            sampling=options.sampling,
            support=SupportMatcher(self.encoder),
        )
        self.answering = self._wire(options)

    def _open_store(self, folder: Path, options: AskOptions) -> KVStore:
        ram, disk = options.kv_ram // 2, options.kv_disk
        try:
            return KVStore(folder, ram_bytes=ram, disk_bytes=disk)
        except FolderLockedError as error:
            self.notes.append(f"{error}; reading it, and keeping new entries in RAM only")
            return KVStore(folder, ram_bytes=ram, disk_bytes=disk, read_only=True)

    def _wire(self, options: AskOptions) -> Answering:
        pruner = SentencePruner(
            self.encoder,
            threshold=options.threshold,
            sentence_vectors=self.index.sentence_vectors,
        )
        return Answering(
            Hybrid(
                self.index.sparse,
                self.index.dense,
                self.encoder,
                self.index.passages,
                top_k=options.top_k,
            ),
            pruner,
            self.generate,
        )

    def ask(self, question: str, trace: Trace | None = None) -> Answer:
        """Return the answer to a question.

        Raises:
            ValueError: if it is empty.
        """
        return self.answering(Query(question), trace)

    def close(self) -> None:
        """Close the KV store; twice is harmless."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
