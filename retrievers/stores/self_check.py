"""A vector store's first test: does it score as its record says, by this encoder's vectors?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from retrievers.stores.capability import Capability

if TYPE_CHECKING:
    from langchain_core.documents import Document

_SAME = 1e-3  # what half precision and an index over it may change
_ITSELF = 0.02  # what vectors kept in 8 bits may change


def check_scores(
    capability: Capability, text: str, found: Sequence[tuple[Document, float]], *, exact: bool
) -> None:
    """Raise unless a search for a stored text says what the store's record promises.

    Args:
        capability: the record.
        text: the stored text that was searched for.
        found: what the store returned for it, in the store's order.
        exact: whether it was searched for by its own vector, whose product with itself is 1.

    Raises:
        ValueError: if the text is not the best, scores rise down the list, or its own score is not
            that of a vector with itself.
    """
    scores = [capability.inner_product(float(score)) for _, score in found]
    own = [
        score
        for (document, _), score in zip(found, scores, strict=True)
        if document.page_content == text
    ]
    if not own:
        raise _contradiction(capability, "a stored text is not among the best for itself")
    if any(later > earlier + _SAME for earlier, later in pairwise(scores)):
        raise _contradiction(capability, "scores rise down the list")
    if max(own) < max(scores) - _SAME:
        raise _contradiction(capability, "a stored text is not the best for itself")
    if exact and abs(max(own) - 1.0) > _ITSELF:
        raise _contradiction(capability, f"a stored text scores {max(own):.3g} for itself, not 1")


def _contradiction(capability: Capability, seen: str) -> ValueError:
    return ValueError(
        f"{capability.name} must score by {capability.score_kind} of this encoder's vectors, as "
        f"its record says, but {seen}: either the record is wrong, or the store was filled by "
        "another encoder"
    )
