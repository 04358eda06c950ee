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
from retrievers.graph.words import Words, words
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
    digests = np.array([_digest(passage, language) for passage in ordered], np.uint8)
    digests = digests.reshape(len(ordered), 16)
    same = _same_texts(ids, digests, before)
    facts = _Reading(ordered, digests, same, language, before, progress).facts()
    names = Names(facts.bearers)
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
        "knn": _nearest(vectors, settings, same, before),
    }
    edges = {kind: _matrix(one, len(ordered)) for kind, one in lists.items()}
    return CorpusGraph(settings, ids, edges, facts, language, unplaced)


def _same_texts(ids: SortedStrings, digests: np.ndarray, before: CorpusGraph | None) -> np.ndarray:
    """Return the row that each text has in the older graph, int64 (n,), -1 where it has none."""
    if before is None or not len(before):
        return np.full(len(ids), -1)
    found = before.ids.rows(ids.all())
    equal = (before.facts.digests[found] == digests).all(axis=1)
    return np.where((found >= 0) & equal, found, -1)


class _Reading:
    """Reads names, mentions and phrases in texts, or takes them from an older graph."""

    def __init__(
        self,
        passages: Sequence[Passage],
        digests: np.ndarray,
        same: np.ndarray,
        language: str,
        before: CorpusGraph | None,
        progress: Callable[[int], None] | None,
    ) -> None:
        self._passages = passages
        self._digests = digests
        self._same = same
        self._stop_words = Analyser(language).stop_words
        self._progress = progress or (lambda _: None)
        self._old: Facts | None = None if before is None else before.facts

    def facts(self) -> Facts:
        """Return what the texts say."""
        named = [self._names(row) for row in range(len(self._passages))]
        table = Names({name: () for one in named for name in one})
        names = SortedStrings.of(sorted({name for one in named for name in one}))
        before = set() if self._old is None else set(self._old.names.all())
        new = rarest_words(sorted(set(names.all()) - before))
        mentions, phrased = [], []
        for row in range(len(self._passages)):
            mentioned, found = self._read(row, table, new)
            mentions.append(mentioned)
            phrased.append(found)
            self._progress(row + 1)
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

    def _read(self, row: int, table: Names, new: frozenset[str]) -> tuple[list[str], list[Phrase]]:
        """Return the names that a passage mentions, in order, and its phrases.

        What an older graph holds is still true of the mentions unless the passage mentions a name
        that is gone, or its text holds the rarest word of one that is new.

        Args:
            row: of the passage.
            table: every name.
            new: the rarest word of each name that the older graph does not hold.
        """
        old, same = self._old, self._same[row]
        if old is None or same < 0:
            said = words(self._passages[row].text)
            return table.mentioned(said), self._phrases(row, said)
        mentioned = old.names.take(old.mentions[same])
        gone = not all(name in table for name in mentioned)
        if gone or new:
            said = words(self._passages[row].text)
            if gone or not new.isdisjoint(said.keys):
                mentioned = table.mentioned(said)
        keys = old.phrases.take(old.phrased[same])
        start = old.phrased.starts[same]
        initial = old.initial[start : start + len(keys)].tolist()
        return mentioned, [Phrase(*pair) for pair in zip(keys, initial, strict=True)]

    def _phrases(self, row: int, said: Words) -> list[Phrase]:
        """Return the phrases of a passage, its own titles included, one a key, ascending."""
        passage = self._passages[row]
        found = phrases(passage.text, said, self._stop_words)
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
    vectors: np.ndarray, settings: GraphSettings, same: np.ndarray, before: CorpusGraph | None
) -> EdgeList:
    """Return the nearest neighbours, from the older graph where they cannot have changed.

    Args:
        vectors: of the passages, (n, dim).
        settings: how many, and how near.
        same: the row that each text has in the older graph, -1 where it has none.
        before: the older graph.
    """
    k, floor = settings.neighbours, settings.floor
    if not k or not len(vectors):
        return EdgeList.of(())
    if before is None or (before.settings.neighbours, before.settings.floor) != (k, floor):
        return nearest_edges(vectors, k, floor)
    kept, fresh = np.flatnonzero(same >= 0), np.flatnonzero(same < 0)
    now = np.full(len(before), -1)
    now[same[kept]] = kept
    old = before.edges["knn"].tocoo()
    sources, targets = now[old.row], now[old.col]
    lost = np.unique(sources[(sources >= 0) & (targets < 0)])  # a neighbour of theirs is gone
    stays = (sources >= 0) & ~np.isin(sources, lost)
    known = EdgeList(sources[stays], targets[stays], old.data[stays].astype(np.float64))
    parts = [known, nearest_edges(vectors, k, floor, np.union1d(fresh, lost))]
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
