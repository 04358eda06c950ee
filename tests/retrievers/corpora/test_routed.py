"""Routed retrieval: which corpora are asked, in which order, within which budget."""

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.ranking import Ranking
from rag.records import Passage, Query, Route, Span
from retrievers.corpora.routed import RoutedRetriever

QUERY = Query("where?")


def words(text):
    return len(text.split())


def ids(passages):
    return [one.id for one in passages]


def route(*labels, **probs):
    return Route(labels, probs)


@pytest.fixture
def shelf(made):
    """A retriever over four corpora of three modalities, without a budget."""
    found = {
        "paragraph": made.ranking("p1", "p2", "p3", tail=("p4",)),
        "document": made.ranking("d1", "d2"),
        "table": made.ranking("t1", "t2", tail=("t3",)),
        "image": made.ranking(),
    }
    return RoutedRetriever(
        {label: made.Told(of) for label, of in found.items()}, words, tokens=None
    )


def test_one_corpus_returns_what_its_retriever_returns(shelf):
    found = shelf(QUERY, route("paragraph", paragraph=0.9, table=0.1))
    told = shelf.retrievers["paragraph"].found
    assert found == told
    assert found.tail == told.tail
    assert [one.score for one in found] == [one.score for one in told]


def test_none_asks_nobody(shelf):
    assert shelf(QUERY, route("none", none=1.0)) == []
    assert all(not of.asked for of in shelf.retrievers.values())


def test_modalities_follow_each_other_by_their_sum(shelf):
    found = shelf(QUERY, route("table", "paragraph", table=0.45, paragraph=0.35, document=0.2))
    assert ids(found) == ["p1", "p2", "p3", "t1", "t2"]
    found = shelf(QUERY, route("table", "paragraph", table=0.6, paragraph=0.4))
    assert ids(found) == ["t1", "t2", "p1", "p2", "p3"]
    assert [one.score for one in found] == [1 / rank for rank in range(1, 6)]
    assert {hit.id for hit in found.tail} == {"p4", "t3"}


def test_modalities_of_one_sum_keep_the_order_of_the_route(shelf):
    assert ids(shelf(QUERY, route("table", "paragraph")))[0] == "t1"
    assert ids(shelf(QUERY, route("paragraph", "table")))[0] == "p1"
    assert ids(shelf(QUERY, route("table", "paragraph", table=0.5, paragraph=0.5)))[0] == "t1"


def test_corpora_of_one_modality_are_fused_the_more_probable_first(shelf):
    found = shelf(QUERY, route("paragraph", "document", paragraph=0.4, document=0.6))
    assert ids(found) == ["d1", "p1", "d2", "p2", "p3"]
    found = shelf(QUERY, route("document", "paragraph", "table", document=0.5, table=0.1))
    assert ids(found) == ["d1", "p1", "d2", "p2", "p3", "t1", "t2"]


def test_labels_of_other_corpora_may_share_a_modality(made):
    told = {label: made.Told(made.ranking(label)) for label in ("law", "wiki", "table")}
    kinds = {"law": "text", "wiki": "text"}
    found = RoutedRetriever(told, words, kinds)(QUERY, route("table", "wiki", table=0.5, wiki=0.3,
                                                             law=0.3))  # fmt: skip
    assert ids(found) == ["wiki", "table"]


def test_a_corpus_that_finds_nothing_leaves_the_budget_to_the_others(shelf, made):
    cut = RoutedRetriever(shelf.retrievers, words, tokens=9)
    assert ids(cut(QUERY, route("image", "table", image=0.9, table=0.1))) == ["t1", "t2"]
    assert cut(QUERY, route("image", image=0.9)) == []
    nothing = RoutedRetriever(
        {"image": made.Told([]), "clip": made.Told([]), "video": made.Told([])}, words
    )
    assert nothing(QUERY, route("image", "clip", "video")) == []


def test_the_budget_cuts_the_list_and_what_is_cut_is_the_tail(shelf):
    cut = RoutedRetriever(shelf.retrievers, words, tokens=6)
    found = cut(QUERY, route("paragraph", paragraph=0.9))
    assert ids(found) == ["p1", "p2"]
    assert [hit.id for hit in found.tail] == ["p3", "p4"]
    found = cut(QUERY, route("table", "paragraph", table=0.6, paragraph=0.4))
    assert ids(found) == ["t1", "p1"]
    assert {hit.id for hit in found.tail} == {"t2", "t3", "p2", "p3", "p4"}


def test_titles_count(made):
    titled = [made.passage("a", title="one two"), made.passage("b", score=0.5)]
    told = {"table": made.Told(Ranking(titled))}
    assert len(RoutedRetriever(told, words, tokens=7)(QUERY, route("table"))) == 1
    assert len(RoutedRetriever(told, words, tokens=8)(QUERY, route("table"))) == 2


def test_a_batch_equals_a_loop_and_asks_each_corpus_once(shelf):
    routes = [
        route("paragraph", paragraph=0.8),
        route("none"),
        route("table", "paragraph", table=0.6, paragraph=0.4),
    ]
    queries = [Query(text) for text in ("a", "b", "c")]
    together = shelf.batch(query=queries, route=routes)
    assert shelf.retrievers["paragraph"].asked == [["a", "c"]]
    assert shelf.retrievers["table"].asked == [["c"]]
    alone = [shelf(one, of) for one, of in zip(queries, routes, strict=True)]
    assert together == alone
    assert [one.tail for one in together] == [one.tail for one in alone]
    assert asyncio.run(shelf.abatch(query=queries, route=routes)) == together
    assert asyncio.run(shelf.acall(queries[2], routes[2])) == together[2]
    assert shelf.batch(query=[], route=[]) == []


def test_a_retriever_without_a_batch_will_do(made):
    told = {"table": lambda query: [made.passage(query.text)]}
    found = RoutedRetriever(told, words)(Query("t"), route("table"))
    assert ids(found) == ["t"]


def test_vectors_come_from_whichever_corpus_has_them(shelf):
    assert shelf.vectors(["t2", "p1", "p3"]).ravel().tolist() == [2.0, 1.0, 3.0]
    with pytest.raises(KeyError, match="no vector for passage 'q' in any of paragraph, document"):
        shelf.vectors(["q"])


def test_a_label_without_a_corpus_is_refused(shelf):
    said = r"corpora with passages \(paragraph, document, table, image\), or none, got 'clip'"
    with pytest.raises(ValueError, match=said):
        shelf(QUERY, route("table", "clip"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"retrievers": {}}, "retrievers must hold at least one corpus, got none"),
        ({"tokens": 0}, "tokens must be at least 1, or None for no budget, got 0"),
        ({"rrf_k": -1}, "rrf_k must be at least 0, got -1"),
    ],
)
def test_settings_outside_their_range_are_refused(settings, said, made):
    with pytest.raises(ValueError, match=said):
        RoutedRetriever(**{"retrievers": {"table": made.Told([])}, "count": words} | settings)


def corpus(label, lengths):
    return [
        Passage(f"{label}{n}", f"{label}{n}", "w " * length, Span(0, 2 * length), (), score=1.0 / n)
        for n, length in enumerate(lengths, 1)
    ]


found = st.fixed_dictionaries(
    {
        label: st.lists(st.integers(1, 40), max_size=5)
        for label in ("paragraph", "document", "table", "clip")
    }
)
asked = st.dictionaries(
    st.sampled_from(["paragraph", "document", "table", "clip"]), st.floats(0, 1), min_size=1
)


def retrieved(lengths, probs, tokens):
    told = {label: lambda _, of=of, label=label: corpus(label, of) for label, of in lengths.items()}
    return RoutedRetriever(told, words, tokens=tokens)(QUERY, Route(tuple(probs), probs))


@given(found, asked, st.integers(1, 300), st.integers(0, 100))
def test_is_a_ranking_within_its_budget_and_a_larger_one_only_adds(lengths, probs, tokens, more):
    some, many = (retrieved(lengths, probs, of) for of in (tokens, tokens + more))
    whole = retrieved(lengths, probs, None)
    assert sum(words(one.text) for one in some) <= tokens or len(some) == 1
    assert set(ids(some)) <= set(ids(many)) <= set(ids(whole))
    assert ids(some) == [id_ for id_ in ids(whole) if id_ in ids(some)]
    hits = some.hits
    assert len({hit.id for hit in hits}) == len(hits)
    order = [(-hit.score, hit.id) for hit in hits]
    assert order == sorted(order)
    assert bool(some) == any(lengths[label] for label in probs)


@given(asked.filter(lambda probs: len(probs) > 1), st.integers(1, 40), st.integers(1, 5))
def test_every_modality_is_there_if_there_is_room_for_one_passage_of_each(probs, length, each):
    lengths = dict.fromkeys(("paragraph", "document", "table", "clip"), [length] * each)
    kinds = {"document": "paragraph"}
    modalities = {kinds.get(label, label) for label in probs}
    got = {kinds.get(id_[:-1], id_[:-1]) for id_ in ids(retrieved(lengths, probs,
                                                                 length * len(modalities)))}  # fmt: skip
    assert got == modalities


def test_places_are_shared_by_probability(shelf):
    few = replace(shelf, top_k=3)
    both = route("paragraph", "table", paragraph=0.6, table=0.4)
    assert ids(few(QUERY, both)) == ["p1", "p2", "t1"]
    assert ids(replace(shelf, top_k=2)(QUERY, both)) == ["p1", "t1"]
    assert ids(replace(shelf, top_k=1)(QUERY, both)) == ["p1"]
    assert few(QUERY, both).tail[0].id in {"p3", "t2"}
    assert replace(shelf, top_k=9)(QUERY, both) == shelf(QUERY, both)
    with pytest.raises(ValueError, match="top_k must be at least 1, or None for no limit, got 0"):
        replace(shelf, top_k=0)
