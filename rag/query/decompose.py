"""Decompose: a question that needs several facts as the questions that ask for one each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from rag.bounds import Bounds
from rag.protocols import TextModel
from rag.query.written import distinct, questions, related, written
from rag.records import Completion, Query
from rag.text.template import check_template, filled, one_line

INSTRUCTIONS = """\
Split the question into simple questions that each ask for one fact, separated by |. \
A simple question stays as it is.

Question: Were Marie Curie and Niels Bohr born in the same country?
Parts: Where was Marie Curie born? | Where was Niels Bohr born?

Question: What is the capital of the country where the inventor of dynamite was born?
Parts: Who invented dynamite? | Where was the inventor of dynamite born? | \
What is the capital of the country?

Question: How many legs does a spider have?
Parts: How many legs does a spider have?

Question: Which is older, the Eiffel Tower or Big Ben?
Parts: When was the Eiffel Tower built? | When was Big Ben built?

Question: How long did the actor who played Gandalf in the film The Hobbit live in London?
Parts: Who played Gandalf in the film The Hobbit? | How long did that actor live in London?

Question: {question}
Parts:"""


@dataclass(frozen=True)
class Decompose:
    """Splits a question into simpler ones.

    Parts that repeat another, share no term with the question, or are garbage are left out. If
    fewer than two are left nothing was split, and the question itself is the only part. The source
    answers the parts one after the other, each with the answers before it; a `map` answers them
    side by side.
    Source: Zhou et al. 2022 (least-to-most), arXiv:2205.10625.

    Attributes:
        lm: writes the parts.
        n: most parts.
        instructions: prompt with the place `{question}`; its first line of continuation counts,
            parts separated by `|`.
        max_tokens: the most to write, all parts together.
    """

    lm: TextModel
    n: Annotated[int, Bounds(low=1)] = 4
    instructions: str = INSTRUCTIONS
    max_tokens: Annotated[int, Bounds(low=1)] = 80

    def __post_init__(self) -> None:
        check_template(self.instructions, needed=("question",))
        for name in ("n", "max_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    def __call__(self, query: Query) -> list[Query]:
        """Return at least one and at most `n` questions, all different."""
        return self.batch(query=[query])[0]

    def batch(self, *, query: Sequence[Query]) -> list[list[Query]]:
        """Return the parts of each question; the model is asked once for all."""
        prompts = [filled(self.instructions, question=one_line(q.text)) for q in query]
        found = written(self.lm, prompts, self.max_tokens)
        return [self._parts(q, c) for q, c in zip(query, found, strict=True)]

    def _parts(self, query: Query, completion: Completion) -> list[Query]:
        found = questions(completion, self.instructions)
        near = [text for text in found if related(text, query.text)]
        split = distinct(near)[: self.n]
        return split if len(split) > 1 else [query]
