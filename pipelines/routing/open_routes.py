"""Corpora and a model, opened to run each route alone."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.catalogue.corpora import retrieve
from pipelines.catalogue.table import catalogue, load
from pipelines.corpora.open_corpora import OpenCorpora
from pipelines.corpora.opening import holds_corpora, open_corpora
from pipelines.open_index import DISK_BYTES, RAM_BYTES, OpenIndex
from pipelines.routing.scores import AnswerF1
from rag.records import Passage, Query, Route

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from pipelines.flow.blocks import ResourceUse


class OpenRoutes:
    """Retrieves from one corpus at a time, as `retrieve.corpora` does for a route to it alone.

    Use as a context manager: it closes what it opened.

    Attributes:
        labels: of the corpora that have passages, in their order.
        empty: labels of corpora that have none.
        fingerprint: of the corpora and of how they are searched.
    """

    def __init__(
        self,
        path: Path,
        *,
        lm: ResourceUse | None = None,
        top_k: int = 5,
        tokens: int | None = 1024,
        download: bool = False,
        kv_ram: int = RAM_BYTES,
        kv_disk: int = DISK_BYTES,
    ) -> None:
        """Open corpora, or one index, which is then the corpus `paragraph`.

        Args:
            path: a corpora folder or an index folder.
            lm: a language model to open, whose tokenizer counts `tokens` then.
            top_k: passages to read of a corpus, at least 1.
            tokens: the most to read of a corpus, titles included; None sets no bound.
            download: let an encoder be fetched from the hub.
            kv_ram: bytes of RAM for KV.
            kv_disk: bytes of disk for KV.

        Raises:
            DovetailError: if the folder or the model cannot be opened.
            ValueError: for a number out of range.
        """
        with ExitStack() as opening:
            open_ = open_corpora if holds_corpora(path) else OpenIndex
            index = open_(path, download=download, kv_ram=kv_ram, kv_disk=kv_disk)
            opening.callback(index.close)
            self._corpora = OpenCorpora.of(index)
            self._lm = None if lm is None else _opened(lm, opening)
            self._search = retrieve(self._corpora, self._lm, top_k=top_k, tokens=tokens)
            self._closing = opening.pop_all()
        self.labels = tuple(self._corpora.corpora)
        self.empty = self._corpora.empty
        self.fingerprint = repr((self._corpora.fingerprint, top_k, tokens))

    def __call__(self, queries: Sequence[Query], label: str) -> list[list[Passage]]:
        """Return the passages of one corpus for each question, as `Retrieve` wants them.

        Raises:
            ValueError: for a label without passages.
        """
        route = Route((label,), {label: 1.0}, source="fixed")
        return self._search.batch(query=queries, route=[route] * len(queries))

    @property
    def notes(self) -> list[str]:
        """What a person should know about how the corpora were opened."""
        return list(self._corpora.notes)

    @property
    def documents(self) -> frozenset[str]:
        """Ids of all documents with a passage; this reads every passage."""
        return frozenset(one.document for one in self._corpora.passages.values())

    def answers(self) -> AnswerF1:
        """Return what judges routes by the answers of the model.

        Raises:
            ValueError: if no model was opened.
        """
        if self._lm is None:
            raise ValueError("lm must be a language model to judge by answers, got none")
        return AnswerF1.of(lm=self._lm, index=self._corpora)

    def close(self) -> None:
        """Close what was opened; twice is harmless."""
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _opened(use: ResourceUse, opening: ExitStack) -> Any:
    assert isinstance(use.use, str)
    made = load(catalogue().resources[use.use].target)(**use.options)
    if hasattr(made, "close"):
        opening.callback(made.close)
    return made
