"""Extraction by a language model that cites the sentences it answers from."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pruners.decide import LEAST_SCORE
from rag.bounds import Bounds
from rag.protocols import TextModel
from rag.records import Passage, PassageScores, Query
from rag.text.template import check_template, filled, one_line

_NO_ANSWER = re.compile(r"\bno answer\b", re.IGNORECASE)
_CITED = re.compile(r"\[\s*(\d{1,6}(?:\s*[,;]\s*\d{1,6})*)\s*\]")
_NEXT_EXAMPLE = ("\nPassage:", "\nQuestion:")

INSTRUCTIONS = """\
Answer the question from the numbered sentences of the passage only, and cite every sentence that \
you use by its number in brackets. If they do not answer it, write: No answer

Passage:
[0] Yeast
[1] Yeast is a fungus of one cell.
[2] It ferments the sugars in the dough.
[3] That produces carbon dioxide, which makes the dough rise.
Question: Why does bread rise?
Answer: Yeast ferments sugar [2], and the carbon dioxide makes the dough rise [3].

Passage:
[0] Mount Kenya
[1] Mount Kenya is the second highest mountain of Africa.
Question: Who painted the Sistine Chapel?
Answer: No answer

Passage:
{passage}
Question: {question}
Answer:"""


@dataclass(frozen=True)
class LLMExtract:
    """Scorer by a language model that answers from one passage and cites its sentences.

    A cited sentence has 1, any other 1e-6; only numbers are read, never the model's text. `[0]` is
    the passage's title, and sentences count from 1. Of a reply that gives nothing to go by all
    sentences have 1, with a warning. `label` is how Provence's training data are made.

    Source: Chirkova et al. 2025 (Provence), arXiv:2501.16214, whose prompt it is not.

    Attributes:
        lm: reads and cites. The default model of 135 million parameters does not cite: bring a
            larger one.
        instructions: prompt with the places `{passage}`, its numbered lines, and `{question}`.
        max_tokens: the most to write for a passage.
    """

    lm: TextModel
    instructions: str = INSTRUCTIONS
    max_tokens: Annotated[int, Bounds(low=1)] = 256

    name = "llm_extract"

    def __post_init__(self) -> None:
        check_template(self.instructions, needed=("passage", "question"))
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {self.max_tokens}")

    def __call__(self, query: Query, passages: Sequence[Passage]) -> list[PassageScores]:
        """Return 1 for each cited sentence and 1e-6 for each other; all 1 for a useless reply."""
        return self.score_batch([query], [passages])[0]

    def score_batch(
        self, queries: Sequence[Query], passages: Sequence[Sequence[Passage]]
    ) -> list[list[PassageScores]]:
        """Return what a call returns for each query; the model is asked once for all."""
        pairs = [(q.text, p) for q, of in zip(queries, passages, strict=True) for p in of]
        labels = self._labels(pairs)
        odd = [p.id for (_, p), rows in zip(pairs, labels, strict=True) if rows is None]
        if odd:
            warnings.warn(
                f"kept all of {len(odd)} passages, as {self.lm.name} neither cited a sentence nor "
                f"wrote that there is no answer: {', '.join(odd[:5])}",
                RuntimeWarning,
                stacklevel=3,
            )
        scores = iter(
            PassageScores(
                tuple(
                    1.0 if rows is None or row in rows else LEAST_SCORE
                    for row in range(len(passage.sentences))
                )
            )
            for (_, passage), rows in zip(pairs, labels, strict=True)
        )
        return [[next(scores) for _ in of_query] for of_query in passages]

    def label(self, question: str, passages: Sequence[Passage]) -> list[frozenset[int] | None]:
        """Return the rows of the sentences that answer a question, for each passage.

        A passage without an answer has none. None stands for a reply that tells nothing: training
        leaves that pair out. The model is asked once for all passages that have a sentence.

        Args:
            question: not empty.
            passages: each is read alone.
        """
        return self._labels([(Query(question).text, passage) for passage in passages])

    def _labels(self, pairs: Sequence[tuple[str, Passage]]) -> list[frozenset[int] | None]:
        asked = [row for row, (_, passage) in enumerate(pairs) if passage.sentences]
        prompts = [
            filled(self.instructions, question=one_line(question), passage=numbered(passage))
            for question, passage in (pairs[row] for row in asked)
        ]
        replies = (
            self.lm.complete(prompts, max_tokens=self.max_tokens, stop=_NEXT_EXAMPLE)
            if prompts
            else []
        )
        labels: list[frozenset[int] | None] = [frozenset()] * len(pairs)
        for row, reply in zip(asked, replies, strict=True):
            labels[row] = cited_rows(reply.text, len(pairs[row][1].sentences))
        return labels


def numbered(passage: Passage) -> str:
    """Return a passage a line a sentence: its title as `[0]`, if it has one, sentences from `[1]`.

    White space within a sentence becomes one space; a sentence of white space only is left out.
    """
    lines = [passage.title, *(span.of(passage.text) for span in passage.sentences)]
    return "\n".join(
        f"[{number}] {one_line(line)}" for number, line in enumerate(lines) if line.strip()
    )


def cited_rows(reply: str, sentences: int) -> frozenset[int] | None:
    """Return the rows that a reply cites, counted from 1 in it and from 0 here.

    "No answer" anywhere gives none, whatever is cited. Otherwise the numbers in all brackets that
    hold a list of them count, those past the last sentence and 0, the title, left out. A reply that
    cites no sentence says nothing: None. Source: the rules of Provence's training data.

    Args:
        reply: of the model.
        sentences: how many the passage has.
    """
    if _NO_ANSWER.search(reply):
        return frozenset()
    numbers = (
        int(number) for cited in _CITED.finditer(reply) for number in re.split(r"[,;]", cited[1])
    )
    return frozenset(number - 1 for number in numbers if 1 <= number <= sentences) or None
