"""Contexts: which passages of a ranking are read for a question."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.adapting.contexts import ContextRule, context_of, holds_answer, pool_contexts
from pipelines.adapting.left_out import LeftOut
from pipelines.adapting.questions import AskedQuestion
from rag.records import Passage, Span
from rag.training.watching import Unwatched


def plain(id_, text=None):
    text = f"text of {id_}" if text is None else text
    whole = Span(0, len(text))
    return Passage(id_, id_, text, whole, (whole,))


def asked(must="", shown="", **fields):
    of = {"answers": ("red",), "gold": dict.fromkeys(must, (0,))}
    passages = (tuple(map(plain, must)), tuple(map(plain, shown)))
    return AskedQuestion(
        "q", "small", "Which?", must=passages[0], shown=passages[1], **(of | fields)
    )


def read(question, ranking, count, **rule):
    of = ContextRule(count, rule.pop("apart", LeftOut()), **rule)
    return "".join(p.document for p in context_of(question, [plain(i) for i in ranking], of))


@pytest.mark.parametrize(
    ("must", "ranking", "count", "wanted"),
    [
        ("b", "abcde", 3, "abc"),  # found: nothing changes
        ("e", "abcde", 3, "abe"),  # ranked too low: in place of the last
        ("z", "abcde", 3, "abz"),  # not ranked at all
        ("cz", "abcde", 3, "acz"),  # the place is never that of another gold one
        ("ze", "abcde", 3, "aez"),  # as ranked, then the rest
        ("zy", "abcde", 2, "zy"),  # in the order of the data
        ("xyz", "abcde", 2, ""),  # more than are read
        ("a", "", 3, "a"),
        ("", "abc", 2, "ab"),
    ],
)
def test_gold_passages_take_the_places_of_the_last(must, ranking, count, wanted):
    assert read(asked(must), ranking, count) == wanted


@pytest.mark.parametrize(
    ("must", "wanted"), [("b", "abc"), ("ac", "abc"), ("ad", ""), ("z", ""), ("", "abc")]
)
def test_without_insertion_gold_passages_must_be_among_the_first(must, wanted):
    assert read(asked(must), "abcde", 3, gold_always=False) == wanted


def test_what_the_data_shows_is_read_first_and_stands_as_it_is_ranked():
    question = asked("c", "yb")
    assert read(question, "abcde", 4, fill=False) == "bcy"
    assert read(question, "abcde", 4, fill=True) == "abcy"
    assert read(question, "abcde", 2, fill=False) == "bc"
    assert read(asked("y", "bc"), "abcde", 2, fill=False) == "by"
    assert read(asked("y", "bc"), "abcde", 2, fill=False, gold_always=False) == ""
    assert read(asked("a"), "abcde", 3, fill=False) == "abc"  # nothing is shown


def by_definition(must, ranking, count):
    """Say of every set of documents whether it is the one to read, and return the best."""
    others = [one for one in ranking if one not in must][: max(0, count - len(must))]
    place = {one: row for row, one in enumerate(ranking)}
    chosen = [one for one in "abcdefgz" if one in others or one in must]
    tail = [one for one in must if one not in place]
    return "".join([*sorted((c for c in chosen if c in place), key=place.__getitem__), *tail])


@given(
    must=st.lists(st.sampled_from("abcdefgz"), unique=True, max_size=4),
    ranking=st.lists(st.sampled_from("abcdefg"), unique=True),
    count=st.integers(1, 6),
)
def test_matches_the_definition(must, ranking, count):
    wanted = by_definition(must, ranking, count) if len(must) <= count else ""
    assert read(asked("".join(must)), "".join(ranking), count) == wanted


def test_no_text_is_read_twice_and_the_gold_copy_is_the_one(passage):
    ranking = [passage("a"), passage("copy", "the gold text", score=0.4), passage("b", "text of a")]
    question = AskedQuestion("q", "d", "?", ("x",), must=(passage("gold", "the gold text"),))
    for always in (True, False):
        rule = ContextRule(3, LeftOut(), gold_always=always)
        found = context_of(question, ranking, rule)
        assert [(p.id, p.score) for p in found] == [("a", None), ("gold", 0.4)]


def test_passages_that_are_held_out_barred_or_empty_are_not_read_unless_gold(passage):
    apart = LeftOut(passages=frozenset({"text of a"}), articles=frozenset({"held"}))
    ranking = [
        passage("a"),
        passage("x", title="Held - Early life"),
        passage("empty", " "),
        passage("b"),
        passage("c"),
    ]
    question = asked("a", barred=frozenset("b"))
    found = context_of(question, ranking, ContextRule(5, apart))
    assert [one.id for one in found] == ["a", "c"]


def test_an_answer_in_a_passage_that_is_not_gold_is_passed_over_if_wanted(passage):
    ranking = [passage("a", "it is Red."), passage("b", "a red one"), passage("c", "bored")]
    question = AskedQuestion("q", "d", "?", ("red",), must=(ranking[1],))
    for answer_free, wanted in ((True, "bc"), (False, "abc")):
        rule = ContextRule(3, LeftOut(), answer_free=answer_free)
        assert "".join(p.id for p in context_of(question, ranking, rule)) == wanted


def test_yes_and_no_stand_in_texts_without_being_the_answer(passage):
    one = passage("a", "No man is an island.", "Donne")
    assert not holds_answer(one, ["no"])
    assert not holds_answer(one, [])
    assert holds_answer(one, ["no", "an island"])
    assert holds_answer(one, ["donne"])
    assert not holds_answer(one, ["land"])


def test_a_pool_is_searched_by_terms(passage):
    pool = [passage("a", "old bridges of stone"), passage("b", "stone"), passage("c", "rivers")]
    question = AskedQuestion("q", "d", "Which stone bridges?", ("x",), must=())
    [found] = pool_contexts(pool, [question], ContextRule(3, LeftOut()), watcher=Unwatched())
    assert [one.id for one in found] == ["a", "b"]
    assert found[0].score > found[1].score > 0
