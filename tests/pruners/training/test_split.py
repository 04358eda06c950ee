"""Split of labelled passages: no leak, stable, and of about the share that was asked for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruners.training.labelled import LabelledPassage
from pruners.training.split import question_key, split_by_passage


def one(number, question, passage, gold=True):
    sentences = (f"Text {passage}.", "More.")
    return LabelledPassage(
        f"{number}", "s", f"Q {question}?", "", sentences, frozenset({0} if gold else ())
    )


pairs = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12), st.booleans()), max_size=40)


@given(pairs, st.floats(0, 0.9), st.integers(0, 5))
def test_no_passage_and_no_question_stands_on_both_sides(drawn, share, seed):
    examples = [one(n, *pair) for n, pair in enumerate(drawn)]
    train, out = split_by_passage(examples, share, seed)
    assert not {e.key for e in train} & {e.key for e in out}
    assert not {question_key(e.question) for e in train} & {question_key(e.question) for e in out}
    assert sum(bool(e.gold) for e in out) <= share * len(examples) + 1e-6
    # What is in neither part is a negative that would have linked the two.
    lost = {e.id for e in examples} - {e.id for e in (*train, *out)}
    assert not any(e.gold for e in examples if e.id in lost)


@given(pairs, st.randoms(use_true_random=False))
def test_the_order_of_examples_does_not_matter(drawn, random):
    examples = [one(n, *pair) for n, pair in enumerate(drawn)]
    shuffled = examples.copy()
    random.shuffle(shuffled)
    first, second = split_by_passage(examples, 0.3), split_by_passage(shuffled, 0.3)
    for a, b in zip(first, second, strict=True):
        assert sorted(e.id for e in a) == sorted(e.id for e in b)


def test_keeps_the_given_order_and_reaches_the_share():
    examples = [one(n, n, n) for n in range(100)]
    train, out = split_by_passage(examples, 0.29)
    assert len(out) == 29
    assert [e.id for e in train] == sorted((e.id for e in train), key=int)
    assert split_by_passage(examples, 0.29, seed=1)[1] != out
    assert split_by_passage(examples, 0.0) == (examples, [])
    assert split_by_passage([], 0.5) == ([], [])


def test_a_chain_of_gold_rows_stays_together():
    chain = [one(0, 0, 0), one(1, 0, 1), one(2, 1, 1), one(3, 1, 2)]
    train, out = split_by_passage([*chain, *(one(n, n, n) for n in range(10, 30))], 0.5)
    sides = {e.id in {x.id for x in out} for e in chain}
    assert len(sides) == 1
    assert len(train) + len(out) == 24


def test_a_negative_between_two_groups_links_nothing_and_is_dropped_between_sides():
    groups = [one(n, n, n) for n in range(20)]
    bridges = [one(100 + n, n, (n + 1) % 20, gold=False) for n in range(20)]
    train, out = split_by_passage([*groups, *bridges], 0.2)
    held = {int(e.id) for e in out if int(e.id) < 100}
    assert held
    assert len(held) < 20
    for n in range(20):
        sides = {n in held, (n + 1) % 20 in held}
        placed = {e.id for e in (*train, *out)}
        assert (f"{100 + n}" in placed) == (len(sides) == 1)


def test_a_negative_passage_of_no_other_question_follows_its_question():
    examples = [one(n, n, n) for n in range(10)]
    examples += [one(100 + n, n, 50 + n, gold=False) for n in range(10)]
    train, out = split_by_passage(examples, 0.4)
    assert len(train) + len(out) == 20
    assert {int(e.id) % 100 for e in out} & {int(e.id) % 100 for e in train} == set()


def test_case_and_marks_do_not_tell_two_questions_apart():
    assert question_key("Who is  it?") == question_key("who IS it")


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_refuses_a_share_out_of_its_range(share):
    with pytest.raises(ValueError, match=r"held_out must be in \[0, 1\), got"):
        split_by_passage([], share)
