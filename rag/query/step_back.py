"""Step-back: the more general question behind a specific one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from rag.bounds import Bounds
from rag.protocols import TextModel
from rag.query.written import as_asked, written
from rag.records import Query
from rag.text.template import check_template, filled, one_line

INSTRUCTIONS = """\
Step back from the question: ask for the background that one must know to answer it.

Question: Could the members of The Police perform lawful arrests?
Step back: What can the members of The Police do?

Question: Which school did Estella Leopold attend between August and November 1954?
Step back: What is the education history of Estella Leopold?

Question: Why did my yeast dough collapse at 45 degrees?
Step back: How does temperature affect yeast dough?

Question: {question}
Step back:"""


@dataclass(frozen=True)
class StepBack:
    """Asks the more general question behind a specific one.

    The question comes back as it is if the model writes garbage
    or no question. Retrieve for both: what the
    general question finds often lacks the detail.
    Source: Zheng et al. 2023, arXiv:2310.06117, whose first two examples these are.

    Attributes:
        lm: writes the general question.
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
        """Return the general question."""
        return self.batch(query=[query])[0]

    def batch(self, *, query: Sequence[Query]) -> list[Query]:
        """Return the general question behind each; the model is asked once for all."""
        prompts = [filled(self.instructions, question=one_line(q.text)) for q in query]
        found = written(self.lm, prompts, self.max_tokens)
        return [
            Query(text) if (text := as_asked(completion.text, q, self.instructions)) else q
            for q, completion in zip(query, found, strict=True)
        ]
