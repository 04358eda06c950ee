"""One passage as a list, for a flow that reads each passage by itself."""

from dataclasses import dataclass

from rag.records import Passage


@dataclass(frozen=True)
class SinglePassage:
    """Hands one passage of a map on as the passages to read."""

    def __call__(self, passage: Passage) -> list[Passage]:
        """Return the passage alone."""
        return [passage]
