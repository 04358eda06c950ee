"""Worked examples that prompts begin with: questions answered from passages, in few words."""

import re
from typing import NamedTuple


class Example(NamedTuple):
    """A question that is answered from one passage."""

    title: str
    text: str
    question: str
    answer: str


EXAMPLES = (
    Example(
        "Great Barrier Reef",
        "The Great Barrier Reef lies in the Coral Sea, off the coast of Queensland, Australia. "
        "It stretches for over 2,300 kilometres and can be seen from outer space.",
        "How long is the Great Barrier Reef?",
        "over 2,300 kilometres",
    ),
    Example(
        "Bread > Leavening",
        "Yeast ferments some of the sugars in the dough and produces carbon dioxide. "
        "The gas forms bubbles, which make the dough rise.",
        "Why does dough rise?",
        "yeast produces carbon dioxide",
    ),
    Example(
        "Chess > Castling",
        "Castling moves the king two squares toward a rook. "
        "It is not allowed if the king is in check, or if either piece has moved before.",
        "When is castling not allowed?",
        "if the king is in check, or if either piece has moved before",
    ),
)
PREFIX = "".join(
    f"Title: {e.title}\nText: {e.text}\n\nQuestion: {e.question}\nAnswer: {e.answer}\n\n"
    for e in EXAMPLES
)

THOUGHT_PREFIX = """\
Title: Queensland
Text: Queensland is a state in the northeast of Australia. Its capital is Brisbane.

Title: Great Barrier Reef
Text: The Great Barrier Reef lies in the Coral Sea, off the coast of Queensland. \
It stretches for over 2,300 kilometres.

Question: What is the capital of the state where the Great Barrier Reef lies?
Answer: The Great Barrier Reef lies off the coast of Queensland. \
The capital of Queensland is Brisbane. So the answer is: Brisbane.

Title: Tower Bridge
Text: Tower Bridge crosses the River Thames in London. It was opened in 1894.

Title: Eiffel Tower
Text: The Eiffel Tower was completed in 1889. It is 330 metres tall.

Question: Which is older, the Eiffel Tower or Tower Bridge?
Answer: The Eiffel Tower was completed in 1889. Tower Bridge was opened in 1894. \
So the answer is: the Eiffel Tower.

"""
ANSWER_MARK = re.compile(r"\b(?:so,? the answer is\b:?|the answer is:)\s*", re.IGNORECASE)
"""Where a chain of thought that follows `THOUGHT_PREFIX` comes to its answer: small models forget
the first word, or the colon, but not both."""
