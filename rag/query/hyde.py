"""HyDE: search with a passage that could answer the question, instead of the question."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from rag.bounds import Bounds
from rag.protocols import TextModel
from rag.query.written import cleaned, written
from rag.records import Completion, Query
from rag.text.template import check_template, filled, one_line

INSTRUCTIONS = """\
Write a passage of an encyclopedia that answers the question.

Question: How tall is the tallest mountain of Africa?
Passage: Kilimanjaro is a dormant volcano in Tanzania. Its summit, 5,895 metres above sea level, \
is the highest point of Africa.

Question: Why does dough rise?
Passage: Yeast ferments the sugars in the dough and produces carbon dioxide. The gas forms \
bubbles, which are held by the gluten and make the dough rise.

Question: {question}
Passage:"""


@dataclass(frozen=True)
class HyDE:
    """Writes a hypothetical passage that answers the question, and searches with that.

    What the passage claims may be wrong; only its likeness to real passages counts. The question
    comes back as it is if the model writes garbage. One greedy passage, where the source averages
    the vectors of several samples and the question.
    Source: Gao et al. 2022, arXiv:2212.10496.

    Attributes:
        lm: writes the passage.
        keep_question: put the question before the passage; it keeps a poor passage on the subject,
            so a small model should.
        instructions: prompt with the place `{question}`; its first line of continuation counts.
        max_tokens: the most to write.
    """

    lm: TextModel
    keep_question: bool = True
    instructions: str = INSTRUCTIONS
    max_tokens: Annotated[int, Bounds(low=1)] = 64

    def __post_init__(self) -> None:
        check_template(self.instructions, needed=("question",))
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {self.max_tokens}")

    def __call__(self, query: Query) -> Query:
        """Return the passage as a query."""
        return self.batch(query=[query])[0]

    def batch(self, *, query: Sequence[Query]) -> list[Query]:
        """Return the passage for each question; the model is asked once for all."""
        prompts = [filled(self.instructions, question=one_line(q.text)) for q in query]
        found = written(self.lm, prompts, self.max_tokens)
        return [self._query(q, c) for q, c in zip(query, found, strict=True)]

    def _query(self, query: Query, completion: Completion) -> Query:
        passage = cleaned(completion.text, self.instructions)
        if not passage:
            return query
        return Query(f"{query.text} {passage}" if self.keep_question else passage)
