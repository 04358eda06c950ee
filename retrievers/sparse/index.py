"""Sparse index: passages ranked by weighted terms; takes and loses passages at any time."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import numpy as np

from rag.errors import IndexFolderError
from rag.records import Hit, Query
from retrievers.sparse.index_folder import MANIFEST, read_snapshot, write_snapshot
from retrievers.sparse.postings import Postings, Snapshot
from retrievers.sparse.scoring import Scorer
from retrievers.sparse.segment import Batch
from retrievers.sparse.weighting import (
    BM25,
    Weighting,
    weighting_from_json,
    weighting_to_json,
)


class TermAnalyser(Protocol):
    """Texts to terms; `rag.text.analyser.Analyser` is one. Pure."""

    @property
    def fingerprint(self) -> str:
        """Hash of its settings: an index made with others is refused."""

    def terms(self, text: str) -> list[str]:
        """Return the terms of a passage, repetitions included."""

    def query_terms(self, text: str) -> list[str]:
        """Return the terms that a question is searched by, repetitions included."""


@dataclass(frozen=True, slots=True)
class SparseStatistics:
    """What an index holds. All but the last three are those of a fresh index of its passages.

    Attributes:
        passages: passages that can be found.
        total_length: sum of their lengths: terms counted, or impacts.
        vocabulary: different terms that some passage holds.
        segments: parts that a search goes through.
        deleted: deleted passages that still take up room.
        bytes: of all arrays, in memory or mapped.
    """

    passages: int
    total_length: int
    vocabulary: int
    segments: int
    deleted: int
    bytes: int


class SparseIndex:
    """Ranks passages by the terms they share with a query. Satisfies `rag.protocols.SparseSearch`.

    A score is the sum over the query's terms of (query weight) * (idf) * (weight in the passage),
    in float64; what idf and weight are, its weighting says. They are worked out when a query is
    asked, from exact counts, so any sequence of additions and deletions gives the scores of a fresh
    index, to the last bit. An index holds counts, or impacts, never both.

    `add*`, `delete` and `merge` change it; all methods may be called from several threads, and each
    search sees the passages of one moment. Additions are cheap, and searchable by the next search;
    segments merge by themselves when there are more than 8, or when more than 20 % of one is
    deleted.
    """

    def __init__(
        self, weighting: Weighting | None = None, *, analyser: TermAnalyser | None = None
    ) -> None:
        """Make an empty index.

        Args:
            weighting: `BM25()` if None; `Impact()` for impacts.
            analyser: makes terms of texts; `Analyser()` if None.
        """
        self.weighting: Weighting = BM25() if weighting is None else weighting
        self.analyser: TermAnalyser = _default_analyser() if analyser is None else analyser
        self._postings = Postings()
        self._scorer = Scorer(Snapshot(), self.weighting)

    def __len__(self) -> int:
        return self._postings.snapshot().passages

    def __contains__(self, id_: object) -> bool:
        parts = self._postings.snapshot().parts
        return isinstance(id_, str) and any(part.row(id_) >= 0 for part in parts)

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of all passages, ascending."""
        return self._postings.snapshot().ids

    @property
    def statistics(self) -> SparseStatistics:
        """What the index holds now."""
        snapshot = self._postings.snapshot()
        return SparseStatistics(
            passages=snapshot.passages,
            total_length=snapshot.total_length,
            vocabulary=len(snapshot.frequencies),
            segments=len(snapshot.parts),
            deleted=sum(len(part.dead) for part in snapshot.parts),
            bytes=sum(part.segment.nbytes for part in snapshot.parts),
        )

    def add(self, ids: Sequence[str], texts: Sequence[str]) -> None:
        """Analyse passages and add them; those whose id is known are replaced.

        Raises:
            ValueError: if the lengths differ, an id occurs twice, or the index holds impacts.
        """
        _check_batch(ids, texts, "texts")
        batch = Batch(impacts=False)
        for id_, text in zip(ids, texts, strict=True):
            batch.add_terms(id_, self.analyser.terms(text))
        self._postings.add(batch)

    def add_terms(self, ids: Sequence[str], texts_terms: Sequence[Sequence[str]]) -> None:
        """Add passages as lists of terms; those whose id is known are replaced.

        Raises:
            ValueError: if the lengths differ, an id occurs twice, or the index holds impacts.
        """
        _check_batch(ids, texts_terms, "texts_terms")
        batch = Batch(impacts=False)
        for id_, terms in zip(ids, texts_terms, strict=True):
            batch.add_terms(id_, terms)
        self._postings.add(batch)

    def add_vectors(self, ids: Sequence[str], vectors: Sequence[Mapping[str, float]]) -> None:
        """Add passages as terms with impacts; those whose id is known are replaced.

        Args:
            ids: unique.
            vectors: impacts above 0, kept in float32.

        Raises:
            ValueError: if the lengths differ, an id occurs twice, an impact is not above 0 and
                finite, the index holds counts, or its weighting needs them.
        """
        _check_batch(ids, vectors, "vectors")
        if self.weighting.over == "counts":
            raise ValueError(f"impacts need weighting=Impact(), got weighting={self.weighting!r}")
        batch = Batch(impacts=True)
        for id_, vector in zip(ids, vectors, strict=True):
            batch.add_vector(id_, vector)
        self._postings.add(batch)

    def delete(self, ids: Iterable[str]) -> int:
        """Delete passages and return how many there were; unknown ids are ignored."""
        return self._postings.delete(ids)

    def merge(self) -> None:
        """Make one segment without deleted passages: searches get faster, scores stay."""
        self._postings.merge()

    def search(
        self, query: Query, top_k: int, *, within: frozenset[str] | None = None
    ) -> list[Hit]:
        """Return at most `top_k` hits, best first, ties by id.

        Passages that score exactly 0 are left out; a query without known terms finds nothing. A
        term that the query repeats counts again.

        Args:
            query: what to look for.
            top_k: at least 1; may exceed the index.
            within: the only ids that may be returned; None means all.

        Raises:
            ValueError: if top_k is below 1.
        """
        return self.search_terms(self.query_weights(query), top_k, within=within)

    def search_terms(
        self, weights: Mapping[str, float], top_k: int, *, within: frozenset[str] | None = None
    ) -> list[Hit]:
        """Return what `search` does for a query of weighted terms.

        Args:
            weights: weight of each term, finite; below 0 counts against a passage.
            top_k: at least 1; may exceed the index.
            within: the only ids that may be returned; None means all.

        Raises:
            ValueError: if top_k is below 1 or a weight is not finite.
        """
        if top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {top_k}")
        _check_weights(weights)
        return self._current().search(weights, top_k, within)

    def search_batch(
        self, queries: Sequence[Query], top_k: int, *, within: frozenset[str] | None = None
    ) -> list[list[Hit]]:
        """Return what `search` does for each query, all over the passages of one moment.

        Raises:
            ValueError: if top_k is below 1.
        """
        if top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {top_k}")
        scorer = self._current()
        return [scorer.search(self.query_weights(query), top_k, within) for query in queries]

    def scores_of(
        self,
        query: Query,
        ids: Sequence[str],
        *,
        within: frozenset[str] | None = None,  # noqa: ARG002 (no passage has a say in the query)
    ) -> np.ndarray:
        """Return the scores of given passages, float64 (n,), in their order.

        Raises:
            KeyError: for an unknown id.
        """
        return self.scores_of_terms(self.query_weights(query), ids)

    def scores_of_terms(self, weights: Mapping[str, float], ids: Sequence[str]) -> np.ndarray:
        """Return the scores of given passages for weighted terms, float64 (n,), in their order.

        Raises:
            KeyError: for an unknown id.
            ValueError: if a weight is not finite.
        """
        _check_weights(weights)
        return self._current().scores_of(weights, ids)

    def query_weights(self, query: Query) -> dict[str, float]:
        """Return the terms that a query is searched by, with how often it has each."""
        return {
            term: float(n) for term, n in Counter(self.analyser.query_terms(query.text)).items()
        }

    def term_counts(self, id_: str) -> dict[str, float]:
        """Return the terms of a passage with their counts or impacts.

        Raises:
            KeyError: for an unknown id.
        """
        part, row = self._postings.snapshot().place(id_)
        return part.segment.entries(row)

    def df(self, term: str) -> int:
        """Return how many passages hold a term."""
        return self._current().df(term)

    def idf(self, term: str) -> float:
        """Return a term's weight in the corpus; 0 for a term that no passage holds."""
        return self._current().idf(term)

    def with_weighting(self, weighting: Weighting) -> "SparseIndex":
        """Return a view that weighs the same passages otherwise: what one adds, both find.

        Raises:
            ValueError: if the index holds impacts and the weighting needs counts.
        """
        view = SparseIndex(weighting, analyser=self.analyser)
        view._postings = self._postings
        view._current()
        return view

    def save(self, folder: Path) -> None:
        """Make a folder hold this index; files of other names in it are let alone.

        Only what the folder lacks is written, and what another folder holds is linked, so saving
        again and snapshots are cheap. Killed at any moment, it leaves the old index or the new.
        One process may write into a folder at a time: hold a `rag.files.FolderLock`. Others may
        open and search it meanwhile, and keep what they opened.

        Raises:
            ValueError: for a weighting that is neither BM25 nor Impact: it could not be opened.
        """
        about = {
            "analyser": self.analyser.fingerprint,
            "weighting": weighting_to_json(self.weighting),
        }
        write_snapshot(folder, self._postings.snapshot(), about)

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        analyser: TermAnalyser | None = None,
        weighting: Weighting | None = None,
    ) -> Self:
        """Open a saved index; postings are mapped, not read. Changes stay in memory until saved.

        Args:
            folder: what `save` wrote.
            analyser: as for a new index; for counts it must be the one that they were made with.
            weighting: the saved one if None.

        Raises:
            IndexFolderError: if there is no index, a file is missing, damaged or of another format,
                or another analyser made the terms.
            ValueError: if the index holds impacts and the weighting needs counts.
        """
        snapshot, manifest = read_snapshot(folder)
        if weighting is None:
            try:
                weighting = weighting_from_json(manifest["weighting"])
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise IndexFolderError(f"{folder / MANIFEST} is damaged: {error!r}") from error
        index = cls(weighting, analyser=analyser)
        made, given = manifest.get("analyser"), index.analyser.fingerprint
        if made != given and not snapshot.holds_impacts:
            raise IndexFolderError(
                f"{folder} was indexed with analyser {made!r}, got {given!r}: "
                "open it with the same, or index again"
            )
        index._postings = Postings(snapshot)
        index._scorer = Scorer(snapshot, weighting)
        return index

    def _current(self) -> Scorer:
        """Return the scorer of the passages that there are now."""
        snapshot, scorer = self._postings.snapshot(), self._scorer
        if scorer.snapshot is not snapshot:
            scorer = self._scorer = Scorer(snapshot, self.weighting)
        return scorer


def _default_analyser() -> TermAnalyser:
    from rag.text.analyser import Analyser

    return Analyser()


def _check_batch(ids: Sequence[str], given: Sequence[object], name: str) -> None:
    if len(ids) != len(given):
        raise ValueError(f"ids and {name} must be as long, got {len(ids)} and {len(given)}")
    if len(set(ids)) < len(ids):
        twice = next(id_ for id_, times in Counter(ids).items() if times > 1)
        raise ValueError(f"ids must be unique, got {twice!r} twice")


def _check_weights(weights: Mapping[str, float]) -> None:
    for term, weight in weights.items():
        if not math.isfinite(weight):
            raise ValueError(f"weights must be finite, got {weight} for {term!r}")
