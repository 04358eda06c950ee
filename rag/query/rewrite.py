"""Rewrite: a question as the words that a search engine should look for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from rag.bounds import Bounds
from rag.protocols import TextModel
from rag.query.written import question, related, written
from rag.records import Completion, Query
from rag.text.template import check_template, filled, one_line

INSTRUCTIONS = """\
Write the search words that find the answer to the question.

Question: I am planning a trip and wonder how tall the tallest mountain of Africa is, any idea?
Search: height of the tallest mountain in Africa

Question: My bread never rises, could it be that the yeast died in the hot water?
Search: water temperature that kills yeast

Question: Who was it again that painted the ceiling of that chapel in Rome?
Search: painter of the Sistine Chapel ceiling in Rome

Question: {question}
Search:"""


@dataclass(frozen=True)
class Rewrite:
    """Rewrites a question into a search query.

    The question comes back as it is if the model writes garbage, or nothing that shares a term with
    it: a small model that leaves the question's words has left the question. Training-free: the
    source tunes a small rewriter by reinforcement learning.
    Source: Ma et al. 2023 (rewrite, retrieve, read), arXiv:2305.14283.

    Attributes:
        lm: writes the query.
        instructions: prompt with the place `{question}`; its first line of continuation counts.
        max_tokens: the most to write.
    """

    lm: TextModel
    instructions: str = INSTRUCTIONS
    max_tokens: Annotated[int, Bounds(low=1)] = 32

    def __post_init__(self) -> None:
        check_template(self.instructions, needed=("question",))
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {self.max_tokens}")

    def __call__(self, query: Query) -> Query:
        """Return the search query."""
        return self.batch(query=[query])[0]

    def batch(self, *, query: Sequence[Query]) -> list[Query]:
        """Return the search query of each question; the model is asked once for all."""
        prompts = [filled(self.instructions, question=one_line(q.text)) for q in query]
        found = written(self.lm, prompts, self.max_tokens)
        return [self._rewritten(q, completion) for q, completion in zip(query, found, strict=True)]

    def _rewritten(self, query: Query, completion: Completion) -> Query:
        text = question(completion.text, self.instructions)
        return Query(text) if text and related(text, query.text) else query
