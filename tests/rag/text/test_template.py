"""Templates: places are filled once, and mistakes named."""

import pytest

from rag.text.template import check_template, filled, one_line


def test_fills_each_place_and_leaves_other_braces():
    assert filled("{q} {{x}} {1} {Q} {q}", q="why") == "why {{x}} {1} {Q} why"


def test_a_value_that_looks_like_a_place_stays_as_it_is():
    assert filled("{question}/{answer}", question="{answer}", answer="no") == "{answer}/no"


def test_accepts_needed_and_allowed_places():
    check_template("{question} {passages}", needed=("question",), allowed=("passages",))
    check_template("{question}", needed=("question",), allowed=("passages",))


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("Say it", r"instructions must contain \{question\}, got 'Say it'"),
        ("{question} {n}", r"instructions may contain \{question\}, \{passages\}, got \{n\}"),
        ("x" * 99, r"got 'x{57}\.\.\.'"),
    ],
)
def test_names_the_place_that_is_missing_or_unknown(template, message):
    with pytest.raises(ValueError, match=message):
        check_template(template, needed=("question",), allowed=("passages",))


def test_one_line_joins_all_white_space():
    assert one_line(" a\n\tb  c ") == "a b c"
