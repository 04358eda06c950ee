"""What every vector store must do behind our interface: order, direction, deletion, filters, async."""

import asyncio

import numpy as np
import pytest

from rag.records import Passage, Query, Span
from retrievers.dense.index import DenseIndex
from retrievers.feedback.vector import VectorFeedback
from retrievers.filters import Filter
from retrievers.hybrid import Hybrid
from retrievers.sparse.index import SparseIndex

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",
    "ignore::ResourceWarning",
    "ignore::UserWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore::RuntimeWarning",
)  # fmt: skip  (third-party clients)

LANGUAGES = ("en", "de", "fr")
QUERIES = [Query("what of ships"), Query("night and stone"), Query("passage number 3")]


def passage(n, **metadata):
    text = f"Passage number {n}. It says something about {'ships' if n % 2 else 'stones'}."
    split = text.index(". ") + 2
    facts = {"year": 2000 + n, "lang": LANGUAGES[n % 3], **metadata}
    if n % 4 == 0:
        facts["draft"] = n % 8 == 0
    return Passage(
        f"doc/{n}:ü", f"doc{n}", text, Span(5, 5 + len(text)),
        (Span(0, split), Span(split, len(text))), title=f"Title {n}", page=n + 1, metadata=facts,
    )  # fmt: skip


PASSAGES = [passage(n) for n in range(24)]
BY_ID = {one.id: one for one in PASSAGES}


def exact(encoder, passages=PASSAGES):
    return DenseIndex.build(
        [p.id for p in passages], encoder.encode([p.searchable for p in passages])
    )


def test_same_passages_in_the_same_order_as_exact_search(search, encoder):
    search.add(PASSAGES)
    vectors = encoder.encode_queries([query.text for query in QUERIES])
    expected = exact(encoder).search_vectors(vectors, 10)
    found = search.search_vectors(vectors, 10)
    for hits, right in zip(found, expected, strict=True):
        assert [hit.id for hit in hits] == [hit.id for hit in right]
        assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in right], abs=1e-4)
    longer = search.search_vectors(vectors * 3.0, 4)
    assert [h.score for h in longer[0]] == pytest.approx(
        [3 * h.score for h in expected[0][:4]], abs=1e-3
    )
    assert len(search.search_vectors(vectors, 999)[0]) == len(PASSAGES)


def test_passages_come_back_whole(search):
    search.add(PASSAGES)
    for found in search.batch(query=QUERIES):
        assert len(found) == 3
        for one in found:
            original = BY_ID[one.id]
            assert (one.text, one.title, one.span, one.sentences) == (
                original.text, original.title, original.span, original.sentences,
            )  # fmt: skip
            assert (one.document, one.page) == (original.document, original.page)
            assert dict(one.metadata) == dict(original.metadata)
        scores = [one.score for one in found]
        assert scores == sorted(scores, reverse=True)
    assert search.passages(["doc/3:ü"])[0].text == PASSAGES[3].text


def test_deleted_is_gone_and_added_again_replaces(search, encoder):
    search.add(PASSAGES)
    assert search.delete(["doc/1:ü", "doc/2:ü", "nobody"]) == 2
    assert "doc/1:ü" not in search
    assert "doc/3:ü" in search
    vectors = encoder.encode_queries([QUERIES[0].text])
    left = [p for p in PASSAGES if p.id not in ("doc/1:ü", "doc/2:ü")]
    assert {hit.id for hit in search.search_vectors(vectors, 99)[0]} == {p.id for p in left}
    changed = passage(1)
    changed = Passage(
        **{f: getattr(changed, f) for f in changed.__slots__}
        | {"text": "Quite new.", "span": Span(0, 10), "sentences": (Span(0, 10),)}
    )
    search.add([changed])
    search.add([changed])
    assert len(search.search_vectors(vectors, 99)[0]) == len(left) + 1
    assert search.passages(["doc/1:ü"])[0].text == "Quite new."
    assert search.delete([]) == 0


@pytest.mark.parametrize(
    "given",
    [
        {"lang": "en"},
        {"lang": ["en", "fr"]},
        {"lang": {"ne": "en"}},
        {"lang": {"nin": ["en", "de"]}},
        {"year": 2003},
        {"year": {"gte": 2010}},
        {"year": {"gt": 2003, "lt": 2009.5}},
        {"year": {"lte": 2003}},
        {"draft": True},
        {"draft": False},
        {"draft": {"ne": True}},
        {"draft": {"in": [True, False]}},
        {"draft": {"exists": True}},
        {"draft": {"exists": False}},
        {"not": {"draft": True}},
        {"not": {"year": {"gte": 2010}}},
        {"not": {"lang": ["en", "de"]}},
        {"or": [{"lang": "fr"}, {"year": {"lt": 2002}}]},
        {"and": [{"lang": "en"}, {"not": {"or": [{"year": 2003}, {"draft": False}]}}]},
        {"year": [2001, 2002, "2003"]},
        {"or": []},
        {},
    ],
    ids=str,
)
def test_a_filter_lets_through_what_it_lets_through_here(filled, encoder, given):
    wanted = Filter.parse(given)
    expected = {one.id for one in PASSAGES if wanted.matches(one.metadata)}
    vectors = encoder.encode_queries([QUERIES[0].text])
    assert {hit.id for hit in filled.search_vectors(vectors, 99, where=wanted)[0]} == expected
    within = frozenset(list(BY_ID)[::2]) | {"nobody"}
    both = filled.search_vectors(vectors, 99, where=wanted, within=within)[0]
    assert {hit.id for hit in both} == expected & within


@pytest.fixture
def filled(search):
    search.add(PASSAGES)
    return search


def test_values_that_look_like_a_query_language_are_only_values(search, encoder):
    odd = ["a' or '1'='1", 'x" == "x', "$ne", "\\", "ü\n", "%_", "metadata"]
    search.add([passage(n, note=value) for n, value in enumerate(odd)])
    vectors = encoder.encode_queries(["x"])
    for n, value in enumerate(odd):
        found = search.search_vectors(vectors, 99, where=Filter.parse({"note": value}))[0]
        assert [hit.id for hit in found] == [f"doc/{n}:ü"]


def test_ids_alone_narrow_a_search(filled, encoder):
    vectors = encoder.encode_queries([QUERIES[0].text])
    within = frozenset({"doc/3:ü", "doc/4:ü", "nobody"})
    assert {hit.id for hit in filled.search_vectors(vectors, 9, within=within)[0]} == {
        "doc/3:ü",
        "doc/4:ü",
    }
    assert filled.search_vectors(vectors, 9, within=frozenset()) == [[]]


def test_awaiting_equals_calling(filled):
    async def found():
        return await filled.acall(QUERIES[0]), await filled.abatch(query=QUERIES)

    one, many = asyncio.run(found())
    assert asyncio.run(found()) == (one, many), "in a second event loop too"
    assert [p.id for p in one] == [p.id for p in filled(QUERIES[0])]
    expected = [[p.id for p in ps] for ps in filled.batch(query=QUERIES)]
    assert [[p.id for p in ps] for ps in many] == expected


def test_an_empty_store_finds_nothing_and_is_checked_later(search):
    assert search(QUERIES[0]) == []
    assert search.search_vectors(np.ones((1, 8), np.float32), 3) == [[]]
    assert "x" not in search
    search.add(PASSAGES[:2])
    assert len(search(QUERIES[0])) == 2


def test_feedback_on_vectors_encodes_the_texts_again(filled, encoder):
    sparse = SparseIndex()
    sparse.add([p.id for p in PASSAGES], [p.searchable for p in PASSAGES])
    options = {"interpolation": "both", "depth": 20, "feedback": VectorFeedback(k=2)}
    over_store = Hybrid(sparse, filled, encoder, BY_ID, **options)
    over_index = Hybrid(sparse, exact(encoder), encoder, BY_ID, **options)
    for query in QUERIES:
        found, right = over_store(query), over_index(query)
        assert [p.id for p in found] == [p.id for p in right]
    ids = ["doc/3:ü", "doc/1:ü"]
    np.testing.assert_allclose(filled.vectors(ids), exact(encoder).vectors(ids), atol=1e-6)
    with pytest.raises(KeyError, match="no passage 'nobody'"):
        filled.vectors(["nobody"])
    assert filled.vectors([]).shape == (0, 8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.search_vectors(np.ones((1, 3)), 2), r"vectors must be \(queries, 8\), got \(1, 3\)"),
        (lambda s: s.search_vectors(np.zeros((1, 8)), 2), "finite and not zero, got norm 0.0"),
        (lambda s: s.search_vectors(np.full((1, 8), np.nan), 2), "finite and not zero, got norm nan"),
        (lambda s: s.search_vectors(np.ones((1, 8)), 0), "top_k must be at least 1, got 0"),
        (lambda s: s.add([PASSAGES[0], PASSAGES[0]]), "unique ids, got 'doc/0:ü' twice"),
        (lambda s: s.add([passage(0, dovetail_x=1)]), "must not use dovetail_"),
    ],
)  # fmt: skip
def test_mistakes_are_named_and_change_nothing(search, call, message):
    with pytest.raises(ValueError, match=message):
        call(search)
    assert search(QUERIES[0]) == []


def test_filters_do_not_pass_over_documents_of_others_in_silence(search):
    search.store.add_texts(["one", "two"], metadatas=[{"year": 1}, {"year": 2}])
    assert len(search(QUERIES[0])) == 2
    vectors = np.ones((1, 8), np.float32)
    wanted = Filter.parse({"year": 1})
    if search.capability.filters == "python":
        assert len(search.search_vectors(vectors, 9, where=wanted)[0]) == 1
        return
    with pytest.raises(ValueError, match="holds documents that were not added here"):
        search.search_vectors(vectors, 9, where=wanted)
