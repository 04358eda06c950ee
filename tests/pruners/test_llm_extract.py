"""Extraction by citing: replies by hand, numbering, one call for all, useless replies."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruners import ThresholdPruner
from pruners.llm_extract import INSTRUCTIONS, LLMExtract, cited_rows, numbered
from rag.records import Completion, Passage, Query, Span

QUERY = Query("why does\nbread {passage} rise?")


def passage(*sentences, id_="p", title=""):
    text = "".join(sentences)
    ends = [sum(map(len, sentences[:n])) for n in range(len(sentences) + 1)]
    spans = tuple(Span(*ab) for ab in pairwise(ends))
    return Passage(id_, "d", text, Span(0, len(text)), spans, title=title)


class Replies:
    """A text model that says what it was told, in turn, and remembers what it was asked."""

    name = fingerprint = "replies"

    def __init__(self, *replies):
        self.replies = list(replies)
        self.asked = []

    def complete(self, prompts, **options):
        self.asked.append((list(prompts), options))
        return [Completion(self.replies.pop(0)) for _ in prompts]


BREAD = passage("Yeast ferments.  ", "It is\na fungus. ", "Gas rises.", id_="a", title="Yeast")
ROME = passage("Rome is old.", id_="b")
EMPTY = passage(id_="c")


@pytest.mark.parametrize(
    ("reply", "rows"),
    [
        ("Gas [3].", {2}),
        ("[1][2]", {0, 1}),
        ("[1, 3] and [ 2;3 ]", {0, 1, 2}),
        ("Yeast [0] and gas [3].", {2}),
        ("[1, 99]", {0}),
        ("No answer", set()),
        ("no answer.", set()),
        ("There is No Answer [0].", set()),
        ("No answer, but see [2]", set()),
        ("The title says so [0].", None),
        ("Because of the gas.", None),
        ("Line 2 (3).", None),
        ("[99]", None),
        ("[4]", None),
        ("[two] [1-3] [-1] [1.5] []", None),
        ("", None),
        ("No answers were [1] known", {0}),
        ("[" + "9" * 9999 + "]", None),
    ],
)
def test_a_reply_by_hand(reply, rows):
    assert cited_rows(reply, 3) == (None if rows is None else frozenset(rows))


@given(st.sets(st.integers(0, 19)), st.booleans())
def test_what_is_cited_is_what_is_read(rows, together):
    numbers = [str(row + 1) for row in sorted(rows)]
    reply = f"So [{', '.join(numbers)}]." if together else "".join(f"so [{n}] " for n in numbers)
    assert cited_rows(reply, 20) == (frozenset(rows) or None)


@given(st.text() | st.text("[]0123,; noaswer"), st.integers(0, 5))
def test_rows_are_sentences_of_the_passage_whatever_is_said(reply, sentences):
    rows = cited_rows(reply, sentences)
    assert rows is None or rows <= set(range(sentences))


def test_sentences_count_from_1_and_the_title_is_0():
    assert numbered(BREAD) == "[0] Yeast\n[1] Yeast ferments.\n[2] It is a fungus.\n[3] Gas rises."
    assert numbered(ROME) == "[1] Rome is old."
    assert numbered(passage("a ", " \n", "b")) == "[1] a\n[3] b"


def test_labels_are_rows_and_all_passages_are_asked_at_once():
    lm = Replies("Gas [3], of yeast [1].", "No answer")
    assert LLMExtract(lm).label("Why?", [BREAD, EMPTY, ROME]) == [{0, 2}, frozenset(), frozenset()]
    ((prompts, options),) = lm.asked
    assert options == {"max_tokens": 256, "stop": ("\nPassage:", "\nQuestion:")}
    assert prompts[1] == INSTRUCTIONS.replace("{passage}", "[1] Rome is old.").replace(
        "{question}", "Why?"
    )


def test_a_reply_that_tells_nothing_has_no_label():
    assert LLMExtract(Replies("Gas.", "[1]")).label("Why?", [BREAD, ROME]) == [None, {0}]


def test_cited_sentences_stay_and_the_text_is_never_the_model_s():
    lm = Replies("Rewritten words [3].", "No answer")
    pruner = ThresholdPruner(LLMExtract(lm), 0.5, min_keep=0, on_error="raise")
    bread, rome = pruner(QUERY, [BREAD, ROME])
    assert bread.kept.text(BREAD.text) == "Gas rises."
    assert rome.kept_rows == ()
    assert [s.score for s in bread.kept.sentences] == [1e-6, 1e-6, 1.0]
    assert "why does bread {passage} rise?" in lm.asked[0][0][0]


def test_a_useless_reply_keeps_its_passage_and_says_so():
    scorer = LLMExtract(Replies("Gas.", "[1]"))
    with pytest.warns(RuntimeWarning, match="kept all of 1 passages, as replies neither .*: a$"):
        found = scorer(QUERY, [BREAD, ROME])
    assert [one.sentences for one in found] == [(1.0, 1.0, 1.0), (1.0,)]


def test_a_batch_asks_once_and_equals_its_parts():
    replies = ["[1]", "No answer", "[2]"]
    lm = Replies(*replies)
    sets = [[BREAD, ROME], [], [EMPTY, BREAD]]
    found = LLMExtract(lm).score_batch([QUERY] * 3, sets)
    assert len(lm.asked) == 1
    one_by_one = LLMExtract(Replies(*replies))
    assert found == [one_by_one(QUERY, of) for of in sets]


def test_nothing_to_read_asks_nothing():
    lm = Replies()
    assert LLMExtract(lm)(QUERY, []) == []
    assert LLMExtract(lm)(QUERY, [EMPTY])[0].sentences == ()
    assert LLMExtract(lm).label("Why?", []) == []
    assert lm.asked == []


def test_the_prompt_and_its_length_can_be_changed():
    lm = Replies("[1]")
    LLMExtract(lm, "{question}|{passage}", 7)(Query("Why?"), [ROME])
    assert lm.asked[0][0] == ["Why?|[1] Rome is old."]
    assert lm.asked[0][1]["max_tokens"] == 7


def test_refuses_what_is_out_of_range():
    with pytest.raises(ValueError, match=r"instructions must contain \{passage\}"):
        LLMExtract(Replies(), "{question}")
    with pytest.raises(ValueError, match="max_tokens must be at least 1, got 0"):
        LLMExtract(Replies(), max_tokens=0)
    with pytest.raises(ValueError, match="the question must not be empty"):
        LLMExtract(Replies()).label(" ", [ROME])
