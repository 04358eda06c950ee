"""Schedule of a training: how long, how fast, and when it ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from rag.training.precision import Precision
from rag.training.rate_schedule import Decay

PrecisionChoice = Literal["auto", Precision]


@dataclass(frozen=True, slots=True)
class Schedule:
    """What a recipe says about the course of a training.

    Attributes:
        epochs: times that every item is shown, above 0.
        steps: number of steps instead of epochs; None counts by epochs.
        learning_rate: at its peak, above 0.
        decay: how it falls after the warm-up.
        warmup: share of the steps over which it rises, in [0, 1).
        weight_decay: of matrices; AdamW.
        clip: largest norm of the gradient, above 0.
        looks: how often the validation part is scored, at least 1.
        patience: looks without a gain after which the training ends, at least 1.
        precision: of forward passes; `auto` tries which is faster.

    Raises:
        ValueError: for a value that is not allowed.
    """

    epochs: float
    steps: int | None
    learning_rate: float
    decay: Decay
    warmup: float
    weight_decay: float
    clip: float
    looks: int
    patience: int
    precision: PrecisionChoice

    def __post_init__(self) -> None:
        require_at_least(self, looks=1, patience=1, weight_decay=0)
        require_above_zero(self, "epochs", "learning_rate", "clip")
        if self.steps is not None:
            require_at_least(self, steps=1)
        if not 0.0 <= self.warmup < 1.0:
            raise ValueError(f"warmup must be in [0, 1), got {self.warmup}")
        require_one_of(self, "precision", ("auto", *get_args(Precision)))
        require_one_of(self, "decay", get_args(Decay))

    def planned(self, batches: int) -> int:
        """Return the number of steps, if an epoch has so many batches."""
        return self.steps or max(1, round(self.epochs * batches))


def require_at_least(recipe: object, **least: float) -> None:
    """Refuse fields that are below what is allowed, by name."""
    for name, bound in least.items():
        if not getattr(recipe, name) >= bound:
            raise ValueError(f"{name} must be at least {bound}, got {getattr(recipe, name)}")


def require_above_zero(recipe: object, *names: str) -> None:
    """Refuse fields that are not above 0."""
    for name in names:
        if not getattr(recipe, name) > 0.0:
            raise ValueError(f"{name} must be above 0, got {getattr(recipe, name)}")


def require_one_of(recipe: object, name: str, allowed: tuple[str, ...]) -> None:
    """Refuse a field that is none of some texts."""
    if getattr(recipe, name) not in allowed:
        *most, last = (f"{one!r}" for one in allowed)
        listed = f"{', '.join(most)} or {last}" if most else last
        raise ValueError(f"{name} must be {listed}, got {getattr(recipe, name)!r}")
