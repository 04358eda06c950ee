"""Protocols: what each kind of operator promises, in words and types. No heavy imports."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from rag.records import (
    Answer,
    Budget,
    Completion,
    Hit,
    Passage,
    PassageScores,
    Query,
    Route,
    Segment,
    Selection,
)

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import torch
    from PIL import Image


@runtime_checkable
class Encoder(Protocol):
    """Texts to vectors. Pure: the same text gives the same vector, whatever the batch."""

    @property
    def name(self) -> str:
        """What the user called it."""

    @property
    def fingerprint(self) -> str:
        """Hash of the weights: an index built with another encoder is refused by it."""

    @property
    def dim(self) -> int:
        """Width of a vector."""

    def encode(
        self, texts: Sequence[str], *, progress: Callable[[int], None] | None = None
    ) -> np.ndarray:
        """Return unit vectors of passages, float32 (n, dim); n may be 0.

        `progress` gets rows done so far.
        """

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        """Return unit vectors of queries, float32 (n, dim): many models prompt them otherwise."""


@runtime_checkable
class ImageEncoder(Protocol):
    """Pictures and texts to vectors of one space. Pure, as an `Encoder` is."""

    @property
    def name(self) -> str:
        """What the user called it."""

    @property
    def fingerprint(self) -> str:
        """Hash of the weights: an index built with another encoder is refused by it."""

    @property
    def dim(self) -> int:
        """Width of a vector."""

    def encode_images(
        self,
        images: Sequence[Image.Image | Path],
        *,
        progress: Callable[[int], None] | None = None,
    ) -> np.ndarray:
        """Return unit vectors of pictures, float32 (n, dim); n may be 0.

        `progress` gets rows done so far.
        """

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        """Return unit vectors of texts, float32 (n, dim), in the space of the pictures."""


class SparseSearch(Protocol):
    """A ranking of passage ids by terms, over a whole corpus."""

    def search(
        self, query: Query, top_k: int, *, within: frozenset[str] | None = None
    ) -> list[Hit]:
        """Return at most `top_k` hits, best first, unique, ties by id.

        Passages that share nothing with the query are left out, so the result may be empty.

        Args:
            query: what to look for.
            top_k: at least 1; may exceed the corpus.
            within: the only ids that may be returned; None means all. Unknown ones are no error.
        """

    def search_batch(
        self, queries: Sequence[Query], top_k: int, *, within: frozenset[str] | None = None
    ) -> list[list[Hit]]:
        """Return what `search` returns for each query."""

    def scores_of(
        self, query: Query, ids: Sequence[str], *, within: frozenset[str] | None = None
    ) -> np.ndarray:
        """Return the scores of given passages, float64 (n,), in their order.

        Args:
            query: what to look for.
            ids: of passages.
            within: as of `search`: the only passages that may have a say in what is looked for.

        Raises:
            KeyError: for an unknown id.
        """


class VectorSearch(Protocol):
    """A ranking of passage ids by the inner product of vectors, over a whole corpus."""

    @property
    def dim(self) -> int:
        """Width of a vector."""

    def search_vectors(
        self, vectors: np.ndarray, top_k: int, *, within: frozenset[str] | None = None
    ) -> list[list[Hit]]:
        """Return at most `top_k` hits for each vector, best first, unique, ties by id.

        Args:
            vectors: (queries, dim), finite, of any norm but 0.
            top_k: at least 1; may exceed the corpus.
            within: the only ids that may be returned; None means all. Unknown ones are no error.
        """

    def vectors(self, ids: Sequence[str]) -> np.ndarray:
        """Return the stored vectors of passages, float32 (n, dim), in their order.

        Raises:
            KeyError: for an unknown id.
        """

    def scores_of(self, vector: np.ndarray, ids: Sequence[str]) -> np.ndarray:
        """Return the inner products of given passages with a vector, float64 (n,), in their order.

        Raises:
            KeyError: for an unknown id.
        """

    def __contains__(self, id_: object) -> bool:
        """Tell whether there is a vector of this id."""


class Retriever(Protocol):
    """Query to passages, best first, with `score` set, ids unique, ties by id."""

    def __call__(self, query: Query) -> list[Passage]:
        """Return the passages for a query; may be shorter than asked for."""

    def vectors(self, ids: Sequence[str]) -> np.ndarray:
        """Return float32 (n, dim) vectors of passages, for feedback, diversity and the graph.

        Raises:
            KeyError: for an unknown id.
        """


class Reranker(Protocol):
    """Reorders passages: returns a permutation of a subset of its input."""

    def __call__(self, query: Query, passages: Sequence[Passage]) -> list[Passage]:
        """Return passages best first, `score` replaced."""


class SentenceScorer(Protocol):
    """Scores the sentences of passages for a query; decides nothing and edits nothing."""

    @property
    def name(self) -> str:
        """Short name of the method, as `Selection.method` says it."""

    def __call__(self, query: Query, passages: Sequence[Passage]) -> list[PassageScores]:
        """Return the scores of each passage, in the passages' order.

        Scores may depend on the set of passages, not on their order. A passage without sentences
        has none and costs nothing.
        """


class Pruner(Protocol):
    """Decides per sentence what the query needs; never edits a passage."""

    def select(
        self, query: Query, passages: Sequence[Passage], *, budget: Budget | None = None
    ) -> list[Selection]:
        """Return one selection a passage, in the passages' order."""

    def __call__(self, query: Query, passages: Sequence[Passage]) -> list[Passage]:
        """Return the same passages, same order, with `kept` attached."""


@dataclass(frozen=True, slots=True)
class SegmentKV:
    """The KV of one segment, before RoPE.

    Attributes:
        keys: (layers, tokens, kv_heads, head_dim), as the key projection (and key norm) left them.
        values: the same shape and dtype.
    """

    keys: torch.Tensor
    values: torch.Tensor

    @property
    def nbytes(self) -> int:
        """Bytes of both tensors."""
        return self.keys.nbytes + self.values.nbytes


@dataclass(frozen=True, slots=True)
class Lookup:
    """What a cache said to one request.

    Attributes:
        kv: the tensors, or None on a miss. They are shared: a reader never writes to them.
        reason: `hit (ram)`, `hit (disk)`, `absent`, or `corrupt: …` with what was wrong.
        nbytes: bytes of KV found; 0 on a miss.
    """

    kv: SegmentKV | None
    reason: str
    nbytes: int = 0


class PassageCache(Protocol):
    """Keeps KV between requests. A wrong answer is never given: whatever does not match misses.

    `get` changes nothing that a caller can see but recency. What `get` returned stays valid after
    any later `put`, eviction or close. All methods may be called from several threads.
    """

    def get(self, segment: Segment) -> Lookup:
        """Return the KV of exactly this segment, or a miss with its reason."""

    def put(self, segment: Segment, kv: SegmentKV) -> bool:
        """Keep the KV; False if it does not fit any budget (then nothing is stored)."""


class LanguageModel(Protocol):
    """A generator: reads a question and passages, answers with citations."""

    def __call__(self, query: Query, passages: Sequence[Passage]) -> Answer:
        """Return the answer. Passages come best first and may carry `kept` selections."""

    def stream(self, query: Query, passages: Sequence[Passage]) -> Iterator[str | Answer]:
        """Yield pieces of text as they are decoded, and the finished `Answer` last."""


@runtime_checkable
class TextModel(Protocol):
    """Continues texts: what query operators and judges ask. A resource named `lm` is one."""

    @property
    def name(self) -> str:
        """What the user called it."""

    @property
    def fingerprint(self) -> str:
        """Hash of everything its output depends on, sampling apart."""

    def complete(
        self,
        prompts: Sequence[str],
        *,
        max_tokens: int = 64,
        stop: Sequence[str] = (),
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[Completion]:
        """Return one continuation a prompt, in order; prompts are independent of each other.

        Args:
            prompts: raw texts; the model sees nothing else.
            max_tokens: the most to generate, at least 1.
            stop: a continuation ends before the first of these texts.
            temperature: 0 is greedy.
            seed: of the sampler; the same seed gives the same text.
        """

    def logprobs(self, prompt: str, continuations: Sequence[str]) -> list[float]:
        """Return the natural log-probability of each continuation after the prompt.

        Raises:
            NotImplementedError: if the model does not tell, as most chat services do not.
        """


class Router(Protocol):
    """Decides which arms of a flow a query takes."""

    def __call__(self, query: Query) -> Route:
        """Return the labels with their probabilities."""
