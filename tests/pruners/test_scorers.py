"""Scorers by terms and by vectors: by hand, by their definitions, batches and broken encoders."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruners import BM25Sentences, CosineSentences, SentenceMix, sentence_texts
from rag.protocols import SentenceScorer
from rag.records import Passage, Query, Span
from rag.text.bm25 import bm25_scores
from rag.text.terms import query_terms, terms

QUERY = Query("red cats")
LETTERS = "redcats"


class LetterEncoder:
    """Counts letters, less one: alike words, alike vectors, and some that are opposite."""

    name = fingerprint = "letters"
    dim = 7

    def __init__(self):
        self.calls = []

    def encode_queries(self, texts):
        return self.encode(texts)

    def encode(self, texts, *, progress=None):
        self.calls.append(len(texts))
        counts = [[text.count(letter) - 0.5 for letter in LETTERS] for text in texts]
        vectors = np.array(counts, np.float32).reshape(-1, 7)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def passage(*sentences, id_="p", title=""):
    text = "".join(sentences)
    ends = [sum(map(len, sentences[:n])) for n in range(len(sentences) + 1)]
    spans = tuple(Span(a, b) for a, b in pairwise(ends))
    return Passage(id_, "doc", text, Span(0, len(text)), spans, title=title)


A = passage("Red cats. ", "Dogs bark. ", "A cat.", id_="a")
B = passage("Red.", id_="b", title="Colours")
EMPTY = passage(id_="c")
SENTENCE = st.text(st.sampled_from("redcats .猫\u0301\n"), min_size=1, max_size=12)
SETS = st.lists(st.lists(SENTENCE, max_size=4), max_size=3).map(
    lambda sets: [passage(*sentences, id_=f"p{row}") for row, sentences in enumerate(sets)]
)


def flat(scores):
    return [score for of_passage in scores for score in of_passage.sentences]


def test_bm25_is_a_share_of_the_best():
    found = BM25Sentences()(QUERY, [A, B, EMPTY])
    assert found[0].sentences[0] == 1.0
    assert found[0].sentences[1] == 1e-6
    assert 1e-6 < found[1].sentences[0] < 1.0
    assert found[2].sentences == ()


def test_bm25_of_no_shared_term_is_least_everywhere():
    assert flat(BM25Sentences()(Query("zebra"), [A, B])) == [1e-6] * 4


@given(passages=SETS)
def test_bm25_matches_the_definition(passages):
    texts = [span.of(p.text).strip() for p in passages for span in p.sentences]
    raw = bm25_scores(query_terms(QUERY.text), [terms(text) for text in texts])
    best = max(raw, default=0.0)
    expected = [max(1e-6, score / best) if best else 1e-6 for score in raw]
    assert flat(BM25Sentences()(QUERY, passages)) == pytest.approx(expected)


@given(passages=SETS)
def test_cosine_matches_the_definition(passages):
    encoder = LetterEncoder()
    asked = encoder.encode([QUERY.text])[0].astype(float)
    expected = [
        max(1e-6, float(asked @ encoder.encode([text])[0]))
        for p in passages
        for text in sentence_texts(p)
    ]
    found = flat(CosineSentences(encoder)(QUERY, passages))
    assert found == pytest.approx(expected, abs=1e-6)
    assert all(1e-6 <= score <= 1.0 for score in found)


def test_an_opposite_sentence_counts_as_little_as_one_can():
    opposite = -LetterEncoder().encode([QUERY.text])
    scorer = CosineSentences(LetterEncoder(), lambda p: opposite)
    assert scorer(QUERY, [B])[0].sentences == (1e-6,)


def test_the_query_itself_has_cosine_1():
    assert CosineSentences(LetterEncoder())(QUERY, [passage("red cats")])[0].sentences == (
        pytest.approx(1.0),
    )


def test_the_title_stands_before_each_sentence():
    encoder = LetterEncoder()
    (found,) = CosineSentences(encoder)(QUERY, [B])
    asked, other = encoder.encode([QUERY.text, "Colours: Red."])
    assert found.sentences == (pytest.approx(float(asked @ other), abs=1e-6),)


@pytest.mark.parametrize("kind", [CosineSentences, SentenceMix])
def test_a_batch_equals_a_loop_and_encodes_each_text_once(kind):
    encoder = LetterEncoder()
    queries, passages = [QUERY, Query("dogs")], [[A, B], [EMPTY, A]]
    found = kind(encoder).score_batch(queries, passages)
    assert encoder.calls == [2, 4]
    for query, of_query, scores in zip(queries, passages, found, strict=True):
        assert flat(scores) == pytest.approx(flat(kind(LetterEncoder())(query, of_query)))


@pytest.mark.parametrize("kind", [CosineSentences, SentenceMix])
def test_stored_vectors_are_read_and_no_sentence_is_encoded(kind):
    stored = {p.id: LetterEncoder().encode(sentence_texts(p)) for p in (A, B)}
    encoder = LetterEncoder()
    found = kind(encoder, sentence_vectors=lambda p: stored[p.id])(QUERY, [A, EMPTY, B])
    assert found == kind(LetterEncoder())(QUERY, [A, EMPTY, B])
    assert encoder.calls == [1]


def test_nothing_is_encoded_where_there_is_no_sentence():
    encoder = LetterEncoder()
    assert flat(CosineSentences(encoder)(QUERY, [EMPTY])) == []
    assert encoder.calls == []


@pytest.mark.parametrize("shape", [(2, 7), (3, 5), (3,)])
def test_vectors_of_another_shape_are_an_error(shape):
    scorer = CosineSentences(LetterEncoder(), lambda p: np.ones(shape))
    with pytest.raises(ValueError, match=r"sentence vectors must be \(3, 7\), got"):
        scorer(QUERY, [A])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_vectors_that_are_not_finite_are_an_error(bad):
    scorer = CosineSentences(LetterEncoder(), lambda p: np.full((3, 7), bad))
    with pytest.raises(ValueError, match="sentence vectors must be finite"):
        scorer(QUERY, [A])


@given(passages=SETS, data=st.data())
def test_the_order_of_passages_makes_no_difference(passages, data):
    shuffled = data.draw(st.permutations(passages))
    for scorer in (BM25Sentences(), CosineSentences(LetterEncoder())):
        scores = dict(zip([p.id for p in passages], scorer(QUERY, passages), strict=True))
        found = scorer(QUERY, shuffled)
        assert flat(found) == pytest.approx(flat(scores[p.id] for p in shuffled))


def test_satisfy_the_protocol():
    scorers: list[SentenceScorer] = [
        BM25Sentences(), CosineSentences(LetterEncoder()), SentenceMix(LetterEncoder())
    ]  # fmt: skip
    assert [scorer.name for scorer in scorers] == ["bm25", "cosine", "sentences"]
