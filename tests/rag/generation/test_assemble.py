"""From a text to an answer: what is the answer, what supports it, when it abstains."""

import pytest

from rag.generation.assemble import AssembleAnswer
from rag.records import Passage, Query, Span
from rag.text import split_sentences

QUERY = Query("Which city is the capital?")
TEXT = "The capital is Brisbane. It is warm."
PASSAGE = Passage("p", "d", TEXT, Span(0, len(TEXT)), split_sentences(TEXT))
CHAIN = "Queensland is a state. The capital is Brisbane. "


def test_sentences_are_cited_or_unsupported():
    text = " The capital is Brisbane. Zebras graze. "
    answer = AssembleAnswer()(QUERY, text, [PASSAGE])
    assert (answer.text, answer.passages) == (text.strip(), (PASSAGE,))
    (citation,) = answer.citations
    assert (citation.passage_id, citation.quote) == ("p", "The capital is Brisbane.")
    assert answer.text[citation.answer_start : citation.answer_end] == "The capital is Brisbane."
    assert [span.of(answer.text) for span in answer.unsupported] == ["Zebras graze."]
    assert (answer.abstained, answer.mode) == (False, "sequential")


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ("So the answer is: Brisbane.", "Brisbane"),
        ("so the answer is Brisbane", "Brisbane"),
        ("The answer is: Brisbane. ", "Brisbane"),
        ("So the answer is: Sydney. So the answer is: Brisbane.", "Brisbane"),
        ("So the answer is: 3.5", "3.5"),
    ],
)
def test_of_a_chain_of_thought_only_the_answer_is_left(end, expected):
    answer = AssembleAnswer()(QUERY, CHAIN + end, [PASSAGE])
    assert answer.text == expected
    assert answer.abstained == (expected != "Brisbane")


def test_a_sentence_that_speaks_of_an_answer_is_no_mark():
    text = "The answer is the capital, Brisbane."
    assert AssembleAnswer()(QUERY, text, [PASSAGE]).text == text


def test_a_chain_of_thought_can_be_left_whole():
    text = CHAIN + "So the answer is: Brisbane."
    assert AssembleAnswer(extract=False)(QUERY, text, [PASSAGE]).text == text


@pytest.mark.parametrize("text", ["", "  \n", "So the answer is:"])
def test_an_empty_text_abstains(text):
    answer = AssembleAnswer()(QUERY, text, [PASSAGE])
    assert (answer.text, answer.abstained, answer.citations) == ("", True, ())
    assert answer.passages == (PASSAGE,)


def test_without_passages_nothing_is_supported():
    answer = AssembleAnswer()(QUERY, "Brisbane.")
    assert answer.abstained
    assert [span.of(answer.text) for span in answer.unsupported] == ["Brisbane."]


def test_the_threshold_decides_what_is_supported():
    text = "The capital is Brisbane, north of Sydney and Melbourne."
    assert not AssembleAnswer(threshold=0.1)(QUERY, text, [PASSAGE]).abstained
    assert AssembleAnswer(threshold=0.9)(QUERY, text, [PASSAGE]).abstained


def test_refuses_a_threshold_out_of_range():
    with pytest.raises(ValueError, match=r"threshold must be in \[0, 1\], got 1.5"):
        AssembleAnswer(threshold=1.5)
