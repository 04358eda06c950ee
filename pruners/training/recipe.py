"""Recipe of a Provence training: every number that its outcome depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from pruners.provence.adapter import Tuning
from pruners.training.augment import Augmentation
from pruners.training.items import Caps
from pruners.training.losses import LossWeights
from rag.training.lora import ALL_LINEARS, LoRA
from rag.training.rate_schedule import Decay
from rag.training.schedule import (
    PrecisionChoice,
    Schedule,
    require_above_zero,
    require_at_least,
    require_one_of,
)


@dataclass(frozen=True, slots=True)
class ProvenceRecipe:
    """How a Provence model is trained.

    Attributes:
        epochs: times that every labelled passage is shown, above 0.
        steps: number of steps instead of epochs; None counts by epochs.
        batch_size: blocks of a step.
        learning_rate: at its peak.
        head_rate: how many times as fast heads learn; they start at zero, and the trunk learns
            nothing before they have grown.
        decay: how it falls after the warm-up.
        warmup: share of the steps over which it rises.
        weight_decay: of matrices; AdamW.
        clip: largest norm of the gradient.
        dropout: whether the trunk's own dropout is on.
        tuning: which layers of the trunk are trained, and how.
        weights: of the parts of the loss.
        augmentation: how pairs are changed.
        caps: tokens of a block.
        near: most near passages of other questions that the prior sees beside a question's own.
        negatives: how many near passages are shown for each question in an epoch.
        validation: share of the examples that chooses the best weights and the threshold.
        looks: how often the validation part is scored.
        patience: looks without a gain after which the training ends.
        precision: of forward passes; `auto` tries which is faster.
        stored: dtype of the adapter's file; what is loaded from `float32` has the same bits, and
            `float16` is half as large.
        seed: of everything that is drawn.
    """

    epochs: float = 4.0
    steps: int | None = None
    batch_size: int = 32
    learning_rate: float = 5e-4
    head_rate: float = 20.0
    decay: Decay = "cosine"
    warmup: float = 0.06
    weight_decay: float = 0.01
    clip: float = 1.0
    dropout: bool = False
    tuning: Tuning = field(default_factory=lambda: LoRA(16, 32.0, ALL_LINEARS))
    weights: LossWeights = field(default_factory=LossWeights)
    augmentation: Augmentation = field(default_factory=Augmentation)
    caps: Caps = field(default_factory=Caps)
    near: int = 4
    negatives: int = 0
    validation: float = 0.06
    looks: int = 10
    patience: int = 6
    precision: PrecisionChoice = "auto"
    stored: Literal["float32", "float16"] = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least(self, batch_size=1, near=0, negatives=0, seed=0)
        require_above_zero(self, "head_rate")
        if not 0.0 <= self.validation < 1.0:
            raise ValueError(f"validation must be in [0, 1), got {self.validation}")
        require_one_of(self, "stored", ("float32", "float16"))
        self.schedule  # noqa: B018 (refuses what does not fit)

    @property
    def schedule(self) -> Schedule:
        """The course of the training."""
        return Schedule(**{one.name: getattr(self, one.name) for one in fields(Schedule)})

    def as_json(self) -> Mapping[str, Any]:
        """Return every number by name; the way of tuning is named too."""
        return asdict(self) | {"tuning": {"kind": type(self.tuning).__name__} | asdict(self.tuning)}
