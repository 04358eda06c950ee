"""Sparse index: rankings against plain sums, impacts, views, threads, and mistakes by name."""

import math
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.records import Hit, Query
from rag.text.terms import terms
from retrievers.sparse import scoring
from retrievers.sparse.index import SparseIndex
from retrievers.sparse.weighting import BM25, Impact

WORDS = ["red", "green", "blue", "cat", "dog", "sun"]
TEXTS = st.lists(st.lists(st.sampled_from(WORDS), max_size=8), max_size=12)
QUERIES = st.lists(st.sampled_from([*WORDS, "unseen"]), min_size=1, max_size=5)
OKAPI = BM25("okapi", k1=1.5, b=0.75)


def index_of(texts, weighting=None, *, segments=1):
    """Passages p000, p001, ... dealt to so many segments."""
    index = SparseIndex(weighting)
    ids = [f"p{row:03}" for row in range(len(texts))]
    for start in range(segments):
        index.add_terms(ids[start::segments], texts[start::segments])
        len(index)
    return index


@given(texts=TEXTS, query=QUERIES, top_k=st.integers(1, 15), segments=st.integers(1, 4))
def test_a_ranking_falls_is_unique_and_breaks_ties_by_id(texts, query, top_k, segments):
    index, asked = index_of(texts, segments=segments), Query(" ".join(query))
    hits = index.search(asked, top_k)
    assert hits == sorted(hits, key=lambda hit: (-hit.score, hit.id))
    assert len({hit.id for hit in hits}) == len(hits) <= top_k
    assert all(hit.score > 0 for hit in hits)
    assert index.search(asked, top_k + 1)[:top_k] == hits
    assert len(hits) == min(top_k, sum(not set(query).isdisjoint(text) for text in texts))
    scores = index.scores_of(asked, [hit.id for hit in hits])
    assert scores.tolist() == [hit.score for hit in hits], "to the last bit"


@given(texts=TEXTS, query=QUERIES, data=st.data())
def test_the_order_of_building_makes_no_difference(texts, query, data):
    ids = [f"p{row:03}" for row in range(len(texts))]
    order = data.draw(st.permutations(range(len(texts))))
    other = SparseIndex()
    other.add_terms([ids[row] for row in order], [texts[row] for row in order])
    asked = Query(" ".join(query))
    assert other.search(asked, 20) == index_of(texts).search(asked, 20)


def zipfian(passages, seed):
    """Texts of many words, of which few are common, so that every way of scoring is taken."""
    rng = np.random.default_rng(seed)
    drawn = (rng.zipf(1.5, rng.integers(0, 12)) % 900 for _ in range(passages))
    return [[f"w{n}" for n in numbers] for numbers in drawn]


@pytest.mark.parametrize("segments", [1, 3])
@pytest.mark.parametrize("weighting", [BM25(), OKAPI, BM25("robertson"), Impact()])
def test_a_large_index_ranks_as_sorting_all_scores_does(weighting, segments):
    """Rare and common terms, small and large top_k and filters: shortcuts change no result."""
    index = index_of(zipfian(1000, 0), weighting, segments=segments)
    gone = list(index.ids[::23])
    index.delete(gone)
    ids = index.ids
    some = [None, frozenset(ids[::100]), frozenset([*ids[::2], "nobody", gone[0]]), frozenset(ids)]
    for weights in (
        {"w1": 1.0},
        {"w1": 1.0, "w2": 1.0, "w3": 2.0},
        {"w700": 1.0, "w350": 0.5},
        {"w1": 0.25, "w200": 1.0, "w201": 3.0, "unseen": 9.0},
        {"w1": -1.0, "w2": 1.0},
        {"w5": -2.0},
    ):
        scores = index.scores_of_terms(weights, ids).tolist()
        every = [Hit(i, s) for i, s in zip(ids, scores, strict=True) if s]
        every.sort(key=lambda hit: (-hit.score, hit.id))
        for within in some:
            allowed = [hit for hit in every if within is None or hit.id in within]
            for top_k in (1, 7, 40, 5000):
                assert index.search_terms(weights, top_k, within=within) == allowed[:top_k]


def test_forgetting_what_terms_are_worth_changes_no_score(monkeypatch):
    index = index_of(zipfian(300, 1))
    queries = [{f"w{n}": 1.0, f"w{n + 1}": 2.0} for n in range(1, 40)]
    before = [index.search_terms(query, 9) for query in queries]
    monkeypatch.setattr(scoring, "_CACHE_BYTES", 2000)
    small = index.with_weighting(index.weighting)
    for _ in range(2):
        assert [small.search_terms(query, 9) for query in queries] == before
    assert len(small._scorer._known) < 40


def test_ties_at_the_cut_go_to_the_lower_id_across_segments():
    index = SparseIndex()
    for id_ in ("c", "a", "e", "d", "b"):
        index.add_terms([id_], [["cat"]])
        len(index)
    assert index.statistics.segments == 5
    for top_k in range(1, 6):
        assert [hit.id for hit in index.search(Query("cat"), top_k)] == list("abcde")[:top_k]


def test_a_question_is_searched_by_its_content_words_or_by_all_it_has():
    index = SparseIndex()
    index.add(["who", "cat"], ["The Who are a band", "the cat"])
    assert index.term_counts("cat") == dict.fromkeys(terms("the cat"), 1.0)
    assert [hit.id for hit in index.search(Query("Which are the cats?"), 5)] == ["cat"]
    assert [hit.id for hit in index.search(Query("who are the"), 5)] == ["who", "cat"]


def test_says_the_weight_of_a_term():
    index = index_of([["cat"], ["dog"]])
    assert index.idf("cat") == pytest.approx(math.log(2))
    assert index.idf("unseen") == 0.0
    assert (index.df("cat"), index.df("unseen")) == (1, 0)


def test_a_repeated_query_term_counts_again():
    index = index_of([["cat"], ["dog"], ["sun"]])
    (once,), (twice,) = (index.search(Query(text), 1) for text in ("cat", "cat cat"))
    assert twice.score == 2 * once.score
    assert index.query_weights(Query("cat cat dog")) == {"cat": 2.0, "dog": 1.0}


def test_the_order_of_query_terms_changes_no_bit():
    index = index_of(zipfian(300, 2))
    weights = {f"w{n}": 1.0 / n for n in range(1, 40)}
    turned = dict(reversed(weights.items()))
    assert index.search_terms(weights, 999) == index.search_terms(turned, 999)


def test_counts_of_any_size_are_kept_exactly_when_segments_merge():
    index, counts = SparseIndex(), {"a": 3, "b": 255, "c": 256, "d": 65_535, "e": 65_536}
    for id_, count in counts.items():
        index.add_terms([id_], [["cat"] * count + ["dog"]])
        len(index)
    for _ in range(2):
        assert {id_: index.term_counts(id_)["cat"] for id_ in counts} == counts
        assert index.statistics.total_length == sum(counts.values()) + 5
        index.merge()
    assert index.statistics.segments == 1
    index.delete(["c", "d", "e"])
    index.merge()
    assert index.term_counts("b") == {"cat": 255.0, "dog": 1.0}


def test_ids_and_terms_may_be_any_text():
    ids = ["", " ", "ä", "z", "\u4e2d", "\U0001f600", "\ud800", "a\nb", "\x00"]
    index = SparseIndex()
    index.add_terms(ids, [[id_, "all"] for id_ in ids])
    assert index.ids == tuple(sorted(ids))
    for id_ in ids:
        assert id_ in index
        assert [hit.id for hit in index.search_terms({id_: 1.0}, 9)] == [id_]
    assert [hit.id for hit in index.search_terms({"all": 1.0}, 99)] == sorted(ids)
    assert (7 in index, "nobody" in index) == (False, False)


def test_a_passage_that_scores_exactly_zero_is_left_out():
    index = index_of([["cat"], ["dog"], ["cat", "dog"]], BM25("robertson"))
    assert index.idf("cat") == 0.0, "two of three passages hold it"
    assert index.search(Query("cat"), 9) == []
    assert index.scores_of(Query("cat"), ["p000"]).tolist() == [0.0]
    opposite = index_of([["cat"], ["dog"], ["cat", "dog"], []], Impact())
    assert [(h.id, h.score) for h in opposite.search_terms({"cat": 1.0, "dog": -1.0}, 9)] == [
        ("p000", 1.0),
        ("p001", -1.0),
    ]


def test_negative_query_weights_count_against_a_passage():
    index = index_of([["cat", "dog"], ["cat", "sun"], ["sun"]])
    hits = index.search_terms({"cat": 1.0, "dog": -0.5}, 9)
    plain = index.scores_of_terms({"cat": 1.0}, ["p000", "p001"])
    minus = index.scores_of_terms({"dog": 1.0}, ["p000"])
    assert [hit.id for hit in hits] == ["p001", "p000"]
    assert [hit.score for hit in hits] == pytest.approx([plain[1], plain[0] - 0.5 * minus[0]])


@given(texts=TEXTS, queries=st.lists(QUERIES, max_size=4), data=st.data())
def test_a_batch_is_a_loop_and_a_filter_comes_before_the_ranking(texts, queries, data):
    index = index_of(texts, OKAPI, segments=2)
    asked = [Query(" ".join(query)) for query in queries]
    ids = st.sampled_from([*index.ids, "nobody"])
    within = data.draw(st.none() | st.frozensets(ids))
    batch = index.search_batch(asked, 3, within=within)
    assert batch == [index.search(query, 3, within=within) for query in asked]
    for query, hits in zip(asked, batch, strict=True):
        every = index.search(query, 99)
        assert hits == [hit for hit in every if within is None or hit.id in within][:3]


def test_a_filter_is_asked_again_after_the_passages_have_changed():
    index, within = index_of([["cat"], ["cat"], ["dog"]]), frozenset({"p001", "p002", "p009"})
    assert [hit.id for hit in index.search(Query("cat"), 9, within=within)] == ["p001"]
    index.add_terms(["p002", "p009"], [["cat"], ["cat"]])
    found = [hit.id for hit in index.search(Query("cat"), 9, within=within)]
    assert found == ["p001", "p002", "p009"]
    index.delete(["p001", "p009"])
    assert [hit.id for hit in index.search(Query("cat"), 9, within=within)] == ["p002"]
    for n in range(20):  # more filters than are kept
        one = frozenset({f"p{n:03}"})
        assert {hit.id for hit in index.search(Query("cat"), 9, within=one)} <= one


def test_scores_come_in_the_order_of_the_ids_and_repeat_with_them():
    index = index_of([["cat"], ["cat", "dog"], []], segments=2)
    a, b, c = index.scores_of(Query("cat"), ["p000", "p001", "p002"])
    assert index.scores_of(Query("cat"), ["p002", "p001", "p000", "p001"]).tolist() == [c, b, a, b]
    assert c == 0.0
    assert index.scores_of(Query("cat"), []).shape == (0,)
    assert SparseIndex().scores_of(Query("cat"), []).dtype == np.float64


def test_a_view_weighs_the_same_passages_otherwise():
    index = index_of([["cat"], ["cat", "dog", "dog"]])
    view = index.with_weighting(OKAPI)
    view.add_terms(["p9"], [["dog"]])
    assert index.ids == view.ids == ("p000", "p001", "p9")
    index.delete(["p000"])
    assert "p000" not in view
    fresh = SparseIndex(OKAPI)
    fresh.add_terms(["p001", "p9"], [["cat", "dog", "dog"], ["dog"]])
    for text in ("cat", "dog", "dog cat"):
        assert view.search(Query(text), 9) == fresh.search(Query(text), 9)
        assert view.search(Query(text), 9) != index.search(Query(text), 9)
    assert (index.weighting, view.weighting) == (BM25(), OKAPI)
    counts = index.with_weighting(Impact()).search_terms({"dog": 1.0}, 9)
    assert counts == [Hit("p001", 2.0), Hit("p9", 1.0)]


@given(
    vectors=st.lists(
        st.dictionaries(st.sampled_from(WORDS), st.floats(0.125, 9, width=32), max_size=6),
        min_size=1,
        max_size=8,
    ),
    query=st.dictionaries(st.sampled_from(WORDS), st.floats(-3, 9), min_size=1, max_size=6),
)
def test_impacts_score_by_the_dot_product(vectors, query):
    ids = [f"p{row}" for row in range(len(vectors))]
    index = SparseIndex(Impact())
    index.add_vectors(ids, vectors)
    expected = [sum(w * v.get(t, 0.0) for t, w in query.items()) for v in vectors]
    found = index.scores_of_terms(query, ids)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_impacts_by_hand_in_single_precision():
    index = SparseIndex(Impact())
    index.add_vectors(["a", "b"], [{"cat": 1.5, "dog": 0.1}, {"dog": 2.0}])
    assert index.search_terms({"cat": 2.0, "dog": 0.5}, 9) == [
        Hit("a", 3.0 + 0.5 * float(np.float32(0.1))),
        Hit("b", 1.0),
    ]
    assert index.term_counts("a") == {"cat": 1.5, "dog": float(np.float32(0.1))}
    assert index.statistics.total_length == 3, "how many impacts there are"


def test_counts_and_impacts_do_not_mix():
    impacts, counts = SparseIndex(Impact()), SparseIndex(Impact())
    impacts.add_vectors(["a"], [{"w": 1.5}])
    counts.add(["a"], ["red"])
    for _ in range(2):  # waiting, and in a segment
        with pytest.raises(ValueError, match="an index of impacts takes only impacts, got counts"):
            impacts.add(["b"], ["red"])
        with pytest.raises(ValueError, match="an index of counts takes only counts, got impacts"):
            counts.add_vectors(["b"], [{"w": 1.0}])
        assert impacts.ids == counts.ids == ("a",)
    with pytest.raises(ValueError, match=r"an index of impacts needs weighting=Impact\(\), got"):
        impacts.with_weighting(BM25())
    impacts.add_vectors(["empty"], [{}])
    assert impacts.term_counts("empty") == {}
    for wrong in (1e300, 1e-300, -0.0):
        with pytest.raises(ValueError, match=r"above 0 and finite in float32, got .* for 'w' in"):
            impacts.add_vectors(["c"], [{"fine": 1.0, "w": wrong}])
    assert impacts.ids == ("a", "empty")


def test_statistics_follow_every_change():
    index = SparseIndex()
    assert (index.statistics.passages, index.statistics.bytes) == (0, 0)
    index.add_terms(["a", "b", "c", "d", "e", "f"], [["cat", "cat"], ["dog"], [], [], [], []])
    found = index.statistics
    assert (found.passages, found.total_length, found.vocabulary) == (6, 3, 2)
    assert found.bytes > 0
    assert index.delete(iter(["b", "b", "nobody"])) == 1
    found = index.statistics
    assert (found.passages, found.total_length, found.vocabulary, found.deleted) == (5, 2, 1, 1)
    index.merge()
    assert index.statistics.deleted == 0
    assert index.delete(index.ids) == 5
    assert (len(index), index.statistics.segments, index.ids) == (0, 0, ())
    index.merge()
    assert index.search(Query("cat"), 1) == []


def test_threads_that_search_see_the_index_before_or_after_each_addition():
    batches = [[f"b{n:02}-{i}" for i in range(5)] for n in range(40)]
    index, fresh, moments = SparseIndex(), SparseIndex(), []
    for batch in batches:
        fresh.add_terms(batch, [["cat", "dog"]] * 5)
        moments.append(fresh.search(Query("cat"), 999))
    moments.append([])
    wrong, stop = [], threading.Event()

    def search():
        last = 0
        while not stop.is_set():
            found = index.search(Query("cat"), 999)
            if found not in moments or len(found) < last:
                wrong.append(found)
            last = len(found)

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for batch in batches:
        index.add_terms(batch, [["cat", "dog"]] * 5)
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert index.search(Query("cat"), 999) == moments[-2]


def test_a_search_during_a_replacement_sees_the_old_passage_or_the_new(monkeypatch):
    """Also where the old one has never been searched, and waits in no segment yet."""
    index, found = SparseIndex(), []
    index.add_terms(["a"], [["cat"]])
    thread = threading.Thread(
        target=lambda: found.append(index.search_terms({"cat": 1.0, "dog": 1.0}, 9))
    )
    forget = index._postings._forget

    def forget_and_search(ids):
        forget(ids)
        thread.start()
        thread.join(0.2)

    monkeypatch.setattr(index._postings, "_forget", forget_and_search)
    index.add_terms(["a"], [["dog"]])
    thread.join()
    assert [hit.id for hit in found[0]] == ["a"]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda i: i.search(Query("cat"), 0), ValueError, "top_k must be at least 1, got 0"),
        (lambda i: i.search_batch([Query("cat")], -1), ValueError, "top_k must be at least 1, got -1"),
        (lambda i: i.search_batch([], 0), ValueError, "top_k must be at least 1, got 0"),
        (lambda i: i.search_terms({"cat": math.inf}, 1), ValueError, "weights must be finite, got inf for 'cat'"),
        (lambda i: i.scores_of_terms({"x": math.nan}, []), ValueError, "weights must be finite, got nan for 'x'"),
        (lambda i: i.add(["x"], ["a", "b"]), ValueError, "ids and texts must be as long, got 1 and 2"),
        (lambda i: i.add_terms(["x"], []), ValueError, "ids and texts_terms must be as long, got 1 and 0"),
        (lambda i: i.add_terms(["x", "y", "x"], [[]] * 3), ValueError, "ids must be unique, got 'x' twice"),
        (lambda i: i.add_vectors([], [{}]), ValueError, "ids and vectors must be as long, got 0 and 1"),
        (lambda i: i.scores_of(Query("cat"), ["p000", "nobody"]), KeyError, "no passage 'nobody'"),
        (lambda i: i.term_counts("nobody"), KeyError, "no passage 'nobody'"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_and_changes_nothing(call, error, message):
    index = index_of([["cat"], ["dog"]])
    with pytest.raises(error, match=message):
        call(index)
    assert index.ids == ("p000", "p001")


def test_an_unknown_id_is_an_error_even_of_a_query_without_known_terms():
    index = index_of([["cat"]])
    index.delete(["p000"])
    for id_ in ("p000", "nobody"):
        with pytest.raises(KeyError, match=id_):
            index.scores_of(Query("unseen"), [id_])


@pytest.mark.parametrize(
    ("ids", "texts_terms", "message"),
    [
        ([1], [["cat"]], "ids must be text, got 1"),
        (
            ["a"],
            [["cat", None]],
            r"terms must be a list of texts, got \['cat', None\] for passage 'a'",
        ),
        (["a"], ["cat"], "terms must be a list of texts, got 'cat' for passage 'a'"),
    ],
)
def test_what_is_no_text_is_refused_before_it_harms_the_index(ids, texts_terms, message):
    index = index_of([["cat"]])
    with pytest.raises(TypeError, match=message):
        index.add_terms(["b", *ids], [["cat"], *texts_terms])
    assert index.ids == ("p000",)
