"""From a finished text to an answer: sentence-wise flows write text, and end with this."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from rag.bounds import Bounds
from rag.generation.citations import SupportMatcher
from rag.generation.finish import attributed
from rag.generation.worked_examples import ANSWER_MARK
from rag.protocols import Encoder
from rag.records import Answer, Passage, Query


@dataclass(frozen=True)
class AssembleAnswer:
    """Makes an answer with citations from a text that was written sentence by sentence.

    Attributes:
        encoder: compares sentences by meaning too; None attributes by terms alone.
        extract: whether of a chain of thought only what follows its last "So the answer is:" is the
            answer, without the full stop.
        threshold: least support for a citation, in [0, 1].

    Raises:
        ValueError: if the threshold is out of range.
    """

    encoder: Encoder | None = None
    extract: bool = True
    threshold: Annotated[float, Bounds(0, 1)] = 0.5

    def __post_init__(self) -> None:
        self._support()

    def __call__(self, query: Query, text: str, passages: Sequence[Passage] = ()) -> Answer:
        """Return the answer; an empty text abstains, and so does one that nothing supports.

        Args:
            query: the question.
            text: what was written.
            passages: what was read, best first; only kept sentences are cited.
        """
        answer = Answer(self._answer(text), tuple(passages), mode="sequential")
        return attributed(answer, query, self._support())

    def _support(self) -> SupportMatcher:
        return SupportMatcher(self.encoder, self.threshold)

    def _answer(self, text: str) -> str:
        marks = list(ANSWER_MARK.finditer(text)) if self.extract else []
        if not marks:
            return text.strip()
        return text[marks[-1].end() :].strip().removesuffix(".").rstrip()
