"""A ranking that goes on below the passages that are read: what retrievers and fusions return."""

from collections.abc import Iterable, Sequence
from typing import Self

from rag.records import Hit, Passage

TAIL = 100


class Ranking(list[Passage]):
    """Passages, best first, and the hits that follow them: evaluation looks deeper than a reader.

    It is a list of the passages and equals one; whoever needs no more need not know.

    Attributes:
        tail: hits after the last passage, best first; together they are at most `TAIL` long or as
            long as the passages.
    """

    tail: tuple[Hit, ...]

    def __init__(self, passages: Iterable[Passage] = (), tail: Sequence[Hit] = ()) -> None:
        super().__init__(passages)
        self.tail = tuple(tail[: max(0, TAIL - len(self))])

    @classmethod
    def of(cls, passages: Sequence[Passage]) -> Self:
        """Return the passages as a ranking, with their tail if they have one."""
        return passages if isinstance(passages, cls) else cls(passages)

    @property
    def hits(self) -> list[Hit]:
        """All of it as hits; a passage without a score counts 0."""
        return [*(Hit(p.id, p.score or 0.0) for p in self), *self.tail]
