"""Adapters: what training changed, in a folder, and the base and prior that it belongs to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pruners.provence.model import ProvenceModel
from pruners.provence.pair_tokens import QUERY_TOKENS, TITLE_TOKENS, WINDOW
from pruners.provence.rounding import Rounding
from pruners.provence.top_layers import TopLayers
from rag.errors import ModelNotFoundError
from rag.files import write_atomically
from rag.training.lora import LoRA, LoRALinear, merge_lora

if TYPE_CHECKING:
    import torch

FORMAT = "dovetail-provence-adapter-1"
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
_TUNINGS = MappingProxyType({"lora": LoRA, "top_layers": TopLayers})
Tuning = LoRA | TopLayers


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """What an adapter's tensors mean.

    Attributes:
        base: name of the trunk that was tuned.
        base_fingerprint: SHA-256 of its weight files.
        tuning: which of its layers were tuned, and how.
        prior: name of the scorer whose logits are added; empty without one.
        prior_fingerprint: hash of that scorer; empty without one.
        window: most tokens of a block.
        query_tokens: most tokens of the query.
        title_tokens: most tokens of the title.
        rounding: how token probabilities become a sentence's score.
        threshold: the score that a sentence should exceed, in [0, 1].
        recipe: how it was trained: data, steps, seed and whatever else JSON can say.
    """

    base: str
    base_fingerprint: str
    tuning: Tuning
    prior: str = ""
    prior_fingerprint: str = ""
    window: int = WINDOW
    query_tokens: int = QUERY_TOKENS
    title_tokens: int = TITLE_TOKENS
    rounding: Rounding = "mean"
    threshold: float = 0.1
    recipe: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if bool(self.prior) != bool(self.prior_fingerprint):
            got = f"{self.prior!r} and {self.prior_fingerprint!r}"
            raise ValueError(f"prior and prior_fingerprint go together, got {got}")
        if not 0.0 <= self.threshold <= 1.0:
            raise ValueError(f"threshold must be in [0, 1], got {self.threshold}")


def new_model(
    trunk: Any,
    tuning: Tuning,
    *,
    residual: bool = True,
    generator: torch.Generator | None = None,
) -> ProvenceModel:
    """Return an untrained model over a trunk, which is changed in place.

    Args:
        trunk: a `transformers` model without a head.
        tuning: which of its layers are trained, and how.
        residual: whether a prior's logits are added.
        generator: of what is drawn, on the CPU.

    Raises:
        ValueError: if `tuning` does not fit the trunk.
    """
    tuning.apply(trunk, generator)
    return ProvenceModel(trunk, residual=residual).to(next(trunk.parameters()).device)


def save_adapter(
    folder: Path,
    model: ProvenceModel,
    config: AdapterConfig,
    *,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a model's trainable parameters and its configuration; the folder is made if needed.

    In the parameters' own dtype, what is loaded gives the same scores to the last bit. In a smaller
    one it does not: measure what you ship after loading it.

    Args:
        folder: gets `model.safetensors` and `config.json`; older ones are replaced.
        model: as `new_model` made it, its LoRA not merged.
        config: what the tensors mean.
        dtype: of the file; None keeps that of each parameter.

    Raises:
        ValueError: if the model has a prior and the configuration none, or the other way round, or
            its LoRA is merged.
    """
    from safetensors.torch import save

    if model.residual != bool(config.prior):
        has = "adds a prior" if model.residual else "adds no prior"
        raise ValueError(f"config.prior must fit the model, which {has}, got {config.prior!r}")
    loras = any(isinstance(module, LoRALinear) for module in model.modules())
    if isinstance(config.tuning, LoRA) != loras:
        has = "LoRA layers" if loras else "no LoRA layers"
        raise ValueError(f"config.tuning must fit the model, which has {has}, got {config.tuning}")
    tensors = {
        name: parameter.detach().to("cpu", dtype or parameter.dtype).contiguous()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    (kind,) = [kind for kind, of in _TUNINGS.items() if type(config.tuning) is of]
    stated = asdict(config) | {"tuning": {"kind": kind} | asdict(config.tuning)}
    text = json.dumps({"format": FORMAT} | stated, indent=1, ensure_ascii=False) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    content = save(tensors)
    write_atomically(folder / WEIGHTS, lambda file: file.write(content), mode=0o644)
    write_atomically(folder / CONFIG, lambda file: file.write(text.encode()), mode=0o644)


def is_adapter(folder: Path) -> bool:
    """Return whether a folder is an adapter that `save_adapter` wrote."""
    try:
        stated = json.loads((folder / CONFIG).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(stated, dict) and stated.get("format") == FORMAT


def read_config(folder: Path) -> AdapterConfig:
    """Return the configuration of an adapter.

    Raises:
        ModelNotFoundError: if the folder is no adapter.
        ValueError: if a field is unknown or wrong.
    """
    if not is_adapter(folder):
        raise ModelNotFoundError(f"{folder} is no adapter: its {CONFIG} must say format {FORMAT!r}")
    stated = json.loads((folder / CONFIG).read_bytes())
    del stated["format"]
    tuning = stated.pop("tuning")
    kind = tuning.pop("kind", None)
    if kind not in _TUNINGS:
        raise ValueError(f"tuning.kind must be one of {sorted(_TUNINGS)}, got {kind!r}")
    try:
        return AdapterConfig(tuning=_TUNINGS[kind](**tuning), **stated)
    except TypeError as error:
        raise ValueError(f"{folder / CONFIG} has a field that does not belong: {error}") from None


def load_adapter(
    folder: Path,
    trunk: Any,
    *,
    base_fingerprint: str,
    prior_fingerprint: str = "",
    merge: bool = True,
) -> ProvenceModel:
    """Return the trained model over a trunk, which is changed in place, in evaluation mode.

    Args:
        folder: as `save_adapter` wrote it.
        trunk: the base, untouched.
        base_fingerprint: of the trunk's weight files.
        prior_fingerprint: of the scorer that will be the prior; empty for none.
        merge: whether LoRA is merged into the layers: faster, and equal within 1e-5.

    Raises:
        ModelNotFoundError: if the folder is no adapter.
        ValueError: if the base or the prior is another one, or the tensors do not fit.
    """
    from safetensors.torch import load_file

    config = read_config(folder)
    for what, wanted, got in (
        ("base", config.base_fingerprint, base_fingerprint),
        ("prior", config.prior_fingerprint, prior_fingerprint),
    ):
        if wanted != got:
            name = config.base if what == "base" else config.prior
            raise ValueError(
                f"{folder} was trained on {what} {name or 'none'!r} ({wanted[:12] or 'none'}), got "
                f"one with fingerprint {got[:12] or 'none'}; train an adapter for it, or give the "
                f"{what} that it names"
            )
    model = new_model(trunk, config.tuning, residual=bool(config.prior))
    tensors = load_file(folder / WEIGHTS)
    wanted_shapes = {
        name: tuple(parameter.shape)
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if shapes != wanted_shapes:
        wrong = sorted(
            name
            for name in shapes.keys() | wanted_shapes.keys()
            if shapes.get(name) != wanted_shapes.get(name)
        )
        name = wrong[0]
        raise ValueError(
            f"{folder / WEIGHTS} must fit its {CONFIG}; {len(wrong)} tensors do not, first {name}: "
            f"must be {wanted_shapes.get(name, 'absent')}, got {shapes.get(name, 'absent')}"
        )
    model.load_state_dict(tensors, strict=False)
    if merge:
        merge_lora(model)
    return model.eval()
