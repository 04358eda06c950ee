"""Reading adapters: the trained updates in a folder, and the one model that they belong to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rag.errors import AdapterError
from rag.files import write_atomically
from rag.record_json import from_json, to_json
from rag.training.lora import LoRA, lora_layers, merged_weight

if TYPE_CHECKING:
    from torch import Tensor

    from rag.models.language_model import LoadedModel
    from rag.records import ModelIdentity

FORMAT = "dovetail-reading-adapter-1"
WEIGHTS = "adapter.safetensors"
CONFIG = "config.json"
_DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
_SHORT = 12
Stored = Literal["bfloat16", "float16", "float32"]


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """What an adapter's tensors mean, and which model they were trained on.

    Attributes:
        base: name of the model, as its user called it.
        base_weights: SHA-256 of its weight files, as `ModelIdentity.weights`.
        base_config: its configuration, as `ModelIdentity.config`. Its values are compared rather
            than a hash of them, as a later version of a library adds settings of its own.
        lora: rank, alpha and pattern of the updates.
        layers: names of the linear layers that have one.
        recipe: how it was trained: data, steps, seed and whatever else JSON can say.
        adapter: SHA-256 of tensors and scale, as `ModelIdentity.adapter`; `save_adapter` sets it.
    """

    base: str
    base_weights: str
    base_config: Mapping[str, Any]
    lora: LoRA
    layers: tuple[str, ...]
    recipe: Mapping[str, Any] = field(default_factory=dict)
    adapter: str = ""

    def __post_init__(self) -> None:
        if not self.layers or len(set(self.layers)) < len(self.layers):
            raise ValueError(f"layers must be one name or more, each once, got {self.layers}")

    @classmethod
    def of(
        cls,
        identity: ModelIdentity,
        lora: LoRA,
        layers: Sequence[str],
        recipe: Mapping[str, Any] | None = None,
    ) -> AdapterConfig:
        """Return the configuration of updates that are trained on a model.

        Args:
            identity: of the base.
            lora: as it was applied.
            layers: what `LoRA.apply` returned.
            recipe: how they are trained.
        """
        settings = json.loads(identity.config)
        return cls(identity.name, identity.weights, settings, lora, tuple(layers), recipe or {})


def save_adapter(
    folder: Path, model: Any, config: AdapterConfig, *, stored: Stored = "bfloat16"
) -> None:
    """Write the updates inside a model, and what they mean; the folder is made if needed.

    Args:
        folder: gets `adapter.safetensors` and `config.json`; older ones are replaced.
        model: has the updates, not merged.
        config: what they mean.
        stored: dtype of the file. What is loaded from a smaller one than that of the updates reads
            a little differently: measure what you ship after loading it.

    Raises:
        ValueError: if the configuration does not fit the updates, or one of their numbers is not
            finite in the dtype of the file.
    """
    import torch
    from safetensors.torch import save

    found = lora_layers(model)
    if set(found) != set(config.layers):
        odd = sorted(set(found) ^ set(config.layers))
        raise ValueError(
            f"config.layers must be the {len(found)} layers with an update, got "
            f"{len(config.layers)}; first difference: {odd[0]}"
        )
    tensors = {}
    for name, layer in found.items():
        if (layer.lora_a.shape[0], layer.scale) != (config.lora.rank, _scale(config.lora)):
            raise ValueError(
                f"config.lora must fit {name}, of rank {layer.lora_a.shape[0]} and scale "
                f"{layer.scale:g}, got {config.lora}"
            )
        for part, tensor in (("lora_a", layer.lora_a), ("lora_b", layer.lora_b)):
            made = tensor.detach().to("cpu", getattr(torch, stored)).contiguous()
            if not made.isfinite().all():
                raise ValueError(f"{name}.{part} must be finite in {stored}, got inf or nan")
            tensors[f"{name}.{part}"] = made
    named = replace(config, adapter=_sha(tensors, config.lora))
    told = {"format": FORMAT, **to_json(named)}
    text = json.dumps(told, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    content = save(tensors)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / WEIGHTS, lambda file: file.write(content), mode=0o644)
    write_atomically(folder / CONFIG, lambda file: file.write(text.encode()), mode=0o644)


def is_adapter(folder: Path) -> bool:
    """Return whether a folder's configuration says that it is a reading adapter."""
    try:
        told = json.loads((folder / CONFIG).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(told, dict) and told.get("format") == FORMAT


def load_adapter_config(folder: Path) -> AdapterConfig:
    """Return the configuration of an adapter; its tensors are not read.

    Raises:
        AdapterError: if the folder is no adapter, or a field of its configuration is wrong.
    """
    if not is_adapter(folder):
        raise AdapterError(
            f"{folder} is no adapter: it must hold a {CONFIG} of format {FORMAT!r}, as "
            "`dovetail adapt` writes it"
        )
    told = json.loads((folder / CONFIG).read_bytes())
    del told["format"]
    try:
        return from_json(AdapterConfig, told, where=CONFIG)  # type: ignore[no-any-return]
    except ValueError as error:
        raise AdapterError(f"{folder} is damaged: {error}; train it again") from error


def adapted(loaded: LoadedModel, folder: Path) -> LoadedModel:
    """Merge an adapter into a model's layers, in place, and return it with its new identity.

    Everything is checked before a weight is touched: after an error the model is as it was.

    Args:
        loaded: the base; it must not be used any more under its old identity.
        folder: as `save_adapter` wrote it.

    Raises:
        AdapterError: if the folder is no adapter, is damaged, or belongs to another model, or if
            the model has an adapter already.
    """
    import torch

    config, updates = read_updates(loaded, folder)
    with torch.no_grad():
        for name, (a, b) in updates.items():
            layer = loaded.model.get_submodule(name)
            layer.weight.copy_(merged_weight(layer.weight, a, b, _scale(config.lora)))
    return replace(loaded, identity=replace(loaded.identity, adapter=config.adapter))


def read_updates(
    loaded: LoadedModel, folder: Path
) -> tuple[AdapterConfig, dict[str, tuple[Tensor, Tensor]]]:
    """Return what an adapter adds to a model: A and B of each layer, by name; none is put in.

    Args:
        loaded: the base, with neither an adapter nor updates inside.
        folder: as `save_adapter` wrote it.

    Raises:
        AdapterError: as of `adapted`.
    """
    config = load_adapter_config(folder)
    _require_base(loaded.identity, config, folder)
    tensors = _read(folder, config, _linears(loaded.model, config, folder))
    return config, {
        name: (tensors[f"{name}.lora_a"], tensors[f"{name}.lora_b"]) for name in config.layers
    }


def put_updates(model: Any, updates: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """Give the updates inside a model the values of an adapter, to train them further.

    Args:
        model: has an update of the same rank in each of the layers, and in no other.
        updates: as `read_updates` returns them.

    Raises:
        ValueError: if the layers are not the same.
    """
    import torch

    layers = lora_layers(model)
    if layers.keys() != updates.keys():
        odd = min(layers.keys() ^ updates.keys())
        raise ValueError(
            f"updates must be of the {len(layers)} layers that have one, got {len(updates)}; first "
            f"difference: {odd}"
        )
    with torch.no_grad():
        for name, layer in layers.items():
            a, b = updates[name]
            layer.lora_a.copy_(a)
            layer.lora_b.copy_(b)


def _scale(lora: LoRA) -> float:
    return lora.alpha / lora.rank


def _require_base(identity: ModelIdentity, config: AdapterConfig, folder: Path) -> None:
    """Raise AdapterError unless the model is the one that the adapter was trained on."""
    if identity.adapter:
        raise AdapterError(
            f"{identity.name} has the adapter {identity.adapter[:_SHORT]} already, and {folder} "
            "belongs to the model without one"
        )
    if identity.weights != config.base_weights:
        raise AdapterError(
            f"{folder} was trained on {config.base} with weights {config.base_weights[:_SHORT]}, "
            f"but {identity.name} has weights {identity.weights[:_SHORT]}: another model, or "
            "another revision of it; use --adapter none, or train one with `dovetail adapt`"
        )
    if wrong := _difference(config.base_config, json.loads(identity.config)):
        name, trained, got = wrong
        raise AdapterError(
            f"{folder} was trained on {config.base} with {name} = {trained!r}, but "
            f"{identity.name} has {got!r}; use --adapter none, or train one with `dovetail adapt`"
        )


def _difference(trained: Any, got: Any, name: str = "") -> tuple[str, Any, Any] | None:
    """Return the first setting that both have and that differs, with both of its values."""
    if isinstance(trained, Mapping) and isinstance(got, Mapping):
        shared = sorted(trained.keys() & got.keys())
        inside = (_difference(trained[k], got[k], f"{name}.{k}" if name else k) for k in shared)
        return next((found for found in inside if found), None)
    return None if trained == got else (name, trained, got)


def _linears(model: Any, config: AdapterConfig, folder: Path) -> dict[str, Any]:
    """Return the layers that the adapter changes, by name.

    Raises:
        AdapterError: if the model has no such layer, or it is no plain linear layer of its own.
    """
    from torch import nn

    known = dict(model.named_modules())
    embedded = model.get_input_embeddings().weight
    for name in config.layers:
        layer = known.get(name)
        if type(layer) is not nn.Linear or layer.weight is embedded:
            is_ = (
                "the model has none of that name"
                if layer is None
                else "it shares its weights with the embeddings"
                if type(layer) is nn.Linear
                else f"it is a {type(layer).__name__}"
            )
            raise AdapterError(f"{folder} changes the linear layer {name!r}, but {is_}")
    return {name: known[name] for name in config.layers}


def _read(folder: Path, config: AdapterConfig, layers: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return an adapter's tensors; names, sizes and dtypes are checked before they are read.

    Raises:
        AdapterError: if one is missing, unknown or of another size, or the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    path, rank = folder / WEIGHTS, config.lora.rank
    wanted = {f"{name}.lora_a": (rank, layer.in_features) for name, layer in layers.items()}
    wanted |= {f"{name}.lora_b": (layer.out_features, rank) for name, layer in layers.items()}
    try:
        with safe_open(path, framework="pt") as file:
            parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            shapes = {name: tuple(part.get_shape()) for name, part in parts.items()}
            wrong = [n for n in shapes.keys() | wanted if shapes.get(n) != wanted.get(n)]
            if wrong:
                name = min(wrong)
                raise AdapterError(
                    f"{path} must fit its {CONFIG}; {len(wrong)} tensors do not, first {name}: "
                    f"must be {wanted.get(name, 'absent')}, got {shapes.get(name, 'absent')}"
                )
            for name, part in parts.items():
                if part.get_dtype() not in _DTYPES:
                    allowed = ", ".join(_DTYPES.values())
                    raise AdapterError(f"{path}: {name} must be {allowed}, got {part.get_dtype()}")
            tensors = {name: file.get_tensor(name) for name in wanted}
    except (OSError, SafetensorError) as error:
        raise AdapterError(f"{path} cannot be read: {error}; train it again") from error
    found = _sha(tensors, config.lora)
    if found != config.adapter:
        raise AdapterError(
            f"{path} is damaged, or of another {CONFIG}: its hash must be "
            f"{config.adapter[:_SHORT] or 'given'}, got {found[:_SHORT]}; train it again"
        )
    return tensors


def _sha(tensors: Mapping[str, Tensor], lora: LoRA) -> str:
    """Return one SHA-256 over names, shapes, dtypes and bytes of the tensors, and their scale."""
    import torch

    total = hashlib.sha256(f"scale {_scale(lora)!r}\n".encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        total.update(tensor.view(torch.uint8).numpy().tobytes())
    return total.hexdigest()
