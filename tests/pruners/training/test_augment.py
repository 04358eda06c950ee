"""Augmentation: labels and priors move with their sentences, and gold may stand anywhere."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruners.training.augment import NO_AUGMENTATION, Augmentation, TrainingPair

PAIR = TrainingPair(
    "Who is it?", "T", ("s0", "s1", "s2", "s3"), frozenset({2}), (0.0, 1.0, 2.0, 3.0)
)
ALWAYS = Augmentation(1.0, 1.0, 1.0, 1.0)


@given(
    st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1)))),
    st.integers(0, 999),
)
def test_every_sentence_keeps_its_label_and_its_prior(drawn, seed):
    count, gold = drawn
    sentences = tuple(f"s{row}" for row in range(count))
    pair = TrainingPair("q?", "t", sentences, frozenset(gold), tuple(map(float, range(count))))
    changed = ALWAYS(pair, random.Random(seed))
    assert min(2, count) <= len(changed.sentences) <= count
    assert len(set(changed.sentences)) == len(changed.sentences)
    for place, sentence in enumerate(changed.sentences):
        row = int(sentence[1:])
        assert (place in changed.gold) == (row in gold)
        assert changed.prior[place] == row
    assert changed.title == ""
    assert changed.question == "q"


def test_a_pair_without_a_prior_stays_without():
    assert ALWAYS(TrainingPair("q", "", ("a", "b"), frozenset()), random.Random(0)).prior == ()


def test_changes_nothing_at_probability_zero():
    assert all(NO_AUGMENTATION(PAIR, random.Random(seed)) == PAIR for seed in range(50))


def test_the_same_generator_makes_the_same_pair():
    change = Augmentation(0.5, 0.5, 0.5, 0.5)
    made = [[change(PAIR, random.Random(seed)) for seed in range(40)] for _ in range(2)]
    assert made[0] == made[1]
    assert len(set(made[0])) > 10


def test_rotation_spreads_the_gold_sentence_evenly():
    change = Augmentation(1.0, 0.0, 0.0, 0.0)
    places = Counter(
        place for seed in range(4000) for place in change(PAIR, random.Random(seed)).gold
    )
    assert set(places) == {0, 1, 2, 3}
    assert all(850 < count < 1150 for count in places.values())


def test_a_question_of_marks_alone_stays():
    pair = TrainingPair("??", "", ("a",), frozenset())
    assert ALWAYS(pair, random.Random(0)).question == "??"


def test_refuses_a_probability_out_of_its_range():
    with pytest.raises(ValueError, match=r"crop must be in \[0, 1\], got 1.5"):
        Augmentation(crop=1.5)
