"""What a model that runs elsewhere says: a completion with its bill, whole or piece by piece."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, runtime_checkable

from rag.records import Completion, TokenUse

FINISHES: Final[Mapping[str, Literal["stop", "length"]]] = {
    "stop": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
}
"""What services say of why a reply ended, in our words; anything else tells nothing."""


@dataclass(frozen=True, slots=True)
class Reply(Completion):
    """A completion for which the service may have counted tokens.

    Attributes:
        use: tokens of prompt and reply as the service reports them, all of the prompt as prefilled:
            what a service keeps between requests is its own; None if it does not report.
    """

    use: TokenUse | None = None


@runtime_checkable
class StreamingModel(Protocol):
    """A text model that can show a continuation while it is written."""

    def stream(
        self,
        prompt: str,
        *,
        max_tokens: int = 64,
        stop: Sequence[str] = (),
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Iterator[str | Completion]:
        """Yield pieces of the continuation of one prompt, and the finished `Completion` last.

        The pieces join to the continuation, white space at its ends included. Closing the iterator
        ends the request. Arguments are those of `rag.protocols.TextModel.complete`.
        """
