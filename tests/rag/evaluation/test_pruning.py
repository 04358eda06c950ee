"""Pruning metrics over words: a sentence is kept if half of it is; by hand, and at the border."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.evaluation.pruning import pruning_metrics
from rag.records import Passage, Selection, SentenceScore, Span, text_sha


def of_words(sentences, words, kept):
    """A passage of some sentences, pruned to some of the words that its text is made of."""
    text = "".join(sentences)
    assert "".join(words) == text

    def spans(parts):
        ends = [sum(map(len, parts[:n])) for n in range(len(parts) + 1)]
        return tuple(Span(*pair) for pair in pairwise(ends))

    scores = tuple(SentenceScore(s, 0.5, row in kept) for row, s in enumerate(spans(words)))
    selection = Selection("a", text_sha(text), scores, "words", unit="word")
    return Passage("a", "a", text, Span(0, len(text)), spans(sentences), kept=selection)


def test_a_gold_sentence_counts_as_kept_if_half_of_its_visible_characters_are():
    sentences, words = ["ab cd.  ", "efgh."], ["ab", " cd", ".", "  ", "ef", "gh", "."]
    gold = {"a": [0, 1]}
    # 2 of 5 and 5 of 5.
    few = of_words(sentences, words, {0, 3, 4, 5, 6})
    assert pruning_metrics([few], gold, ["efgh"]) == {
        "Kept": 3 / 5, "SentR": 0.5, "SentP": 1.0, "AnswerKept": 1.0,
    }  # fmt: skip
    # 3 of 5 and 2 of 5.
    other = of_words(sentences, words, {0, 2, 4})
    assert pruning_metrics([other], {"a": [1]})["SentR"] == 0.0
    assert pruning_metrics([other], {"a": [0]}) == {"Kept": 3 / 5, "SentR": 1.0, "SentP": 1.0}


@pytest.mark.parametrize(("kept", "recall"), [({0}, 1.0), ({1}, 1.0), ({2}, 0.0), ((), 0.0)])
def test_exactly_half_is_kept_and_white_space_is_no_part_of_it(kept, recall):
    one = of_words(["ab cd       "], ["ab", " cd", "       "], kept)
    assert pruning_metrics([one], {"a": [0]})["SentR"] == recall


def test_a_sentence_of_white_space_is_not_kept():
    one = of_words(["ab", "  "], ["ab", "  "], {0, 1})
    assert pruning_metrics([one], {"a": [0]})["SentP"] == 1.0


@given(kept=st.lists(st.booleans(), min_size=4, max_size=4))
def test_words_that_are_sentences_count_as_sentences(kept):
    parts = ["ab cd. ", "e. ", "fgh ", "i"]
    rows = {row for row, stays in enumerate(kept) if stays}
    words = of_words(parts, parts, rows)
    selection = Selection("a", text_sha(words.text), words.kept.sentences, "test")
    sentences = Passage("a", "a", words.text, words.span, words.sentences, kept=selection)
    gold = {"a": [0, 2]}
    assert pruning_metrics([words], gold, ["fgh"]) == pruning_metrics([sentences], gold, ["fgh"])
