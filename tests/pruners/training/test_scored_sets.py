"""Scored sets: near passages, log-odds of the prior, and the pairs of an epoch."""

import math

import numpy as np
import pytest

from pruners.training.prior_file import remembered_priors
from pruners.training.question_sets import given_sets
from pruners.training.scored_sets import grown_sets, pairs_of_epoch, priors_of, scored_sets
from pruners.training.sentence_vectors import RememberedVectors
from rag.training.watching import Unwatched


@pytest.fixture
def grown(examples, encoder):
    data = examples(24)
    vectors = RememberedVectors(encoder)
    return data, grown_sets(data, encoder, vectors, most=3, seed=0)


def test_sets_grow_by_up_to_so_many_near_passages(grown, encoder):
    data, sets = grown
    more = [len(one.rows) - 1 for one in sets]
    assert set(more) == {0, 1, 2, 3}
    for one in sets:
        assert len({data[row].key for row in one.rows}) == len(one.rows)
        assert all(not gold for gold in one.gold[1:])
    again = grown_sets(data, encoder, RememberedVectors(encoder), most=3, seed=0)
    assert again == sets
    assert grown_sets(data, encoder, RememberedVectors(encoder), most=3, seed=1) != sets
    assert grown_sets(data, encoder, RememberedVectors(encoder), most=0, seed=0) == given_sets(data)


def test_log_odds_stand_at_their_sentences(grown, prior):
    data, sets = grown
    made = scored_sets(sets, data, priors_of(sets, data, prior))
    for one, of in zip(made, sets, strict=True):
        assert one.given == 1
        for pair, row, gold in zip(one.pairs, of.rows, of.gold, strict=True):
            assert pair.sentences == data[row].sentences
            assert pair.gold == gold
            assert pair.question == of.question
            for span, said in zip(data[row].passage().sentences, pair.prior, strict=True):
                score = min(0.9, 0.1 + len(span) / 100)
                assert said == pytest.approx(math.log(score / (1 - score)), abs=1e-6)


def test_an_epoch_shows_all_given_pairs_and_some_near_ones(grown):
    data, sets = grown
    made = scored_sets(sets, data)
    assert all(pair.prior == () for one in made for pair in one.pairs)
    given = [one.pairs[0] for one in made]
    assert pairs_of_epoch(made, 0, 0, 0) == given
    shown = pairs_of_epoch(made, 2, 0, 0)
    assert [pair for pair in shown if pair in given] == given
    assert len(shown) == len(given) + sum(min(2, len(one.pairs) - 1) for one in made)
    assert shown == pairs_of_epoch(made, 2, 0, 0)
    assert shown != pairs_of_epoch(made, 2, 0, 1)


def test_refuses_priors_of_other_sets(grown):
    data, sets = grown
    with pytest.raises(ValueError, match=r"priors must be one a sentence, \d+, got 3"):
        scored_sets(sets, data, np.zeros(3, np.float32))


def test_priors_on_disk_are_used_only_for_what_they_were_made_of(grown, prior, tmp_path):
    data, sets = grown

    def remembered(made_of):
        return remembered_priors(tmp_path, made_of, sets, data, prior, Unwatched())

    first = remembered({"a": 1})
    calls = prior.calls
    assert np.array_equal(remembered({"a": 1}), first)
    assert prior.calls == calls
    remembered({"a": 2})
    assert prior.calls == 2 * calls
    (tmp_path / "priors.safetensors").write_bytes(b"damaged")
    assert np.array_equal(remembered({"a": 2}), first)
    assert prior.calls == 3 * calls


class Told:
    def __init__(self):
        self.stages, self.steps = [], 0

    def stage(self, name, total):
        self.stages.append((name, total))

    def advance(self, steps=1):
        self.steps += steps


def test_vectors_are_made_once_a_text(examples, encoder):
    vectors = RememberedVectors(encoder)
    passages = [one.passage() for one in examples(4)]
    told = Told()
    vectors.learn([*passages, *passages], told)
    texts = list(encoder.texts)
    assert len(texts) == len(set(texts))
    assert told.stages == [("encode", len(texts))]
    assert told.steps == len(texts)
    found = vectors(passages[0])
    assert np.array_equal(found, encoder.encode([texts[0], texts[1], texts[2]]))
    encoder.texts.clear()
    vectors.learn(passages)
    assert encoder.texts == []
    (other,) = [one.passage() for one in examples(1, first=9)]
    assert vectors(other).shape == (3, encoder.dim)
    assert len(encoder.texts) == 3
