"""A sentence more: what was written so far, and the next completion."""

from dataclasses import dataclass

from rag.records import Completion


@dataclass(frozen=True)
class AppendSentence:
    """Adds a completion to the text that was begun."""

    def __call__(self, completion: Completion, text: str = "") -> str:
        """Return the text with the completion after it, joined by a space; either may be empty."""
        return " ".join(part for part in (text.strip(), completion.text.strip()) if part)
