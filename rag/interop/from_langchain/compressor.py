"""LangChain document compressors as our pruners and rerankers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rag.interop.from_langchain.naming import needs
from rag.interop.langchain_documents import as_document, as_passage, ranked, rewritten
from rag.records import Passage, Query, Selection, SentenceScore, Span, text_sha

if TYPE_CHECKING:
    from langchain_core.documents import Document


@dataclass(frozen=True)
class LangChainCompressor:
    """Operator that asks a LangChain compressor which passages, or what of them, a query needs.

    A returned document belongs to the passage whose id it has, or whose metadata. If its text is
    made of whole sentences of that passage, in order, or of the words that an operator before chose
    among, the passage stays and gets a selection; several such documents of one passage join into
    one. Any other text is a passage of its own: its id is the old one, `~` and a hash of the text,
    its span counts in itself, as where it stands in the document is not known; `parent` is the
    passage it came from. A passage without document, or whose text is gone, is dropped. A document
    that belongs to none is a passage of its own too.

    Scores stay, but a `relevance_score` in the metadata that is new replaces one. If they then
    rise down the list because the compressor reordered, they become 1 / rank.

    Attributes:
        compressor: has `compress_documents(documents, query)`.
    """

    compressor: Any

    def __post_init__(self) -> None:
        needs(self.compressor, "compressor", "compress_documents")

    def __call__(self, query: Query, passages: Sequence[Passage]) -> list[Passage]:
        """Return what the compressor left, in its order. An empty input asks nothing."""
        if not passages:
            return []
        documents = [as_document(passage) for passage in passages]
        return self._passages(passages, self.compressor.compress_documents(documents, query.text))

    async def acall(self, query: Query, passages: Sequence[Passage]) -> list[Passage]:
        """Do the same with the compressor's `acompress_documents`, or in a thread."""
        if not hasattr(self.compressor, "acompress_documents"):
            return await asyncio.to_thread(self, query, passages)
        if not passages:
            return []
        documents = [as_document(passage) for passage in passages]
        found = await self.compressor.acompress_documents(documents, query.text)
        return self._passages(passages, found)

    def _passages(
        self, passages: Sequence[Passage], documents: Iterable[Document]
    ) -> list[Passage]:
        sources = {passage.id: passage for passage in passages}
        found: dict[str, Passage] = {}
        for document in documents:
            if not document.page_content.strip():
                continue
            read = as_passage(document)
            source = sources.get(read.id)
            if source is None:
                found.setdefault(read.id, read)
                continue
            rows = _rows(source, document.page_content)
            if rows is None:
                own_id = f"{source.id}~{text_sha(document.page_content)[:8]}"
                new = rewritten(source, document.page_content, own_id=own_id)
                found[own_id] = _scored(replace(new, parent=source.id), document)
            else:
                found[source.id] = _scored(self._kept(found, source, rows), document)
        return _in_order(passages, list(found.values()))

    def _kept(self, found: dict[str, Passage], source: Passage, rows: set[int]) -> Passage:
        """Return the passage with these sentences kept, and those it was found with before."""
        if source.id in found:
            rows = rows | _kept_rows(found[source.id])
        if rows == _kept_rows(source):
            return source
        sentences = tuple(
            SentenceScore(span, float(row in rows), kept=row in rows)
            for row, span in enumerate(_units(source))
        )
        method = type(self.compressor).__name__
        kept = Selection(source.id, text_sha(source.text), sentences, method)
        if source.kept is not None:
            kept = replace(kept, unit=source.kept.unit)
        return replace(source, kept=kept)


def from_compressor(compressor: Any) -> LangChainCompressor:
    """Return a LangChain document compressor as an operator from passages to passages.

    Args:
        compressor: anything with `compress_documents(documents, query)`.

    Raises:
        ValueError: if it has none.
    """
    return LangChainCompressor(compressor)


def _rows(passage: Passage, text: str) -> set[int] | None:
    """Return the kept sentences, or words, that a text is made of, or None if it is not.

    White space between sentences is free. Where two readings fit, earlier sentences win.
    """
    # Place in `text` that is explained so far -> the rows that explain it.
    readings: dict[int, tuple[int, ...]] = {_skip(text, 0): ()}
    units = _units(passage)
    for row in sorted(_kept_rows(passage)):
        sentence = units[row].of(passage.text).strip()
        for place, rows in list(readings.items()):
            if sentence and text.startswith(sentence, place):
                readings.setdefault(_skip(text, place + len(sentence)), (*rows, row))
    return set(readings.get(len(text), ())) or None


def _units(passage: Passage) -> Sequence[Span]:
    """Return the passage's sentences, or words if it was pruned by words."""
    if passage.kept is None:
        return passage.sentences
    return [unit.span for unit in passage.kept.sentences]


def _kept_rows(passage: Passage) -> set[int]:
    """Return the rows of the kept units."""
    return set(passage.kept_rows if passage.kept is None else passage.kept.kept_rows)


def _skip(text: str, place: int) -> int:
    """Return where the next visible character stands, or the end."""
    return len(text) - len(text[place:].lstrip())


def _scored(passage: Passage, document: Document) -> Passage:
    score = document.metadata.get("relevance_score")
    known = passage.metadata.get("relevance_score")
    if isinstance(score, bool) or not isinstance(score, (int, float)) or score == known:
        return passage
    return replace(passage, score=float(score))


def _in_order(before: Sequence[Passage], after: list[Passage]) -> list[Passage]:
    """Return passages with scores that fit their order; unscored ones in the old order stay so."""
    if all(passage.score is None for passage in after):
        places = {passage.id: place for place, passage in enumerate(before)}
        found = [places.get(p.id, places.get(p.parent or "", -1)) for p in after]
        if found == sorted(found):
            return after
    return ranked(after)
