"""Answer metrics by hand, after SQuAD's normalisation."""

import pytest

from rag.evaluation.answers import contains_answer, exact_match, token_f1


def test_case_articles_and_punctuation_do_not_count():
    assert exact_match("The Eiffel Tower!", ["eiffel tower"]) == 1.0
    assert exact_match("Eiffel", ["eiffel tower"]) == 0.0


def test_f1_counts_shared_words_as_often_as_they_occur():
    # said: to be or not to be (6); gold: to be to (3); shared: to, to, be = 3
    assert token_f1("to be or not to be", ["to be to"]) == pytest.approx(2 * 3 / 9)
    assert token_f1("cat", ["dog"]) == 0.0


def test_the_best_gold_answer_counts():
    gold = ["October 1973", "1973"]
    assert exact_match("1973", gold) == 1.0
    assert token_f1("in 1973", gold) == pytest.approx(2 / 3)


def test_containment_wants_whole_words_in_a_row():
    assert contains_answer("It began in October, 1973.", ["October 1973"]) == 1.0
    assert contains_answer("October of 1973", ["October 1973"]) == 0.0
    assert contains_answer("a party", ["art"]) == 0.0


def test_empty_texts_agree_with_each_other_only():
    assert token_f1("", ["the"]) == exact_match("", ["the"]) == 1.0
    assert token_f1("", ["cat"]) == token_f1("cat", ["a"]) == 0.0
    assert contains_answer("anything", ["the"]) == 0.0


@pytest.mark.parametrize("metric", [exact_match, token_f1, contains_answer])
def test_no_gold_answer_is_an_error(metric):
    with pytest.raises(ValueError, match="gold must hold at least one answer, got none"):
        metric("x", [])
