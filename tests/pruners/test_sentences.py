"""Sentence pruning: by hand, by the definition, the promises of a pruner, budgets and failures."""

import json
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruners import SentencePruner, sentence_texts
from rag.errors import ModelNotFoundError
from rag.protocols import Pruner
from rag.records import Budget, Passage, Query, Span
from rag.text.bm25 import bm25_scores
from rag.text.terms import query_terms, terms

DATA = Path(__file__).parents[2] / "../shared/data"
LETTERS = "abcdefghijklmnopqrstuvwxyz"


class LetterEncoder:
    """Counts letters: alike words, alike vectors."""

    name = fingerprint = "letters"
    dim = 27

    def __init__(self):
        self.calls = []

    def encode_queries(self, texts):
        return self.encode(texts)

    def encode(self, texts, *, progress=None):
        self.calls.append(len(texts))
        counts = [[1, *(text.lower().count(letter) for letter in LETTERS)] for text in texts]
        vectors = np.array(counts, np.float32).reshape(-1, 27)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Broken(LetterEncoder):
    def __init__(self, outcome):
        self.outcome = outcome

    def encode_queries(self, texts):
        return self.encode(texts)

    def encode(self, texts, *, progress=None):
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return np.full((len(texts), 27), self.outcome)


def passage(*sentences, id_="p", title="", score=None):
    ends = np.cumsum([0, *map(len, sentences)]).tolist()
    spans = tuple(Span(a, b) for a, b in pairwise(ends))
    text = "".join(sentences)
    return Passage(id_, "doc", text, Span(0, len(text)), spans, title=title, score=score)


def pruner(**fields):
    return SentencePruner(**{"encoder": LetterEncoder()} | fields)


def kept(selections):
    """Return {(passage id, row)} of what stays."""
    return {(s.passage_id, row) for s in selections for row in s.kept_rows}


QUERY = Query("Where do red cats sleep?")
PASSAGES = [
    passage("Red cats sleep on sofas. ", "They purr.\n", "Cats eat fish.", id_="a", score=0.9),
    passage("Tax law is old. ", "A red cat may sleep.", id_="b", title="Law", score=0.5),
    passage(id_="c"),
    passage("Quiz. ", "Vow.", id_="d", score=0.1),
]
SENTENCE = st.text(st.sampled_from("redcatsloq .\u0301😀\n猫"), min_size=1, max_size=20)
SETS = st.lists(st.lists(SENTENCE, max_size=5), max_size=4).map(
    lambda sets: [passage(*sentences, id_=f"p{row}") for row, sentences in enumerate(sets)]
)


def test_one_term_by_hand():
    # By terms alone: only the first sentence holds the word, so it has the largest BM25, score 1.
    found = pruner(similarity_weight=0.0).select(
        Query("cats"), [passage("Cats purr. ", "Dogs bark.")]
    )
    assert [(s.score, s.kept) for s in found[0].sentences] == [(1.0, True), (1e-6, False)]
    assert (found[0].method, found[0].threshold) == ("sentences", 0.28)


def test_vectors_alone_give_the_cosine():
    encoder = LetterEncoder()
    found = pruner(similarity_weight=1.0).select(QUERY, PASSAGES[:1])[0]
    asked, *others = encoder.encode([QUERY.text, *sentence_texts(PASSAGES[0])]).astype(float)
    assert [s.score for s in found.sentences] == pytest.approx([asked @ other for other in others])


@given(passages=SETS, weight=st.sampled_from([0.0, 0.3, 0.6, 1.0]))
def test_matches_the_definition(passages, weight):
    texts = [(p, p.title + s.of(p.text).strip()) for p in passages for s in p.sentences]
    found = bm25_scores(query_terms(QUERY.text), [terms(text) for _, text in texts])
    encoder, expected = LetterEncoder(), []
    asked = encoder.encode([QUERY.text])[0]
    for (_, text), bm25 in zip(texts, found, strict=True):
        share = bm25 / max(found) if max(found) > 0 else 0.0
        cosine = max(0.0, float(asked @ encoder.encode([text])[0]))
        expected.append(min(1.0, max(1e-6, weight * cosine + (1 - weight) * share)))
    selections = pruner(similarity_weight=weight).select(QUERY, passages)
    assert [s.score for x in selections for s in x.sentences] == pytest.approx(expected, abs=1e-6)


def test_the_title_stands_before_each_sentence():
    assert sentence_texts(PASSAGES[1]) == ["Law: Tax law is old.", "Law: A red cat may sleep."]
    assert sentence_texts(PASSAGES[0])[0] == "Red cats sleep on sofas."


@given(passages=SETS)
def test_keeping_everything_is_the_identity(passages):
    for p, selection in zip(passages, pruner(threshold=0.0).select(QUERY, passages), strict=True):
        assert selection.text(p.text) == p.text
        assert selection.keep_ratio == 1.0
        assert all(1e-6 <= s.score <= 1.0 and s.forced is None for s in selection.sentences)


@given(passages=SETS, low=st.floats(0, 1), high=st.floats(0, 1), least=st.integers(0, 3))
def test_a_higher_threshold_only_drops(passages, low, high, least):
    low, high = sorted([low, high])
    more = pruner(threshold=low, min_keep=least).select(QUERY, passages)
    fewer = pruner(threshold=high, min_keep=least).select(QUERY, passages)
    assert kept(fewer) <= kept(more)


@given(passages=SETS, threshold=st.floats(0, 1))
def test_spans_partition_the_text_and_what_stays_is_a_subsequence(passages, threshold):
    for p, s in zip(passages, pruner(threshold=threshold).select(QUERY, passages), strict=True):
        assert "".join(x.span.of(p.text) for x in s.sentences) == p.text
        assert len(s.text(p.text)) <= len(p.text)
        pieces = iter(x.span.of(p.text) for x in s.sentences)
        assert all(x.span.of(p.text) in pieces for x in s.sentences if x.kept)


@given(passages=SETS, data=st.data())
def test_the_order_of_passages_makes_no_difference(passages, data):
    shuffled = data.draw(st.permutations(passages))
    budget = data.draw(st.sampled_from([None, Budget(8), Budget(3, 1, "passage")]))
    one = pruner().select(QUERY, passages, budget=budget)
    other = pruner().select(QUERY, shuffled, budget=budget)
    assert [s.passage_id for s in other] == [p.id for p in shuffled]
    assert {s.passage_id: s for s in one} == {s.passage_id: s for s in other}


def test_the_threshold_is_strict():
    exact = pruner(similarity_weight=0.0, min_keep=0, threshold=1.0)
    assert kept(exact.select(Query("cats"), [passage("Cats purr. ", "Dogs bark.")])) == set()
    just = replace(exact, threshold=1.0 - 1e-9)
    assert kept(just.select(Query("cats"), [passage("Cats purr. ", "Dogs bark.")])) == {("p", 0)}


def test_the_best_sentences_of_the_best_passage_are_saved_whatever_the_threshold():
    found = pruner(threshold=1.0, min_keep=2).select(QUERY, PASSAGES)
    assert {id_ for id_, _ in kept(found)} == {"a"}
    assert [s.forced for s in found[0].sentences].count("min_keep") == 2
    assert found[0].sentences[0].kept
    assert found[1].spans == ()


def test_a_sentence_above_the_threshold_is_not_called_saved():
    found = pruner(threshold=0.0).select(QUERY, PASSAGES)
    assert {s.forced for x in found for s in x.sentences} == {None}


def test_nothing_is_saved_where_nothing_is_asked_to_be():
    assert kept(pruner(threshold=1.0, min_keep=0).select(QUERY, PASSAGES)) == set()


def test_equal_scores_are_saved_by_passage_score_then_id_then_row():
    scores = {"x": 0.1, "z": 0.7, "y": 0.7}
    twins = [passage("Same. ", "Same. ", id_=i, score=s) for i, s in scores.items()]
    assert kept(pruner(threshold=1.0).select(QUERY, twins)) == {("y", 0)}


def test_passages_are_returned_in_order_with_the_decision_attached():
    operator = pruner()
    found = operator(QUERY, PASSAGES)
    assert [replace(p, kept=None) for p in found] == PASSAGES
    assert [p.kept for p in found] == operator.select(QUERY, PASSAGES)
    assert all(p.kept is None for p in PASSAGES)


@pytest.mark.parametrize("passages", [[], [PASSAGES[2]], [PASSAGES[2], PASSAGES[2]]])
def test_passages_without_sentences_ask_no_model(passages):
    operator = pruner()
    found = operator.select(QUERY, passages, budget=Budget(0))
    assert [s.sentences for s in found] == [()] * len(passages)
    assert operator.encoder.calls == []


def test_an_opposite_vector_takes_nothing_from_the_terms():
    opposite = -LetterEncoder().encode([QUERY.text])
    operator = pruner(sentence_vectors=lambda p: opposite, similarity_weight=0.6)
    found = operator.select(QUERY, [passage("Red cats sleep.")])[0]
    assert found.sentences[0].score == pytest.approx(0.4)


def test_by_terms_alone_no_model_is_asked():
    operator = pruner(similarity_weight=0.0)
    operator.select(QUERY, PASSAGES)
    assert operator.encoder.calls == []


def test_kept_vectors_give_the_same_selection_from_one_query_vector():
    encoder = LetterEncoder()
    kept_vectors = {p.id: encoder.encode(sentence_texts(p)) for p in PASSAGES}
    operator = pruner(sentence_vectors=lambda p: kept_vectors[p.id])
    assert operator.select(QUERY, PASSAGES) == pruner().select(QUERY, PASSAGES)
    assert operator.encoder.calls == [1]


def tokens(passages, selections):
    counts = Counter()
    for p, s in zip(passages, selections, strict=True):
        counts[p.id] += sum(len(x.span.of(p.text).split()) for x in s.sentences if x.kept)
    return counts


@given(
    passages=SETS,
    budgets=st.tuples(st.integers(0, 12), st.integers(0, 12)).map(sorted),
    least=st.integers(0, 2),
    scope=st.sampled_from(["query", "passage"]),
    threshold=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_a_larger_budget_only_adds_and_is_never_exceeded(
    passages, budgets, least, scope, threshold
):
    operator = pruner(threshold=threshold, count=lambda text: len(text.split()))
    small, large = (
        operator.select(QUERY, passages, budget=Budget(b, least, scope)) for b in budgets
    )
    assert kept(small) <= kept(large)
    for selections, budget in ((small, budgets[0]), (large, budgets[1])):
        spent = tokens(passages, selections)
        assert (spent.total() if scope == "query" else max(spent.values(), default=0)) <= budget


@given(passages=SETS, threshold=st.floats(0, 1))
def test_a_budget_for_everything_changes_nothing(passages, threshold):
    operator = pruner(threshold=threshold)
    assert operator.select(QUERY, passages, budget=Budget(10**6)) == operator.select(
        QUERY, passages
    )


def test_a_budget_stops_at_the_first_sentence_that_does_not_fit():
    long_best = passage("cats cats cats cats. ", "cats purr. ", "Dogs bark.")
    operator = pruner(similarity_weight=0.0, count=lambda text: len(text.split()))
    found = operator.select(Query("cats"), [long_best], budget=Budget(3))[0]
    assert [s.score for s in found.sentences] == sorted(
        (s.score for s in found.sentences), reverse=True
    )
    assert [(s.kept, s.forced) for s in found.sentences] == [
        (False, "budget"), (False, "budget"), (False, None)
    ]  # fmt: skip
    roomier = operator.select(Query("cats"), [long_best], budget=Budget(5))[0]
    assert [s.kept for s in roomier.sentences] == [True, False, False]


def test_a_minimum_of_each_passage_comes_first():
    near = [passage("Red cats. ", "Red cats sleep. ", "Cats.", id_="a"), *PASSAGES[1:]]
    operator = pruner(threshold=0.3, count=lambda text: 1)
    assert Counter(id_ for id_, _ in kept(operator.select(QUERY, near)))["a"] == 3
    found = operator.select(QUERY, near, budget=Budget(3, per_passage_min=1))
    assert Counter(id_ for id_, _ in kept(found)) == {"a": 1, "b": 1, "d": 1}
    assert {s.forced for x in found for s in x.sentences if s.kept} <= {"min_keep", None}


def test_a_budget_a_passage_is_spent_by_each():
    operator = pruner(threshold=0.0, count=lambda text: 1)
    found = operator.select(QUERY, PASSAGES, budget=Budget(1, scope="passage"))
    assert Counter(id_ for id_, _ in kept(found)) == {"a": 1, "b": 1, "d": 1}


@pytest.mark.parametrize("outcome", [RuntimeError("out of memory"), np.nan, np.inf])
def test_a_failing_encoder_keeps_everything_and_says_so(outcome):
    with pytest.warns(RuntimeWarning, match="kept every sentence, as scoring them failed"):
        found = pruner(encoder=Broken(outcome)).select(QUERY, PASSAGES)
    assert [s.text(p.text) for p, s in zip(PASSAGES, found, strict=True)] == [
        p.text for p in PASSAGES
    ]
    assert {s.forced for x in found for s in x.sentences} == {"error"}


def test_a_failure_still_respects_the_budget_best_passages_first():
    operator = pruner(encoder=Broken(RuntimeError()), count=lambda text: 1)
    with pytest.warns(RuntimeWarning):
        found = operator.select(QUERY, PASSAGES, budget=Budget(4))
    assert kept(found) == {("a", 0), ("a", 1), ("a", 2), ("b", 0)}


def test_a_failure_can_be_let_through():
    with pytest.raises(RuntimeError, match="out of memory"):
        pruner(encoder=Broken(RuntimeError("out of memory")), on_error="raise").select(
            QUERY, PASSAGES
        )


@pytest.mark.parametrize("shape", [(2, 27), (3, 5)])
def test_kept_vectors_of_another_shape_are_an_error(shape):
    operator = pruner(sentence_vectors=lambda p: np.ones(shape), on_error="raise")
    with pytest.raises(ValueError, match=r"sentence vectors must be \(3, 27\), got"):
        operator.select(QUERY, PASSAGES[:1])


@pytest.mark.parametrize(
    "text",
    [
        "\x00 ",
        "e\u0301\r\n",
        "\u2028",
        "👩‍👩‍👧 ",
        "שלום. ",
        "猫です。",
        "\ud800 ",
        " \n",
        "x" * 10**5,
    ],
)
def test_any_text_is_kept_or_dropped_whole(text):
    odd = passage("Red cats sleep. ", text)
    found = pruner(threshold=0.0).select(QUERY, [odd])[0]
    assert found.text(odd.text) == odd.text


def test_satisfies_the_protocol_and_holds_no_state():
    operator: Pruner = pruner()
    assert operator.select(QUERY, PASSAGES) == operator.select(QUERY, PASSAGES)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"threshold": -0.1}, "threshold must be at least 0, got -0.1"),
        ({"threshold": float("nan")}, "got nan"),
        ({"similarity_weight": 1.5}, r"similarity_weight must be in \[0, 1\], got 1.5"),
        ({"min_keep": -1}, "min_keep must be at least 0, got -1"),
        ({"on_error": "ignore"}, "on_error must be 'keep' or 'raise', got 'ignore'"),
    ],
)
def test_rejects_fields_out_of_range(fields, message):
    with pytest.raises(ValueError, match=message):
        pruner(**fields)


@pytest.mark.slow
def test_the_defaults_keep_gold_sentences_and_drop_text():
    """40 NQ questions, each with its passage and two others."""
    if not DATA.exists():
        pytest.skip(f"no development data at {DATA}")
    import gzip

    from rag.models import load_encoder

    try:
        operator = SentencePruner(load_encoder())
    except ModelNotFoundError as error:
        pytest.skip(str(error))
    with gzip.open(DATA / "nq/corpus.jsonl.gz", "rt") as file:
        corpus = {line["id"]: line for line in map(json.loads, file)}
    with (DATA / "nq/queries.jsonl").open() as file:
        queries = [line for line in map(json.loads, file) if line["label_level"] == "sentence"][:40]
    others = [q["supporting"][0]["doc_id"] for q in queries]
    gold = found = characters = total = 0
    for row, q in enumerate(queries):
        ids = dict.fromkeys([others[row], others[row - 1], others[row - 2]])
        passages = [
            passage(*(s + " " for s in corpus[i]["sentences"]), id_=i, title=corpus[i]["title"])
            for i in ids
        ]
        selections = {s.passage_id: s for s in operator.select(Query(q["question"]), passages)}
        for label in q["supporting"]:
            gold += len(label["sentence_ids"])
            found += len(set(label["sentence_ids"]) & set(selections[label["doc_id"]].kept_rows))
        characters += sum(len(span) for s in selections.values() for span in s.spans)
        total += sum(len(p.text) for p in passages)
    assert found / gold >= 0.9
    assert characters / total <= 0.75
