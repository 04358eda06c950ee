"""Mixing pictures and captions: a hand-worked case, the formula, both ends, gaps, mistakes."""

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.records import Passage, Query, Span
from retrievers.dense.index import DenseIndex
from retrievers.images.image_retriever import ImageRetriever
from retrievers.images.vision_index import VisionIdentity, VisionIndex
from retrievers.single import Dense


def unit(rows):
    rows = np.array(rows, np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def passage(id_, text=None):
    text = text or f"caption of {id_}"
    return Passage(id_, id_, text, Span(0, len(text)), (Span(0, len(text)),), modality="image")


class Table:
    """An encoder of questions that looks them up; it counts how often it is asked."""

    name = fingerprint = "table"

    def __init__(self, vectors):
        self.table = {text: unit([vector])[0] for text, vector in vectors.items()}
        self.dim = len(next(iter(self.table.values())))
        self.calls = 0

    def encode_queries(self, texts):
        self.calls += 1
        return np.stack([self.table[text] for text in texts])

    def encode(self, texts, *, progress=None):
        raise AssertionError("encoded passages")

    encode_images = encode


class Unused:
    """Stands for a leg that must not be touched."""

    name = fingerprint = "unused"

    def __init__(self, dim):
        self.dim = dim

    def search_vectors(self, *_, **__):
        raise AssertionError("used")

    encode_queries = encode_images = encode = search_vectors


CAPTIONS = {"a": [1, 0.5], "b": [0.2, 1], "c": [1, 0], "dark": [0.9, 0.5]}
PICTURES = {"a": [[0, 1, 0.4]], "b": [[1, 0.2, 0], [0, 0, 1]], "c": [[0.5, 0.5, -1]]}
QUERY = {"q": [1, 0.1]}, {"q": [0.9, 0.1, 0]}


def made(**settings):
    vectors = unit(list(CAPTIONS.values()))
    rows = {id_: unit(of) for id_, of in PICTURES.items()}
    defaults = {
        "dense": DenseIndex.build(list(CAPTIONS), vectors),
        "vision": VisionIndex(rows, VisionIdentity("table", "table", 3)),
        "encoder": Table(QUERY[0]),
        "image_encoder": Table(QUERY[1]),
        "passages": {id_: passage(id_) for id_ in CAPTIONS},
        "top_k": 4,
    }
    return ImageRetriever(**(defaults | settings))


def cosine(left, right):
    left, right = np.array(left, float), np.array(right, float)
    return float(left @ right / np.linalg.norm(left) / np.linalg.norm(right))


def scores_by_definition(weight, scale):
    """Read the docstring literally, in float64."""
    captions = {id_: cosine(QUERY[0]["q"], of) for id_, of in CAPTIONS.items()}
    pictures = {id_: max(cosine(QUERY[1]["q"], r) for r in of) for id_, of in PICTURES.items()}
    if scale == "minmax":
        captions, pictures = (
            {
                id_: (s - min(of.values())) / (max(of.values()) - min(of.values()))
                for id_, s in of.items()
            }
            for of in (captions, pictures)
        )
    return {
        id_: weight * pictures[id_] + (1 - weight) * captions[id_]
        if id_ in pictures
        else captions[id_]
        for id_ in captions
    }


def test_a_picture_that_fits_beats_a_caption_that_fits():
    found = made()(Query("q"))
    # b shows what is asked for and says otherwise; c says it and shows otherwise. The image that
    # could not be read has its caption alone, and that at full weight.
    assert [one.id for one in found] == ["dark", "b", "c", "a"]
    assert found[1].score == pytest.approx(0.8 * 0.99614 + 0.2 * 0.29274, abs=1e-4)
    assert found[0].score == pytest.approx(cosine([1, 0.1], [0.9, 0.5]))


@pytest.mark.parametrize("scale", ["raw", "minmax"])
@pytest.mark.parametrize("weight", [0.2, 0.5, 0.8, 0.95])
def test_equals_the_definition(weight, scale):
    found = made(image_weight=weight, scale=scale)(Query("q"))
    expected = scores_by_definition(weight, scale)
    assert [p.id for p in found] == sorted(expected, key=lambda id_: (-expected[id_], id_))
    assert {p.id: p.score for p in found} == pytest.approx(expected, abs=1e-6)


@given(weight=st.floats(0, 1), top_k=st.integers(1, 6), scale=st.sampled_from(["raw", "minmax"]))
def test_scores_fall_ids_are_unique_and_a_larger_k_only_appends(weight, top_k, scale):
    fewer = made(image_weight=weight, top_k=top_k, scale=scale)(Query("q"))
    more = made(image_weight=weight, top_k=top_k + 1, scale=scale)(Query("q"))
    assert [p.id for p in more][: len(fewer)] == [p.id for p in fewer]
    scores = [p.score for p in fewer]
    assert scores == sorted(scores, reverse=True)
    assert len({p.id for p in fewer}) == len(fewer)


def test_a_cosine_that_one_side_did_not_list_is_computed():
    shallow = made(depth=1, top_k=1)
    assert [h.id for h in shallow.hits([Query("q")])[0]] == ["b", "c"]
    whole = {h.id: h.score for h in made().hits([Query("q")])[0]}
    assert all(whole[h.id] == h.score for h in shallow.hits([Query("q")])[0])


@pytest.mark.parametrize("scale", ["raw", "minmax"])
def test_weight_0_is_the_ranking_of_the_captions_to_the_last_bit(scale):
    mixed = made(image_weight=0.0, vision=Unused(3), image_encoder=Unused(3), scale=scale)
    alone = Dense(mixed.dense, mixed.encoder, mixed.passages, top_k=4)
    assert mixed(Query("q")) == alone(Query("q"))


@pytest.mark.parametrize("scale", ["raw", "minmax"])
def test_weight_1_is_the_ranking_of_the_pictures_to_the_last_bit(scale):
    mixed = made(image_weight=1.0, dense=Unused(2), encoder=Unused(2), scale=scale)
    [expected] = mixed.vision.search_vectors(mixed.image_encoder.encode_queries(["q"]), 4)
    assert mixed.hits([Query("q")]) == [expected]
    assert [p.id for p in mixed(Query("q"))] == ["b", "c", "a"]


def test_a_picture_without_a_caption_vector_counts_alone():
    only = DenseIndex.build(["a", "c"], unit([CAPTIONS["a"], CAPTIONS["c"]]))
    scores = {hit.id: hit.score for hit in made(dense=only).hits([Query("q")])[0]}
    assert scores["b"] == pytest.approx(cosine([0.9, 0.1, 0], [1, 0.2, 0]), abs=1e-6)


def test_equal_cosines_all_count_1_when_scaled():
    rows = {id_: unit([[1, 0, 0]]) for id_ in CAPTIONS}
    mixed = made(
        vision=VisionIndex(rows, VisionIdentity("t", "t", 3)), scale="minmax", image_weight=0.5
    )
    found = mixed(Query("q"))
    assert found[0].score == pytest.approx(1.0)
    assert found[-1].score == pytest.approx(0.5)


def test_ties_go_to_the_lower_id():
    same = dict.fromkeys("dbca", (1.0, 0.0))
    rows = {id_: unit([[1, 0, 0]]) for id_ in same}
    mixed = made(
        dense=DenseIndex.build(list(same), unit(list(same.values()))),
        vision=VisionIndex(rows, VisionIdentity("t", "t", 3)),
        passages={id_: passage(id_) for id_ in same},
    )
    assert [p.id for p in mixed(Query("q"))] == ["a", "b", "c", "d"]


def test_of_equal_captions_the_better_picture_is_returned():
    passages = {id_: passage(id_, "one caption for all") for id_ in CAPTIONS}
    assert [p.id for p in made(passages=passages, within=frozenset("abc"))(Query("q"))] == ["b"]


def test_a_filter_holds_for_both_sides():
    found = made(within=frozenset(["a", "dark", "unknown"]))(Query("q"))
    assert {p.id for p in found} == {"a", "dark"}
    assert made(within=frozenset())(Query("q")) == []


def test_a_batch_equals_a_loop_and_asks_each_encoder_once():
    queries = [Query("q"), Query("r")]
    encoders = {
        "encoder": Table({"q": [1, 0.1], "r": [0, 1]}),
        "image_encoder": Table({"q": [0.9, 0.1, 0], "r": [0, 0, 1]}),
    }
    mixed = made(**encoders)
    together = mixed.batch(query=queries)
    assert (mixed.encoder.calls, mixed.image_encoder.calls) == (1, 1)
    assert together == [mixed(query) for query in queries]
    assert mixed.batch(query=[]) == []
    assert asyncio.run(mixed.acall(queries[0])) == together[0]
    assert asyncio.run(mixed.abatch(query=queries)) == together


def test_vectors_are_those_of_the_captions():
    mixed = made()
    np.testing.assert_array_equal(mixed.vectors(["b", "dark"]), mixed.dense.vectors(["b", "dark"]))


def test_finds_nothing_in_an_empty_corpus():
    empty = made(
        dense=DenseIndex(2), vision=VisionIndex({}, VisionIdentity("t", "t", 3)), passages={}
    )
    assert empty(Query("q")) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"top_k": 0}, "top_k must be at least 1, got 0"),
        ({"top_k": 5, "depth": 4}, "depth must be at least top_k = 5, got 4"),
        ({"image_weight": 1.1}, r"image_weight must be in \[0, 1\], got 1.1"),
        ({"image_weight": -0.1}, "image_weight"),
        ({"image_weight": float("nan")}, "image_weight"),
        ({"scale": "log"}, r"scale must be one of \('raw', 'minmax'\), got 'log'"),
        (
            {"encoder": Table({"q": [1, 2, 3, 4]})},
            "encoder must give vectors as wide as dense, 2, got 4",
        ),
        (
            {"image_encoder": Table({"q": [1, 2]})},
            "image_encoder must give vectors as wide as vision, 3, got 2",
        ),
    ],
)
def test_refuses_settings_that_are_none(settings, message):
    with pytest.raises(ValueError, match=message):
        made(**settings)
