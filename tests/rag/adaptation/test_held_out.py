"""Split of examples by article: no question and no needed article stands on both sides."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from rag.adaptation.held_out import article, split_examples
from rag.records import Query

_spec = importlib.util.spec_from_file_location(
    "made_examples", Path(__file__).with_name("made_examples.py")
)
made = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(made)


def examples(count, articles):
    """Return examples whose gold passage is of one of some articles, in turn."""
    return [
        replace(made.example(row, name=f"A{row % articles}"), query=Query(f"question {row}?"))
        for row in range(count)
    ]


def test_articles_stay_together_and_the_order_does_not_matter():
    every = examples(40, 10)
    train, out = split_examples(every, 0.25)
    assert len(out) == 8  # two articles of four; a third would go past ten
    assert {one.passages[0].title for one in train}.isdisjoint(one.passages[0].title for one in out)
    assert [one for one in every if one in train] == train
    assert {one.id for one in split_examples(every[::-1], 0.25)[1]} == {one.id for one in out}
    assert split_examples(every, 0.25, seed=1)[1] != out


def test_the_same_question_stays_on_one_side():
    every = [replace(one, query=Query("Same  question?")) for one in examples(20, 20)]
    assert split_examples(every, 0.5) == (every, [])


def test_distractors_link_nothing():
    every = [
        replace(one, passages=(*one.passages, made.passage("Shared", "It is.")))
        for one in examples(20, 20)
    ]
    assert len(split_examples(every, 0.5)[1]) == 10


def test_without_gold_the_best_passage_is_what_is_needed():
    every = [replace(one, gold={}) for one in examples(40, 10)]
    train, out = split_examples(every, 0.25)
    assert out
    assert {one.passages[0].title for one in train}.isdisjoint(one.passages[0].title for one in out)


def test_shares():
    every = examples(20, 20)
    assert split_examples(every, 0.0) == (every, [])
    assert len(split_examples(every)[1]) == 1
    assert split_examples([], 0.5) == ([], [])
    with pytest.raises(ValueError, match=r"share must be in \[0, 1\), got 1.0"):
        split_examples(every, 1.0)


@pytest.mark.parametrize(
    ("title", "found"), [("Ada", "ada"), ("Ada > Life", "ada"), ("Ada - Life", "ada")]
)
def test_the_article_of_a_passage(title, found):
    one = made.passage("Ada", "It is.")
    assert article(replace(one, title=title)) == found
    assert article(replace(one, title="")) == article(replace(one, title="", text="it  IS."))
