"""Recipe of an adaptation: every number that its outcome depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from rag.adaptation.adapter import Stored
from rag.adaptation.encodings import CACHED, SEQUENTIAL, Encoding
from rag.bounds import require_share
from rag.training.lora import DECODER_LINEARS, LoRA
from rag.training.rate_schedule import Decay
from rag.training.schedule import (
    PrecisionChoice,
    Schedule,
    require_at_least,
    require_one_of,
)

Teacher = Literal["self", "base", "none"]


@dataclass(frozen=True, slots=True)
class ReadingRecipe:
    """How a model learns to read independently encoded passages.

    Attributes:
        epochs: times that every example is shown, above 0.
        steps: number of steps instead of epochs; None counts by epochs.
        batch_size: examples of a step.
        pass_tokens: most tokens of one forward pass; a step takes as many passes as it needs, and
            an example that is longer has a pass of its own.
        learning_rate: at its peak.
        decay: how it falls after the warm-up.
        warmup: share of the steps over which it rises.
        weight_decay: of AdamW.
        clip: largest norm of the gradient.
        tuning: which layers get updates, and of which rank.
        mix: the encodings that are learned beside the sequential prompt.
        readings: how many of them each example of a step is read in.
        whole: share of the examples of a step that are read whole instead of pruned.
        sequential_first: share of the steps, at the beginning, that read the sequential prompt
            alone: those are cheap, the model learns to answer first, and most of what it learns
            there holds for the cached readings, too.
        cached_every: of the steps after these, one in so many, and the last one, reads cached
            encodings; the others read the sequential prompt alone.
        teacher: whose distribution an answer's tokens are drawn to: the model's own in the
            sequential prompt, that of the model without its updates, or nobody's.
        distil: weight of that part of the loss.
        teacher_tokens: most probable tokens that are remembered of the base model's distribution.
        checkpointing: whether activations are computed anew in the backward pass: less memory, a
            third more time.
        looks: how often the held-out examples are scored.
        checks: most held-out examples that a look scores.
        patience: looks without a gain after which the training ends.
        precision: of forward passes; `auto` tries which is faster.
        stored: dtype of the adapter's file.
        seed: of everything that is drawn.

    Raises:
        ValueError: for a value that is not allowed.
    """

    epochs: float = 1.0
    steps: int | None = None
    batch_size: int = 8
    pass_tokens: int = 2048
    learning_rate: float = 4e-4
    decay: Decay = "cosine"
    warmup: float = 0.05
    weight_decay: float = 0.01
    clip: float = 1.0
    tuning: LoRA = field(default_factory=lambda: LoRA(16, 32.0, DECODER_LINEARS))
    mix: tuple[Encoding, ...] = CACHED
    readings: int = 3
    whole: float = 0.05
    sequential_first: float = 0.5
    cached_every: int = 1
    teacher: Teacher = "self"
    distil: float = 0.5
    teacher_tokens: int = 64
    checkpointing: bool = False
    looks: int = 10
    checks: int = 100
    patience: int = 4
    precision: PrecisionChoice = "auto"
    stored: Stored = "bfloat16"
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least(
            self, batch_size=1, pass_tokens=1, teacher_tokens=1, checks=1, cached_every=1
        )
        require_at_least(self, readings=0, seed=0, distil=0)
        for name in ("whole", "sequential_first"):
            require_share(name, getattr(self, name))
        require_one_of(self, "teacher", get_args(Teacher))
        require_one_of(self, "stored", get_args(Stored))
        if any(one.name == SEQUENTIAL.name for one in self.mix):
            raise ValueError(f"mix must not hold {SEQUENTIAL.name!r}, which is always read")
        self.schedule  # noqa: B018 (refuses what does not fit)

    @property
    def schedule(self) -> Schedule:
        """The course of the training."""
        return Schedule(**{one.name: getattr(self, one.name) for one in fields(Schedule)})

    @property
    def encodings(self) -> tuple[Encoding, ...]:
        """All that is learned, the sequential prompt first."""
        return SEQUENTIAL, *self.mix

    def as_json(self) -> Mapping[str, Any]:
        """Return every number by name."""
        told = {name: value for name, value in asdict(self).items() if name != "mix"}
        return told | {"mix": [one.as_json() for one in self.mix]}
