"""Condense: a follow-up question of a conversation as one that stands alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from rag.bounds import Bounds
from rag.protocols import TextModel
from rag.query.written import as_asked, related, written
from rag.records import Query, Turn
from rag.text.template import check_template, filled, one_line

LONGEST_TURN = 300  # code points of a message that the model reads; what comes first counts most
_SPEAKERS = {"user": "User", "assistant": "Assistant"}

INSTRUCTIONS = """\
Replace the words of the last question that only the conversation explains.

User: Who wrote Dracula?
Assistant: Bram Stoker wrote Dracula.
Last question: Where was he born?
Full question: Where was Bram Stoker born?

User: How tall is Kilimanjaro?
Assistant: 5,895 metres.
Last question: And Mount Kenya?
Full question: How tall is Mount Kenya?

User: What does the assert statement do in Python?
Assistant: It checks a condition and raises an error if it is false.
Last question: Can it be turned off?
Full question: Can the assert statement be turned off in Python?

User: What is the longest river of Italy?
Assistant: The Po.
Last question: And of Spain?
Full question: What is the longest river of Spain?

{history}
Last question: {question}
Full question:"""


@dataclass(frozen=True)
class Condense:
    """Rewrites a follow-up question so that it can be searched without the conversation.

    Without a history the question comes back and the model is not asked; so does it if the model
    writes garbage, no question, or nothing that shares a term with the conversation. Of each
    message the model reads the first 300 characters.

    Attributes:
        lm: writes the question.
        max_turns: most messages, the latest, that the model reads.
        instructions: prompt with the places `{history}` and `{question}`; its first line of
            continuation counts.
        max_tokens: the most to write.
    """

    lm: TextModel
    max_turns: Annotated[int, Bounds(low=1)] = 4
    instructions: str = INSTRUCTIONS
    max_tokens: Annotated[int, Bounds(low=1)] = 48

    def __post_init__(self) -> None:
        check_template(self.instructions, needed=("history", "question"))
        for name in ("max_turns", "max_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    def __call__(self, query: Query, history: Sequence[Turn]) -> Query:
        """Return the question that stands alone.

        Args:
            query: the latest question.
            history: messages before it, oldest first; may be empty.
        """
        return self.batch(query=[query], history=[history])[0]

    def batch(self, *, query: Sequence[Query], history: Sequence[Sequence[Turn]]) -> list[Query]:
        """Return each question as it stands alone; the model is asked once for all."""
        followed = [row for row, turns in enumerate(history) if turns]
        prompts = [self._prompt(query[row], history[row]) for row in followed]
        found = written(self.lm, prompts, self.max_tokens)
        alone = list(query)
        for row, completion in zip(followed, found, strict=True):
            text = as_asked(completion.text, query[row], self.instructions)
            said = " ".join([query[row].text, *(turn.text for turn in history[row])])
            if text and related(text, said):
                alone[row] = Query(text)
        return alone

    def _prompt(self, query: Query, history: Sequence[Turn]) -> str:
        said = [
            f"{_SPEAKERS[turn.role]}: {one_line(turn.text)[:LONGEST_TURN].rstrip()}"
            for turn in history[-self.max_turns :]
        ]
        return filled(self.instructions, history="\n".join(said), question=one_line(query.text))
