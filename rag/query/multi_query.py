"""Multi-query: a question in several wordings, for rankings that are fused afterwards."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from rag.bounds import Bounds
from rag.protocols import TextModel
from rag.query.written import distinct, questions, related, written
from rag.records import Completion, Query
from rag.text.template import check_template, filled, one_line

INSTRUCTIONS = """\
Say the question in three other wordings, separated by |.

Question: How tall is the tallest mountain of Africa?
Wordings: What is the height of Kilimanjaro? | highest mountain in Africa in metres | \
How high is the highest African peak?

Question: Why does my bread not rise?
Wordings: What stops bread dough from rising? | reasons for dense bread | \
Why is bread dough staying flat?

Question: Who painted the ceiling of the Sistine Chapel?
Wordings: Which artist made the Sistine Chapel frescoes? | Sistine Chapel ceiling painter | \
Whose work is the ceiling of the Sistine Chapel?

Question: {question}
Wordings:"""


@dataclass(frozen=True)
class MultiQuery:
    """Says a question in several wordings; the question itself comes first.

    Wordings that repeat another, share no term with the question, or are garbage are left out, so
    fewer than asked for may come, in the worst case the question alone.
    Source: Rackauckas 2024 (RAG-fusion), arXiv:2402.03367.

    Attributes:
        lm: writes the wordings.
        n: most wordings besides the question.
        instructions: prompt with the place `{question}`; its first line of continuation counts,
            wordings separated by `|`.
        max_tokens: the most to write, all wordings together.
    """

    lm: TextModel
    n: Annotated[int, Bounds(low=1)] = 3
    instructions: str = INSTRUCTIONS
    max_tokens: Annotated[int, Bounds(low=1)] = 64

    def __post_init__(self) -> None:
        check_template(self.instructions, needed=("question",))
        for name in ("n", "max_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    def __call__(self, query: Query) -> list[Query]:
        """Return the question and at most `n` other wordings, all different."""
        return self.batch(query=[query])[0]

    def batch(self, *, query: Sequence[Query]) -> list[list[Query]]:
        """Return the wordings of each question; the model is asked once for all."""
        prompts = [filled(self.instructions, question=one_line(q.text)) for q in query]
        found = written(self.lm, prompts, self.max_tokens)
        return [self._wordings(q, c) for q, c in zip(query, found, strict=True)]

    def _wordings(self, query: Query, completion: Completion) -> list[Query]:
        found = questions(completion, self.instructions)
        near = [text for text in found if related(text, query.text)]
        return [query, *distinct(near, known=[query.text])[: self.n]]
