"""Clarify: the readings of an ambiguous question, found with the help of passages."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from rag.bounds import Bounds
from rag.protocols import TextModel
from rag.query.written import distinct, questions, related, written
from rag.records import Completion, Passage, Query
from rag.text.template import check_template, filled, one_line

LONGEST_PASSAGE = 300  # code points of a passage that the model reads

INSTRUCTIONS = """\
List the different meanings that the question can have, separated by |.

Passage: Georgia: Georgia is a country in the Caucasus. Its capital is Tbilisi.
Passage: Georgia (U.S. state): Georgia is a state of the United States. Its capital is Atlanta.
Question: What is the capital of Georgia?
Meanings: What is the capital of the country Georgia? | What is the capital of the U.S. state \
Georgia?

Passage: FIFA World Cup: The men's cup was first held in 1930.
Passage: FIFA Women's World Cup: The women's cup was first held in 1991.
Question: When was the first World Cup?
Meanings: When was the first men's World Cup? | When was the first women's World Cup?

{passages}
Question: {question}
Meanings:"""


@dataclass(frozen=True)
class Clarify:
    """Lists readings of an ambiguous question, seen in the passages that were found for it.

    The question itself is no reading, nor is what repeats another, shares no term with the question
    or is garbage; so the list may be empty. Without passages the model is not asked: it would
    invent. Of each passage it reads title and kept text, 300 characters.
    Source: Kim et al. 2023 (Tree of Clarifications), arXiv:2310.14696.

    Attributes:
        lm: writes the readings.
        n: most readings.
        max_passages: most passages, the best, that the model reads.
        instructions: prompt with the places `{passages}` and `{question}`; its first line of
            continuation counts, readings separated by `|`.
        max_tokens: the most to write, all readings together.
    """

    lm: TextModel
    n: Annotated[int, Bounds(low=1)] = 3
    max_passages: Annotated[int, Bounds(low=1)] = 4
    instructions: str = INSTRUCTIONS
    max_tokens: Annotated[int, Bounds(low=1)] = 80

    def __post_init__(self) -> None:
        check_template(self.instructions, needed=("passages", "question"))
        for name in ("n", "max_passages", "max_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    def __call__(self, query: Query, passages: Sequence[Passage]) -> list[Query]:
        """Return at most `n` readings, all different; may be empty.

        Args:
            query: the question.
            passages: found for it, best first.
        """
        return self.batch(query=[query], passages=[passages])[0]

    def batch(
        self, *, query: Sequence[Query], passages: Sequence[Sequence[Passage]]
    ) -> list[list[Query]]:
        """Return the readings of each question; the model is asked once for all."""
        shown = [row for row, of_query in enumerate(passages) if of_query]
        prompts = [self._prompt(query[row], passages[row]) for row in shown]
        found = written(self.lm, prompts, self.max_tokens)
        readings: list[list[Query]] = [[] for _ in query]
        for row, completion in zip(shown, found, strict=True):
            readings[row] = self._readings(query[row], completion)
        return readings

    def _prompt(self, query: Query, passages: Sequence[Passage]) -> str:
        shown = [f"Passage: {_shown(passage)}" for passage in passages[: self.max_passages]]
        return filled(self.instructions, passages="\n".join(shown), question=one_line(query.text))

    def _readings(self, query: Query, completion: Completion) -> list[Query]:
        found = questions(completion, self.instructions)
        near = [text for text in found if related(text, query.text)]
        return distinct(near, known=[query.text])[: self.n]


def _shown(passage: Passage) -> str:
    text = passage.text if passage.kept is None else passage.kept.text(passage.text)
    lead = f"{passage.title}: " if passage.title else ""
    return one_line(f"{lead}{text}")[:LONGEST_PASSAGE].rstrip()
