"""Validation of routers: nobody is asked what it learned, and every query is asked once."""

from collections import Counter
from dataclasses import dataclass

import pytest

from rag.evaluation.router_validation import (
    routed_by_folds,
    routed_by_source,
    routed_queries,
    shared_sources,
)
from rag.records import Route


@dataclass
class Labelled:
    id: str
    text: str
    labels: tuple[str, ...]
    source: str = ""


@dataclass
class Remembers:
    """Knows the texts that it learned from; sends the others to the label that it saw most."""

    learned: list

    def batch(self, queries):
        most = Counter(one.labels[0] for one in self.learned).most_common(1)[0][0]
        known = {one.text for one in self.learned}
        return [Route(("seen",) if q.text in known else (most,), {most: 1.0}) for q in queries]


QUERIES = [
    *(Labelled(f"s{n}", f"squad {n}", ("paragraph",), "squad") for n in range(6)),
    *(Labelled(f"n{n}", f"nq {n}", ("paragraph",), "nq") for n in range(5)),
    *(Labelled(f"o{n}", f"table {n}", ("table",), "ottqa") for n in range(4)),
]


def test_a_router_gets_each_query_and_answers_in_order():
    routed = routed_queries(QUERIES, Remembers(QUERIES[:6]))
    assert [one.id for one in routed] == [one.id for one in QUERIES]
    assert [one.top for one in routed] == ["seen"] * 6 + ["paragraph"] * 9
    assert routed[-1].truth == ("table",)
    assert routed[-1].source == "ottqa"


@pytest.mark.parametrize("folds", [2, 5, 15])
def test_folds_ask_every_query_once_and_none_that_was_learned(folds):
    sizes = []

    def train(some):
        sizes.append(len(some))
        return Remembers(list(some))

    routed = routed_by_folds(QUERIES, train, folds=folds, seed=1)
    assert [one.id for one in routed] == [one.id for one in QUERIES]
    assert "seen" not in {one.top for one in routed}
    assert len(sizes) == folds
    assert sum(len(QUERIES) - size for size in sizes) == len(QUERIES)


def test_equal_texts_are_never_on_both_sides():
    doubled = [*QUERIES, *(Labelled(f"again {q.id}", q.text, q.labels, q.source) for q in QUERIES)]
    routed = routed_by_folds(doubled, lambda some: Remembers(list(some)), folds=5)
    assert len(routed) == 2 * len(QUERIES)
    assert "seen" not in {one.top for one in routed}


def test_folds_follow_the_seed_alone():
    def kept(seed, queries):
        seen = []
        routed_by_folds(
            queries, lambda some: (seen.append({q.id for q in some}), Remembers(some))[1], seed=seed
        )
        return sorted(map(sorted, seen))

    assert kept(0, QUERIES) == kept(0, QUERIES[::-1])
    assert kept(0, QUERIES) != kept(1, QUERIES)


def test_only_sources_whose_labels_are_known_elsewhere_are_left_out():
    assert shared_sources(QUERIES) == ["nq", "squad"]
    both = [*QUERIES, Labelled("x", "x", ("table", "image"), "nq")]
    assert shared_sources(both) == ["ottqa", "squad"]
    assert shared_sources([Labelled("x", "x", ("table",))]) == []


def test_a_source_left_out_is_routed_by_the_others():
    learned = []

    def train(some):
        learned.append({one.source for one in some})
        return Remembers(list(some))

    routed = routed_by_source(QUERIES, train)
    assert learned == [{"squad", "ottqa"}, {"nq", "ottqa"}]
    assert [one.id for one in routed] == [one.id for one in QUERIES[:11]]
    assert {one.top for one in routed} == {"paragraph"}


def test_other_sources_can_be_left_out_too():
    routed = routed_by_source(QUERIES, Remembers, sources=["ottqa"])
    assert [(one.truth, one.top) for one in routed] == [(("table",), "paragraph")] * 4


def test_nothing_to_leave_out_is_no_error():
    assert routed_by_source(QUERIES[:6], Remembers) == []


def test_more_folds_than_texts_is_an_error():
    with pytest.raises(ValueError, match=r"folds must be in \[2, 2\].*got 5"):
        routed_by_folds(QUERIES[:2], Remembers)


def test_progress_counts_parts():
    told = []

    class Watcher:
        def stage(self, name, total):
            told.append((name, total))

        def advance(self, steps=1):
            told.append(steps)

    routed_by_folds(QUERIES, Remembers, folds=3, watcher=Watcher())
    assert told == [("3 folds", 3), 1, 1, 1]
