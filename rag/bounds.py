"""Bounds of an operator's option, as data: `top_k: Annotated[int, Bounds(low=1)] = 3`."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where a number must lie; checked before anything runs, shown in the schema.

    Attributes:
        low: least value, or None.
        high: greatest value, or None.
        open_low: whether `low` itself is excluded.
    """

    low: float | None = None
    high: float | None = None
    open_low: bool = False

    def __contains__(self, value: float) -> bool:
        above = self.low is None or (value > self.low if self.open_low else value >= self.low)
        # NaN is in no bounds: every comparison with it is false, so none may be left out.
        return above and value <= (math.inf if self.high is None else self.high)

    def __str__(self) -> str:
        if self.low is not None and self.high is not None:
            return f"in {'(' if self.open_low else '['}{_shown(self.low)}, {_shown(self.high)}]"
        if self.low is not None:
            return f"{'above' if self.open_low else 'at least'} {_shown(self.low)}"
        return f"at most {_shown(self.high)}" if self.high is not None else "any number"


def require_share(name: str, value: float) -> None:
    """Refuse what is not in [0, 1], by a ValueError that names it."""
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} must be in [0, 1], got {value}")


def _shown(number: float) -> str:
    return str(int(number)) if float(number).is_integer() else str(number)
