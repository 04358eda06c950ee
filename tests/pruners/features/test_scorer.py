"""The scorer: batches, order and memory of passages, vectors of an index, odd texts, refusals."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruners.features.features import FEATURES
from pruners.features.head import FeatureHead, Network
from pruners.features.scorer import FeatureScorer
from pruners.scored_texts import sentence_texts
from rag.records import Passage, Query, Span
from rag.text.sentences import split_sentences

ROOT = Path(__file__).parents[3]


def passage(text, id_="p", title=""):
    return Passage(id_, id_, text, Span(0, len(text)), split_sentences(text), title=title)


def random_head(encoder, seed=0):
    rng = np.random.default_rng(seed)
    sizes = [len(FEATURES), 8, 8, 1]
    layers = tuple(
        (
            rng.normal(size=(sizes[row], sizes[row + 1]), scale=0.3).astype(np.float32),
            np.zeros(sizes[row + 1], np.float32),
        )
        for row in range(3)
    )
    width = np.ones(len(FEATURES), np.float32)
    return FeatureHead((Network(0 * width, width, layers),), encoder.name, encoder.fingerprint)


class Hashed:
    """Unit vectors from hashes of the texts, for tests that cannot have a fixture."""

    name, fingerprint, dim = "hashed", "a" * 64, 16

    def encode_queries(self, texts):
        return self.encode(texts)

    def encode(self, texts, *, progress=None):
        digests = [hashlib.sha256(text.encode("utf-8", "replace")).digest() for text in texts]
        vectors = np.array([np.frombuffer(d, np.uint16) for d in digests], np.float32) - 32767.5
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def made_scorer():
    encoder = Hashed()
    return FeatureScorer(encoder, random_head(encoder))


@pytest.fixture
def scorer(encoder):
    return FeatureScorer(encoder, random_head(encoder))


POOL = [
    passage("Cork is a city. It lies in Ireland. Ann Lee was born there in 1900.", "a", "Cork"),
    passage("Kiss is a film by Ann Lee. It ran long.", "b", "Kiss (film)"),
    passage("One sentence only.", "c"),
    passage("", "d"),
    passage("Cork is a city. Cork is light.", "e", "Cork (material)"),
]
ASKED = Query("Where was the director of Kiss born?")


def values(found):
    return [list(scores.sentences) for scores in found]


def close(found, wanted):
    assert [len(f) for f in found] == [len(w) for w in wanted]
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_scores_are_probabilities_one_a_sentence(scorer):
    found = values(scorer(ASKED, POOL))
    assert [len(scores) for scores in found] == [len(p.sentences) for p in POOL]
    assert all(1e-6 <= score <= 1.0 for scores in found for score in scores)
    assert len({score for scores in found for score in scores}) > 3


@given(order=st.permutations(range(5)))
def test_the_order_of_passages_does_not_matter(order):
    made = made_scorer()
    wanted = values(made(ASKED, POOL))
    close(values(made(ASKED, [POOL[row] for row in order])), [wanted[row] for row in order])


def test_the_threshold_is_the_head_s_or_unknown(encoder, scorer):
    assert scorer.threshold is None
    tuned = replace(random_head(encoder), thresholds={"0.90": 0.3, "0.95": 0.2})
    assert FeatureScorer(encoder, tuned).threshold == 0.2


def test_a_batch_gives_what_each_query_gives(scorer):
    queries = [ASKED, Query("What is cork?"), Query("Who?")]
    sets = [POOL, POOL[:1], []]
    batch = scorer.score_batch(queries, sets)
    for query, passages, found in zip(queries, sets, batch, strict=True):
        close(values(found), values(scorer(query, passages)))


def test_a_batch_encodes_each_text_once(scorer, encoder):
    scorer.score_batch([ASKED, ASKED], [POOL, POOL])
    of_passages = [text for p in POOL for text in sentence_texts(p)]
    assert sorted(encoder.texts) == sorted([ASKED.text] * 2 + list(dict.fromkeys(of_passages)))


def test_a_passage_alone_is_scored(scorer):
    assert len(scorer(ASKED, POOL[:1])[0].sentences) == len(POOL[0].sentences)
    assert len(scorer(ASKED, POOL[2:3])[0].sentences) == 1


def test_without_sentences_nothing_is_encoded(scorer, encoder):
    assert values(scorer(ASKED, [POOL[3]])) == [[]]
    assert values(scorer(ASKED, [])) == []
    assert encoder.texts == []


def test_an_empty_passage_beside_others_changes_nothing(scorer):
    found = values(scorer(ASKED, [POOL[3], POOL[0], POOL[3]]))
    close(found, [[], *values(scorer(ASKED, [POOL[0]])), []])


def test_vectors_of_an_index_are_used_as_they_are(encoder):
    head = random_head(encoder)
    known = {p.id: encoder.encode(sentence_texts(p)) for p in POOL if p.sentences}
    encoder.texts.clear()
    kept = FeatureScorer(encoder, head, lambda p: known[p.id])
    found = values(kept(ASKED, POOL))
    assert encoder.texts == [ASKED.text]
    close(found, values(FeatureScorer(encoder, head)(ASKED, POOL)))


def test_other_vectors_give_other_scores(encoder):
    head = random_head(encoder)
    other = FeatureScorer(encoder, head, lambda p: -encoder.encode(sentence_texts(p)))
    assert values(other(ASKED, POOL)) != values(FeatureScorer(encoder, head)(ASKED, POOL))


def test_vectors_of_another_shape_are_refused(encoder):
    bad = FeatureScorer(encoder, random_head(encoder), lambda p: np.zeros((1, 16)))
    with pytest.raises(ValueError, match=r"must be \(3, 16\), got \(1, 16\)"):
        bad(ASKED, POOL[:1])


def test_vectors_that_are_not_finite_are_refused(encoder):
    bad = FeatureScorer(encoder, random_head(encoder), lambda p: np.full((3, 16), np.nan))
    with pytest.raises(ValueError, match="sentence vectors must be finite"):
        bad(ASKED, POOL[:1])


def test_another_encoder_is_refused_and_both_are_named(encoder):
    head = random_head(encoder)
    encoder.fingerprint, encoder.name = "e" * 64, "other"
    with pytest.raises(
        ValueError, match=r"'hash' \(ffffffffffff\), got 'other' \(eeeeeeeeeeee\)"
    ) as e:
        FeatureScorer(encoder, head)
    assert "dovetail train pruner DATA -o DIR --kind features" in str(e.value)


def test_a_passage_with_the_same_id_and_another_title_is_another(scorer):
    one = passage("Cork is a city.", title="Cork")
    scorer(ASKED, [one])
    other = passage("Cork is a city.", title="Kiss")
    fresh = FeatureScorer(scorer._encoder, scorer._head)
    assert values(scorer(ASKED, [other])) == values(fresh(ASKED, [other]))
    assert values(scorer(ASKED, [other])) != values(scorer(ASKED, [one]))


@given(text=st.text(max_size=200), title=st.text(max_size=20))
def test_any_text_is_scored(text, title):
    given_ = passage(text, title=title)
    (found,) = made_scorer()(Query("What is it, e\u0301 \u2028?"), [given_])
    assert len(found.sentences) == len(given_.sentences)
    assert all(1e-6 <= score <= 1.0 for score in found.sentences)


@pytest.mark.parametrize(
    "text",
    [
        "👩‍👩‍👧 eats. e\u0301a\u0301! שלום. \0",
        "日本語の文。次の文。",
        "a\r\nb\u2028c",
        "x" * 1_000_000,
    ],
    ids=["marks", "cjk", "lines", "long"],
)
def test_odd_texts_are_scored(scorer, text):
    given_ = passage(text)
    assert len(scorer(ASKED, [given_])[0].sentences) == len(given_.sentences)


PROGRAM = """
import sys; sys.path.insert(0, "tests/pruners/features")
from test_scorer import ASKED, POOL, made_scorer
print([score.hex() for found in made_scorer()(ASKED, POOL) for score in found.sentences])
"""


def test_another_process_with_another_hash_seed_gives_the_same_bytes():
    said = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1
    assert b"0x" in said.pop()
