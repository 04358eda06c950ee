"""Where an adaptation starts: with updates that change nothing, or with those of an adapter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag.adaptation.adapter import put_updates, read_updates

if TYPE_CHECKING:
    from torch import Tensor

    from rag.models.language_model import LoadedModel
    from rag.training.lora import LoRA


@dataclass(frozen=True, slots=True)
class Start:
    """The updates that a training begins with, and where they come from.

    Attributes:
        adapter: hash of the adapter that is trained further; empty if it is none.
        recipe: how that one was made.
        updates: A and B of each layer, by name; none of no adapter.
    """

    adapter: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    updates: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    @classmethod
    def at(cls, folder: Path | None, loaded: LoadedModel, tuning: LoRA) -> Start:
        """Return the start at an adapter, or at none.

        Args:
            folder: of the adapter; None for none.
            loaded: the base, without updates.
            tuning: of the training that starts there.

        Raises:
            AdapterError: if the folder holds no adapter of this base.
            ValueError: if the adapter has updates of another kind.
        """
        if folder is None:
            return cls()
        config, updates = read_updates(loaded, folder)
        if config.lora != tuning:
            raise ValueError(f"tuning must be that of {folder}, {config.lora}, got {tuning}")
        return cls(config.adapter, config.recipe, updates)

    def put(self, model: Any) -> None:
        """Give the updates inside a model these values, if there are any."""
        if self.updates:
            put_updates(model, self.updates)

    def as_json(self) -> dict[str, Any]:
        """Return what an adapter's configuration tells of it: nothing, if it is none."""
        if not self.adapter:
            return {}
        return {"start": {"adapter": self.adapter, "recipe": dict(self.recipe)}}
