"""Contexts: which passages are read for a question, as retrieval would bring them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rag.evaluation.answers import contains_answer
from rag.evaluation.data import read_corpus
from rag.records import Passage, Query

if TYPE_CHECKING:
    from pipelines.adapting.left_out import LeftOut
    from pipelines.adapting.questions import AskedQuestion
    from rag.protocols import Encoder
    from rag.training.watching import Watcher

_TOGETHER = 256  # questions that are searched in one go
_DEPTH = 1000  # hits of a leg, as the operator of hybrid search takes
_SPARE = 10  # times as many passages as are read are looked at, since some may not be read
_NO_EVIDENCE = frozenset({"yes", "no"})
"""Answers that stand in texts without being the answer."""


@dataclass(frozen=True, slots=True)
class ContextRule:
    """Which passages of a ranking are read.

    Attributes:
        count: how many, at least 1; fewer where there are no more.
        apart: passages that are not read.
        gold_always: whether gold passages are put in that are not among the first `count`; else
            such a question has no context.
        fill: whether the ranking fills up what the data shows; it always does where it shows none.
        answer_free: whether passages are passed over that hold an accepted answer and are not gold.
    """

    count: int
    apart: LeftOut
    gold_always: bool = True
    fill: bool = True
    answer_free: bool = False


def context_of(
    question: AskedQuestion, ranking: Sequence[Passage], rule: ContextRule
) -> tuple[Passage, ...]:
    """Return the passages that are read, best first; empty if the gold ones cannot all be.

    Those that the data shows come before those of the ranking; each group is best first, and no
    text is read twice. Gold passages that are not among the first take the places of the last ones.
    What is read then stands in the order of the ranking; passages that it lacks come last, in the
    order of the data.

    Args:
        question: with the passages that its data names.
        ranking: of the corpus, best first.
        rule: how many are read, and which may be.
    """
    rank = {passage.text: place for place, passage in reversed(list(enumerate(ranking)))}
    gold = {passage.text: passage for passage in question.must}

    def by_rank(passages: Iterable[Passage]) -> list[Passage]:
        return sorted(passages, key=lambda passage: rank.get(passage.text, len(rank)))

    def readable(passage: Passage) -> bool:
        if not passage.text.strip() or passage.document in question.barred:
            return False
        if rule.apart.holds(passage):
            return False
        return not (rule.answer_free and holds_answer(passage, question.answers))

    shown = by_rank((*question.must, *question.shown)) if question.shown else []
    from_ranking = ranking if rule.fill or not shown else ()
    natural: dict[str, Passage] = {}
    for passage in (*shown, *from_ranking):
        if len(natural) == rule.count:
            break
        if passage.text in gold or readable(passage):
            natural.setdefault(passage.text, passage)
    if len(gold) > rule.count or not (rule.gold_always or gold.keys() <= natural.keys()):
        return ()
    others = [passage for text, passage in natural.items() if text not in gold]
    chosen = by_rank([*gold.values(), *others[: rule.count - len(gold)]])
    score = {passage.text: passage.score for passage in reversed(ranking)}
    return tuple(replace(passage, score=score.get(passage.text)) for passage in chosen)


def holds_answer(passage: Passage, answers: Sequence[str]) -> bool:
    """Tell whether an accepted answer stands in a passage or its title; yes and no say nothing."""
    wanted = [answer for answer in answers if answer.strip().lower() not in _NO_EVIDENCE]
    return bool(wanted) and contains_answer(f"{passage.title} {passage.text}", wanted) > 0.0


def folder_contexts(
    folder: Path,
    questions: Sequence[AskedQuestion],
    rule: ContextRule,
    *,
    encoder: Encoder | None,
    watcher: Watcher,
) -> list[tuple[Passage, ...]]:
    """Return the passages that each question of a data folder reads.

    Args:
        folder: of evaluation data; its index is made in the user's cache if it is missing.
        questions: of the folder.
        rule: how many are read, and which may be.
        encoder: of hybrid search; without one BM25 searches.
        watcher: sees a stage `search`, and those of a new index.
    """
    from pipelines.catalogue.retrieval import hybrid
    from pipelines.evaluating.data_index import data_index
    from pipelines.open_index import OpenIndex

    if encoder is None:
        return pool_contexts(read_corpus(folder), questions, rule, watcher=watcher)
    index = OpenIndex(
        data_index(folder, encoder=encoder, sentences=False, progress=watcher), encoder=encoder
    )
    try:
        top_k = _looked_at(rule)
        search = hybrid(index, top_k=top_k, depth=max(_DEPTH, top_k))
        return _contexts(questions, rule, lambda part: search.batch(query=part), watcher)
    finally:
        index.close()


def pool_contexts(
    pool: Sequence[Passage],
    questions: Sequence[AskedQuestion],
    rule: ContextRule,
    *,
    watcher: Watcher,
) -> list[tuple[Passage, ...]]:
    """Return the passages that each question reads, from a pool that BM25 searches.

    Args:
        pool: with different ids.
        questions: any number.
        rule: how many are read, and which may be.
        watcher: sees a stage `search`.
    """
    from retrievers.single import Sparse
    from retrievers.sparse.index import SparseIndex

    index = SparseIndex()
    index.add([passage.id for passage in pool], [passage.searchable for passage in pool])
    by_id = {passage.id: passage for passage in pool}
    search = Sparse(index, by_id, top_k=_looked_at(rule))
    return _contexts(questions, rule, lambda part: search.batch(query=part), watcher)


def _looked_at(rule: ContextRule) -> int:
    return _SPARE * rule.count if rule.fill else _DEPTH


def _contexts(
    questions: Sequence[AskedQuestion],
    rule: ContextRule,
    search: Callable[[Sequence[Query]], list[list[Passage]]],
    watcher: Watcher,
) -> list[tuple[Passage, ...]]:
    watcher.stage("search", len(questions))
    found = []
    for start in range(0, len(questions), _TOGETHER):
        part = questions[start : start + _TOGETHER]
        rankings = search([Query(question.text) for question in part])
        found += [context_of(q, ranking, rule) for q, ranking in zip(part, rankings, strict=True)]
        watcher.advance(len(part))
    return found
