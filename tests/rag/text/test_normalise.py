"""Normalised answers: SQuAD's steps in SQuAD's order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.text.normalise import normalised_answer


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The Great Barrier Reef.", "great barrier reef"),
        ("  an   apple\n a day ", "apple day"),
        ("U.S.", "us"),
        ("a-ha", "aha"),
        ("theatre", "theatre"),
        ("2,300 km", "2300 km"),
        ("“Zürich”", "“zürich”"),
        ("The", ""),
        ("?!", ""),
        ("", ""),
    ],
)
def test_drops_case_punctuation_articles_and_spare_white_space(text, normal):
    assert normalised_answer(text) == normal


@given(st.text(st.characters(codec="ascii")))
def test_case_and_surrounding_marks_make_no_difference(text):
    assert normalised_answer(f"  the {text.upper()}!") == normalised_answer(text.upper())
    assert normalised_answer(text.upper()) == normalised_answer(text.lower())
