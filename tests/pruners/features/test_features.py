"""Features of sentences: worked values, BM25 against its definition, order of passages, edges."""

import numpy as np
import pytest

from pruners.features.asked import question_facts
from pruners.features.facts import passage_facts
from pruners.features.features import FEATURES, sentence_features
from pruners.features.sentence_set import SentenceSet
from rag.records import Passage, Span
from rag.text.bm25 import bm25_scores
from rag.text.terms import query_terms, terms


def passage(*sentences, title=""):
    text = " ".join(sentences)
    spans, start = [], 0
    for row, sentence in enumerate(sentences):
        end = start + len(sentence) + (row < len(sentences) - 1)
        spans.append(Span(start, end))
        start = end
    return Passage(title, title, text, Span(0, len(text)), tuple(spans), title=title)


def features(question, passages, seed=0, dim=8):
    rng = np.random.default_rng(seed)
    made = rng.normal(size=(1 + sum(len(p.sentences) for p in passages), dim))
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    together = SentenceSet(
        question_facts(question), made[0], [passage_facts(p) for p in passages], made[1:]
    )
    return dict(zip(FEATURES, sentence_features(together).T, strict=True)), together


FILM = passage("Kiss is a film of 1945 by Ann Lee.", "It ran long.", title="Kiss (film)")
LEE = passage("Ann Lee was born in Cork.", title="Ann Lee")
ASKED = "Where was the director of Kiss born?"


def test_bm25_is_that_of_title_and_sentence_over_all_given():
    found, _ = features(ASKED, [FILM, LEE])
    texts = [f"{p.title} {s.of(p.text)}" for p in (FILM, LEE) for s in p.sentences]
    wanted = bm25_scores(query_terms(ASKED), [terms(text) for text in texts])
    np.testing.assert_allclose(found["bm25"], wanted, rtol=1e-5)
    np.testing.assert_allclose(found["bm25.value"], np.array(wanted) / max(wanted), rtol=1e-5)


def test_overlap_counts_terms_of_the_sentence_and_match_those_of_the_title_too():
    found, _ = features(ASKED, [FILM, LEE])  # terms: director, kiss, born
    np.testing.assert_allclose(found["overlap.value"], [1 / 3, 0, 1 / 3])
    weight = np.log1p([8, 4, 4])
    weight /= weight.sum()
    np.testing.assert_allclose(found["match"], [weight[1], weight[1], weight[2]], rtol=1e-6)
    np.testing.assert_allclose(found["passage_match"], found["match"], rtol=1e-6)


def test_titles_and_names_say_what_the_question_named():
    found, _ = features(ASKED, [FILM, LEE])
    assert found["subject_is_asked"].tolist() == [1, 1, 0]
    assert found["log_asked_subjects"] == pytest.approx([np.log(2)] * 3)
    assert found["title_match"].tolist() == [0.5, 0.5, 0.0]
    # Ann and Lee are new in the film's passage; in Lee's own the title has them, and Cork is new.
    assert found["log_new_names"] == pytest.approx(np.log([3, 1, 2]))


def test_names_that_the_question_has_are_known_and_not_new():
    found, _ = features("Where was Ann Lee born, in Cork?", [FILM, LEE])
    assert found["log_new_names"] == pytest.approx(np.log([1, 1, 1]))
    np.testing.assert_allclose(found["asked_names"], [2 / 3, 0, 2 / 3], rtol=1e-6)


def test_the_residual_asks_for_what_the_best_sentence_elsewhere_does_not_say():
    found, together = features(ASKED, [FILM, LEE])
    query, vectors, cosine = together.query, together.vectors.astype(float), together.cosine
    for row, others in ((0, [2]), (1, [2]), (2, [0, 1])):
        best = max(others, key=lambda other: cosine[other])
        rest = query - (query @ vectors[best]) * vectors[best]
        wanted = vectors[row] @ rest / np.linalg.norm(rest)
        assert found["residual"][row] == pytest.approx(wanted, abs=1e-5)


def test_a_passage_alone_has_no_residual():
    found, _ = features(ASKED, [FILM])
    assert found["residual"].tolist() == [0, 0]
    assert found["log_passages"].tolist() == [0, 0]


def test_the_order_of_passages_does_not_matter():
    passages = [passage(*[f"Word{row} is {n}." for n in range(row + 1)]) for row in range(5)]
    together = features("Is word3 or word1 older?", passages)[1]
    parts = np.split(together.vectors, together.starts[1:])
    order = [3, 0, 4, 2, 1]
    moved = SentenceSet(
        together.asked,
        together.query,
        [together.passages[row] for row in order],
        np.concatenate([parts[row] for row in order]),
    )
    before = np.split(sentence_features(together), together.starts[1:])
    after = np.split(sentence_features(moved), moved.starts[1:])
    for place, row in enumerate(order):
        np.testing.assert_allclose(after[place], before[row], atol=1e-6)


@pytest.mark.parametrize("question", ["?", "the", "日本?", "\0"])
def test_any_question_and_empty_sentence_give_finite_features(question):
    found, _ = features(question, [passage("", " ", "x"), passage("日本語の文。", title="日本")])
    assert all(np.isfinite(column).all() for column in found.values())


def test_names_are_unique():
    assert len(set(FEATURES)) == len(FEATURES)
