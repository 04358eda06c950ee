"""Examples of three short passages each, for tests of adaptation."""

from dataclasses import replace

from rag.adaptation.examples import ReadingExample
from rag.generation.templates import PromptTemplate
from rag.records import Passage, Query, Selection, SentenceScore, Span, text_sha

TEMPLATE = PromptTemplate("Read.\n", "{title}:", "\n", "Q: {question}\nA:", "\n")
NAMES = ("Ada", "Bo", "Cy", "Di", "Eve", "Flo", "Gus", "Hal")


def passage(name, *sentences, kept=None):
    text = " ".join(sentences)
    spans, at = [], 0
    for row, sentence in enumerate(sentences):
        end = at + len(sentence) + (row < len(sentences) - 1)
        spans.append(Span(at, end))
        at = end
    made = Passage(name, name, text, Span(0, len(text)), tuple(spans), title=name)
    if kept is None:
        return made
    scores = tuple(SentenceScore(s, float(n in kept), n in kept) for n, s in enumerate(spans))
    return replace(made, kept=Selection(name, text_sha(text), scores, "test"))


def example(row, *, name="", answers=None, unanswerable=False):
    """Return a question about one of three passages, of each of which something is pruned."""
    known, other, third = (NAMES[(row + n) % len(NAMES)] for n in range(3))
    name = name or known
    told = answers if answers is not None else (f"{row % 4} cats",)
    return ReadingExample(
        f"q{row}",
        "made",
        Query(f"what has {name}?"),
        (
            passage(name, f"{name} is here.", f"{name} has {row % 4} cats.", "Yes.", kept={1}),
            passage(other, f"{other} sits.", f"{other} eats a program.", kept={0, 1}),
            passage(third, f"{third} runs.", "It rains.", "So be it.", kept={0, 2}),
        ),
        () if unanswerable else told,
        unanswerable,
        {name: (1,)},
    )
