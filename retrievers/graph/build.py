"""Making a corpus graph: from passages and vectors, and from an older graph where there is one."""

import hashlib
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp

from rag.records import Passage
from rag.text.analyser import Analyser
from retrievers.graph.corpus_graph import CorpusGraph, Facts
from retrievers.graph.edges.edge_list import EdgeList
from retrievers.graph.edges.knn import kept_nearest, nearest_edges
from retrievers.graph.edges.mention import mention_edges
from retrievers.graph.edges.parent import parent_edges
from retrievers.graph.edges.reference import reference_edges
from retrievers.graph.edges.seq import sequence_edges
from retrievers.graph.edges.shared import metadata_holders, shared_edges
from retrievers.graph.edges.triple import Triple, triple_edges
from retrievers.graph.lists import Lists
from retrievers.graph.names import ALIASES, Names, names_of, rarest_words, title_names
from retrievers.graph.phrases import Phrase, phrases
from retrievers.graph.settings import RULES, GraphSettings
from retrievers.graph.words import words
from retrievers.ranking import rows_by_id
from retrievers.sorted_strings import SortedStrings


def build_graph(
    passages: Sequence[Passage],
    vectors: np.ndarray,
    settings: GraphSettings | None = None,
    *,
    triples: Sequence[Triple] = (),
    language: str = "en",
    before: CorpusGraph | None = None,
    progress: Callable[[int], None] | None = None,
) -> CorpusGraph:
    """Return the graph of passages.

    With an older graph, texts that it holds are not read again, and nearest neighbours are looked
    for only where passages came or went. The result is the one that a build without it makes, edge
    by edge and bit by bit, whatever was added, deleted or replaced.

    Args:
        passages: unique by id, in any order.
        vectors: of the passages, in their order, (n, dim). A passage with the title and text that
            it had in the older graph must have the vector that it had.
        settings: how to make it.
        triples: a user's own statements.
        language: of the texts; decides the stop words.
        before: an older graph, of any passages.
        progress: gets passages done so far; n in all.

    Raises:
        ValueError: if vectors and passages are not as many, or two have one id.
    """
    settings = settings or GraphSettings()
    if len(vectors) != len(passages):
        raise ValueError(f"vectors must be one a passage, {len(passages)}, got {len(vectors)}")
    order = rows_by_id([passage.id for passage in passages])
    ordered = [passages[row] for row in order]
    vectors = np.asarray(vectors)[order]
    ids = SortedStrings.of(passage.id for passage in ordered)
    facts = _Reading(ordered, ids, language, before, progress).facts()
    names = CorpusGraph(settings, ids, {}, facts, language).names
    rows = {passage.id: row for row, passage in enumerate(ordered)}
    mentions = [facts.names.take(facts.mentions[row]) for row in range(len(ordered))]
    most = settings.phrase_passages
    stated, unplaced = triple_edges(triples, ordered, names)
    lists = {
        "mention": mention_edges(mentions, names, settings.name_passages),
        "phrase": shared_edges(_phrase_holders(facts), len(ordered), most),
        "reference": reference_edges(ordered),
        "triple": stated,
        "metadata": shared_edges(metadata_holders(ordered, settings.fields), len(ordered), most),
        "seq": sequence_edges(ordered, rows),
        "parent": parent_edges(ordered),
        "knn": _nearest(vectors, settings, ids, facts, before),
    }
    edges = {kind: _matrix(one, len(ordered)) for kind, one in lists.items()}
    return CorpusGraph(settings, ids, edges, facts, language, unplaced)


class _Reading:
    """Reads names, mentions and phrases in texts, or takes them from an older graph."""

    def __init__(
        self,
        passages: Sequence[Passage],
        ids: SortedStrings,
        language: str,
        before: CorpusGraph | None,
        progress: Callable[[int], None] | None,
    ) -> None:
        self._passages = passages
        self._stop_words = Analyser(language).stop_words
        self._progress = progress or (lambda _: None)
        self._digests = np.array(
            [_digest(passage, language) for passage in passages], np.uint8
        ).reshape(len(passages), 16)
        self._old: Facts | None = None if before is None else before.facts
        self._same = np.full(len(passages), -1)  # row of the same text in the older graph
        if before is not None and len(before):
            found = before.ids.rows(ids.all())
            known = found >= 0
            equal = (before.facts.digests[found] == self._digests).all(axis=1)
            self._same = np.where(known & equal, found, -1)

    def facts(self) -> Facts:
        """Return what the texts say."""
        named = [self._names(row) for row in range(len(self._passages))]
        names = SortedStrings.of(sorted({name for one in named for name in one}))
        mentions = self._mentions(names, named)
        phrased = [self._phrases(row) for row in range(len(self._passages))]
        keys = SortedStrings.of(sorted({phrase.key for one in phrased for phrase in one}))
        return Facts(
            self._digests,
            names,
            Lists.of([names.rows(one).tolist() for one in named]),
            Lists.of([names.rows(one).tolist() for one in mentions]),
            keys,
            Lists.of([keys.rows([phrase.key for phrase in one]).tolist() for one in phrased]),
            np.array([phrase.initial for one in phrased for phrase in one], bool),
        )

    def _names(self, row: int) -> list[str]:
        if self._old is not None and self._same[row] >= 0:
            return self._old.names.take(self._old.named[self._same[row]])
        return names_of(self._passages[row], self._stop_words)

    def _mentions(self, names: SortedStrings, named: Sequence[Sequence[str]]) -> list[list[str]]:
        """Return the names that each passage mentions, in order of their first mention.

        What an older graph holds is still true unless the passage mentions a name that is gone, or
        its text holds the rarest word of one that is new.
        """
        table = Names({name: () for one in named for name in one})
        old = self._old
        before = set() if old is None else set(old.names.all())
        new = rarest_words(sorted(set(names.all()) - before))
        found = []
        for row, passage in enumerate(self._passages):
            mentioned = None
            if old is not None and self._same[row] >= 0:
                mentioned = old.names.take(old.mentions[self._same[row]])
                if not all(name in table for name in mentioned) or (
                    new and not new.isdisjoint(words(passage.text).keys)
                ):
                    mentioned = None
            found.append(table.mentioned(passage.text) if mentioned is None else mentioned)
            self._progress(row + 1)
        return found

    def _phrases(self, row: int) -> list[Phrase]:
        """Return the phrases of a passage, its own titles included, one a key, ascending."""
        old, same = self._old, self._same[row]
        if old is not None and same >= 0:
            keys = old.phrases.take(old.phrased[same])
            start = old.phrased.starts[same]
            initial = old.initial[start : start + len(keys)].tolist()
            return [Phrase(*pair) for pair in zip(keys, initial, strict=True)]
        passage = self._passages[row]
        found = phrases(passage.text, words(passage.text), self._stop_words)
        titles = title_names(passage.title, self._stop_words)
        found += [Phrase(name, initial=False) for name in titles]
        firm = {phrase.key for phrase in found if not phrase.initial}
        return [Phrase(key, key not in firm) for key in sorted({one.key for one in found})]


def _digest(passage: Passage, language: str) -> bytearray:
    read = (RULES, language, passage.title, passage.text, passage.metadata.get(ALIASES))
    return bytearray(hashlib.sha256(repr(read).encode("utf-8", "surrogatepass")).digest()[:16])


def _phrase_holders(facts: Facts) -> dict[Hashable, list[int]]:
    """Return the rows that hold each phrase; one that only ever begins sentences is left out."""
    firm = np.zeros(len(facts.phrases), bool)
    firm[facts.phrased.values[~facts.initial]] = True
    holders: dict[Hashable, list[int]] = {}
    for row in range(len(facts.phrased)):
        for phrase in facts.phrased[row].tolist():
            if firm[phrase]:
                holders.setdefault(phrase, []).append(row)
    return holders


def _nearest(
    vectors: np.ndarray,
    settings: GraphSettings,
    ids: SortedStrings,
    facts: Facts,
    before: CorpusGraph | None,
) -> EdgeList:
    """Return the nearest neighbours, from the older graph where they cannot have changed."""
    k, floor = settings.neighbours, settings.floor
    if not k or not len(vectors):
        return EdgeList.of(())
    if (
        before is None
        or not len(before)
        or (before.settings.neighbours, before.settings.floor)
        != (
            k,
            floor,
        )
    ):
        return nearest_edges(vectors, k, floor)
    strings = ids.all()
    old_rows = before.ids.rows(strings)
    kept = np.flatnonzero(old_rows >= 0)
    kept = kept[(before.facts.digests[old_rows[kept]] == facts.digests[kept]).all(axis=1)]
    now = np.full(len(before), -1)
    now[old_rows[kept]] = kept
    old = before.edges["knn"].tocoo()
    sources, targets = now[old.row], now[old.col]
    lost = np.unique(sources[(sources >= 0) & (targets < 0)])  # a neighbour of theirs is gone
    whole = np.setdiff1d(np.arange(len(vectors)), np.setdiff1d(kept, lost))
    stays = (sources >= 0) & ~np.isin(sources, lost)
    known = EdgeList(sources[stays], targets[stays], old.data[stays].astype(np.float64))
    fresh = np.setdiff1d(np.arange(len(vectors)), kept)
    parts = [known, nearest_edges(vectors, k, floor, whole)]
    if len(fresh):
        parts.append(nearest_edges(vectors, k, floor, np.setdiff1d(kept, lost), fresh))
    return kept_nearest(EdgeList.joined(parts), k)


def _matrix(edges: EdgeList, nodes: int) -> Any:
    """Return edges as CSR, float32 (nodes, nodes), columns ascending, the larger of two equal."""
    order = np.lexsort((-edges.weights, edges.targets, edges.sources))
    sources, targets = edges.sources[order], edges.targets[order]
    first = np.ones(len(order), bool)
    first[1:] = (np.diff(sources) != 0) | (np.diff(targets) != 0)
    index = np.int32 if len(edges) < 2**31 else np.int64  # else scipy widens the targets too
    starts = np.zeros(nodes + 1, index)
    np.cumsum(np.bincount(sources[first], minlength=nodes), out=starts[1:])
    return sp.csr_array(
        (edges.weights[order][first].astype(np.float32), targets[first].astype(np.int32), starts),
        shape=(nodes, nodes),
    )
