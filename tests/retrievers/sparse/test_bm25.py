"""BM25 index: by hand, against rank_bm25 and the pure function, as a ranking, and on disk."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.errors import IndexFolderError
from rag.records import Hit, Query
from rag.text.bm25 import bm25_scores
from rag.text.terms import terms
from retrievers import BM25Index

WORDS = ["red", "green", "blue", "cat", "dog", "sun"]
TEXTS = st.lists(st.lists(st.sampled_from(WORDS), max_size=8), max_size=12)
QUERIES = st.lists(st.sampled_from([*WORDS, "unseen"]), min_size=1, max_size=5)


def index(texts, **parameters):
    return BM25Index.build([f"p{row:03}" for row in range(len(texts))], texts, **parameters)


def test_two_passages_by_hand():
    # N = 2, n = 1: idf = ln 2; b = 0, k1 = 1: f / (f + 1) with f = 2.
    found = index([["cat", "cat"], ["dog"]], k1=1.0, b=0.0).search(Query("cat"), 5)
    assert found == [Hit("p000", pytest.approx(math.log(2) * 2 / 3))]


@pytest.mark.parametrize(("k1", "b"), [(1.5, 0.75), (0.9, 0.4), (2.0, 0.0), (1.2, 1.0)])
def test_okapi_matches_rank_bm25(k1, b):
    rank_bm25 = pytest.importorskip("rank_bm25")
    rng = np.random.default_rng(0)
    # Word w0 stands in nearly every text, so its idf would be negative and takes the floor.
    texts = [[f"w{w}" for w in rng.zipf(1.3, rng.integers(1, 30)) % 50] for _ in range(200)]
    reference = rank_bm25.BM25Okapi(texts, k1=k1, b=b)
    ours = index(texts, k1=k1, b=b, variant="okapi")
    assert reference.average_idf > 0 > math.log(200 - 150) - math.log(150)
    for query in (["w1"], ["w1", "w2", "w2"], [f"w{w}" for w in range(50)], ["unseen"]):
        np.testing.assert_allclose(ours.scores(query), reference.get_scores(query), rtol=1e-9)


def test_okapi_matches_rank_bm25_where_the_floor_itself_is_negative():
    rank_bm25 = pytest.importorskip("rank_bm25")
    texts = [["cat", "dog"], ["cat"]]
    scores = index(texts, k1=1.5, b=0.75, variant="okapi").scores(["cat"])
    np.testing.assert_allclose(scores, rank_bm25.BM25Okapi(texts).get_scores(["cat"]), rtol=1e-9)
    assert (scores < 0).all()


@given(texts=TEXTS, query=QUERIES)
def test_matches_the_pure_function(texts, query):
    np.testing.assert_allclose(index(texts).scores(query), bm25_scores(query, texts), rtol=1e-12)


@given(texts=TEXTS, query=QUERIES, top_k=st.integers(1, 15))
def test_a_ranking_falls_is_unique_and_breaks_ties_by_id(texts, query, top_k):
    built = index(texts)
    hits = built.search(Query(" ".join(query)), top_k)
    assert hits == sorted(hits, key=lambda hit: (-hit.score, hit.id))
    assert len({hit.id for hit in hits}) == len(hits) <= top_k
    assert all(hit.score > 0 for hit in hits)
    assert built.search(Query(" ".join(query)), top_k + 1)[:top_k] == hits
    matching = sum(not set(query).isdisjoint(text) for text in texts)
    assert len(hits) == min(top_k, matching)


@given(texts=TEXTS, query=QUERIES, data=st.data())
def test_the_order_of_building_makes_no_difference(texts, query, data):
    ids = [f"p{row:03}" for row in range(len(texts))]
    order = data.draw(st.permutations(range(len(texts))))
    other = BM25Index.build([ids[row] for row in order], [texts[row] for row in order])
    asked = Query(" ".join(query))
    assert other.search(asked, 20) == BM25Index.build(ids, texts).search(asked, 20)


def test_ties_at_the_cut_go_to_the_lower_id():
    built = BM25Index.build(["c", "a", "d", "b"], [["cat"]] * 4)
    assert [hit.id for hit in built.search(Query("cat"), 2)] == ["a", "b"]


def test_a_question_is_searched_by_its_content_words_or_by_all_it_has():
    built = BM25Index.build(["who", "cat"], [terms("The Who are a band"), terms("the cat")])
    assert [hit.id for hit in built.search(Query("Which are the cats?"), 5)] == ["cat"]
    assert [hit.id for hit in built.search(Query("who are the"), 5)] == ["who", "cat"]


def test_says_the_weight_of_a_term():
    built = index([["cat"], ["dog"]])
    assert built.idf("cat") == pytest.approx(math.log(2))
    assert built.idf("unseen") == 0.0


@pytest.mark.parametrize("texts", [[], [[]], [[], []]])
@pytest.mark.parametrize("variant", ["lucene", "okapi"])
def test_an_empty_index_finds_nothing(texts, variant, tmp_path):
    built = index(texts, variant=variant)
    built.save(tmp_path)
    for each in (built, BM25Index.load(tmp_path)):
        assert each.search(Query("cat"), 3) == []
        assert len(each) == len(texts)


@settings(max_examples=20, deadline=None)
@given(texts=TEXTS, query=QUERIES)
def test_a_loaded_index_is_the_saved_one(texts, query, tmp_path_factory):
    folder = tmp_path_factory.mktemp("index") / "new"
    built = index(texts, k1=1.7, b=0.3, variant="okapi")
    built.save(folder)
    loaded = BM25Index.load(folder)
    assert (loaded.ids, loaded.k1, loaded.b, loaded.variant) == (built.ids, 1.7, 0.3, "okapi")
    assert loaded.scores(query).tolist() == built.scores(query).tolist()


def test_saving_again_replaces(tmp_path):
    index([["cat"], ["dog"]]).save(tmp_path)
    index([["sun"]]).save(tmp_path)
    assert BM25Index.load(tmp_path).ids == ("p000",)


def test_load_says_that_nothing_is_there(tmp_path):
    with pytest.raises(IndexFolderError, match="holds no readable BM25 index"):
        BM25Index.load(tmp_path)


@pytest.mark.parametrize("damage", ["mixed", "longer", "format", "pickle", "cut", "keys"])
def test_load_refuses_a_damaged_folder(tmp_path, damage):
    index([["cat"], ["dog"]]).save(tmp_path)
    about = json.loads((tmp_path / "bm25.json").read_text())
    match damage:
        case "mixed":
            np.save(tmp_path / "lengths.npy", np.zeros(3, np.int32))
        case "longer":
            np.save(tmp_path / "starts.npy", np.array([0, 1, 3]))
        case "format":
            (tmp_path / "bm25.json").write_text(json.dumps(about | {"format": 99}))
        case "pickle":
            np.save(tmp_path / "rows.npy", np.array([{}], object), allow_pickle=True)
        case "cut":
            (tmp_path / "rows.npy").write_bytes((tmp_path / "rows.npy").read_bytes()[:40])
        case "keys":
            (tmp_path / "bm25.json").write_text(json.dumps({"format": 1}))
    with pytest.raises(IndexFolderError, match="BM25 index"):
        BM25Index.load(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ids": ["a"]}, "ids and texts_terms must be as long, got 1 and 2"),
        ({"ids": ["a", "a"]}, "ids must be unique, got 'a' twice"),
        ({"k1": -1.0}, "k1 must be at least 0 and finite, got -1"),
        ({"b": 2.0}, r"b must be in \[0, 1\], got 2"),
        ({"variant": "plus"}, "variant must be one of .* got 'plus'"),
    ],
)
def test_rejects_what_it_cannot_build(arguments, message):
    with pytest.raises(ValueError, match=message):
        BM25Index.build(**{"ids": ["a", "b"], "texts_terms": [["cat"], ["dog"]]} | arguments)


def test_rejects_no_results():
    with pytest.raises(ValueError, match="top_k must be at least 1, got 0"):
        index([["cat"]]).search(Query("cat"), 0)
