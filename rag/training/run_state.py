"""State of a training on disk: weights, optimiser and place, in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag.files import write_atomically

if TYPE_CHECKING:
    import torch
    from torch import Tensor

STATE = "state.safetensors"
_FORMAT = "dovetail-training-1"


class TrainingStateError(ValueError):
    """A saved state that is missing, damaged, or of another training."""


@dataclass(slots=True)
class RunState:
    """Where a training stands after a step.

    Order of data and augmentation are functions of the seed and the step, so no generator's state
    is part of it.

    Attributes:
        step: steps done.
        weights: trainable parameters by name.
        moments: tensors of the optimiser, by `parameter/name of the moment`.
        best: the weights that did best on the validation part so far; empty before the first look.
        facts: numbers and texts that the training needs to go on, as JSON.
    """

    step: int
    weights: dict[str, Tensor]
    moments: dict[str, Tensor]
    best: dict[str, Tensor] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


def save_state(folder: Path, state: RunState, settings: Mapping[str, Any]) -> None:
    """Replace the state of a folder, at once: a crash leaves the old one or the new one.

    Args:
        folder: exists.
        state: what to write.
        settings: everything that the course of the training depends on, as JSON says it.
    """
    from safetensors.torch import save

    parts = {"weights": state.weights, "moments": state.moments, "best": state.best}
    tensors = {
        f"{part}/{name}": tensor.detach().to("cpu", copy=True).contiguous()
        for part, named in parts.items()
        for name, tensor in named.items()
    }
    told = {"format": _FORMAT, "step": state.step, "facts": state.facts, "settings": dict(settings)}
    content = save(tensors, metadata={"state": json.dumps(told)})
    write_atomically(folder / STATE, lambda file: file.write(content))


def load_state(folder: Path, settings: Mapping[str, Any]) -> RunState:
    """Return the state of a folder, on the CPU.

    Raises:
        TrainingStateError: if there is none, it cannot be read, or it was made with other settings;
            the message names these.
    """
    path = folder / STATE
    if not path.is_file():
        raise TrainingStateError(f"{folder} holds no {STATE}, so there is nothing to resume")
    told, tensors = _read(path)
    made = told["settings"]
    wanted = json.loads(json.dumps(dict(settings)))
    different = [n for n in sorted({*made, *wanted}) if made.get(n) != wanted.get(n)]
    if different:
        listed = ", ".join(
            f"{name} was {made.get(name)!r}, now {wanted.get(name)!r}" for name in different
        )
        raise TrainingStateError(f"{path} is of a training with other settings: {listed}")
    parts: dict[str, dict[str, Tensor]] = {"weights": {}, "moments": {}, "best": {}}
    for name, tensor in tensors.items():
        part, rest = name.split("/", 1)
        parts[part][rest] = tensor
    return RunState(told["step"], **parts, facts=told["facts"])


def has_state(folder: Path) -> bool:
    """Tell whether a folder holds the state of a training."""
    return (folder / STATE).is_file()


def moments_of(
    optimiser: torch.optim.Optimizer, names: Mapping[str, torch.nn.Parameter]
) -> dict[str, Tensor]:
    """Return the tensors of an optimiser by `parameter/moment`; empty before its first step.

    Args:
        optimiser: of parameters that `names` holds.
        names: parameters by name.
    """
    return {
        f"{name}/{moment}": value
        for name, parameter in names.items()
        for moment, value in optimiser.state.get(parameter, {}).items()
    }


def put_moments(
    optimiser: torch.optim.Optimizer,
    names: Mapping[str, torch.nn.Parameter],
    moments: Mapping[str, Tensor],
) -> None:
    """Give an optimiser the tensors that `moments_of` returned, on each parameter's device.

    The count of steps stays on the CPU, where optimisers keep it.

    Args:
        optimiser: new, of parameters that `names` holds.
        names: parameters by name.
        moments: as saved.
    """
    for label, value in moments.items():
        name, moment = label.rsplit("/", 1)
        parameter = names[name]
        kept = value.clone() if moment == "step" else value.to(parameter.device, copy=True)
        optimiser.state[parameter][moment] = kept


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            told = json.loads((file.metadata() or {})["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        if told["format"] != _FORMAT:
            raise ValueError(f"format must be {_FORMAT}, got {told['format']!r}")  # noqa: TRY301
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise TrainingStateError(
            f"{path} is damaged, so nothing can be resumed: {error}"
        ) from error
    return told, tensors
