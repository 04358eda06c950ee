"""Building a model from a plan: every tensor of the file finds its place, or loading fails."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from pruners.provence.checkpoints.contents import CONFIG, Contents
from pruners.provence.checkpoints.families import NormedRerankHead, rerank_head
from pruners.provence.checkpoints.plan import Plan
from pruners.provence.heads import zero_token_head
from pruners.provence.model import ProvenceModel
from rag.models.quiet import quiet_libraries

# Neither what it is called nor where code or kernels lie is part of an architecture.
_NOT_ARCHITECTURE = (
    "architectures",
    "attn_implementation",
    "auto_map",
    "base_model_name_or_path",
    "dtype",
    "experts_implementation",
    "model_type",
    "quantization_config",
    "torch_dtype",
    "transformers_version",
)
_BUFFERS = ("embeddings.position_ids",)  # written by old versions of transformers, always 0, 1, 2 …


def assemble(contents: Contents, plan: Plan) -> ProvenceModel:
    """Return the model of a checkpoint, on the CPU, in float32 and in evaluation mode.

    ModernBERT's token head reads the states before the trunk's last layer norm: the checkpoints
    were trained with transformers 4.57.1, whose last hidden state is that one. (From version 5 on
    it is the one after, so that the checkpoints' own code gives other scores there.) The norm moves
    into the rerank head.

    Raises:
        ValueError: if tensors are missing, left over or of another shape, with their names; or if
            the configuration is not one of the family.
    """
    config, trunk = _skeleton(contents, plan)
    labels = contents.shapes.get(f"{plan.prefix}{plan.family.classifier}.weight", (1,))[0]
    token, rerank = (
        zero_token_head(int(config.hidden_size)),
        rerank_head(plan.family, config, labels),
    )
    heads = nn.ModuleDict({"token": token, "rerank": rerank})
    trunk_names = {f"{plan.prefix}{plan.family.prefix}{name}": name for name in trunk.state_dict()}
    head_names = {_head_name(plan, name): name for name in heads.state_dict()}
    _check(
        contents,
        plan,
        {file: tuple(trunk.state_dict()[name].shape) for file, name in trunk_names.items()}
        | {file: tuple(heads.state_dict()[name].shape) for file, name in head_names.items()},
    )
    found = contents.tensors(trunk_names.keys() | head_names.keys())
    with quiet_libraries():
        trunk = type(trunk).from_pretrained(
            None,
            config=config,
            state_dict={name: found[file] for file, name in trunk_names.items()},
            dtype=torch.float32,
            **_settings(plan),
        )
    heads.load_state_dict({name: found[file] for file, name in head_names.items()})
    if isinstance(rerank, NormedRerankHead):
        rerank.states, trunk.final_norm = trunk.final_norm, nn.Identity()
    return ProvenceModel(trunk, token_head=token, rerank_head=rerank).eval()


def _skeleton(contents: Contents, plan: Plan) -> tuple[Any, Any]:
    """Return the trunk's configuration, and the trunk with shapes and without numbers.

    Nothing that could name code is taken from the configuration.
    """
    import transformers
    from huggingface_hub.errors import StrictDataclassError

    fields = {
        name: value
        for name, value in plan.config.items()
        if name not in _NOT_ARCHITECTURE and not name.startswith("_")
    }
    wrong = (StrictDataclassError, ArithmeticError, AttributeError, LookupError, RuntimeError)
    try:
        with torch.device("meta"), quiet_libraries():
            config = transformers.AutoConfig.for_model(plan.family.model_type, **fields)
            return config, getattr(transformers, plan.family.trunk)(config, **_settings(plan))
    except (*wrong, TypeError, ValueError) as error:
        raise ValueError(
            f"{contents.folder / CONFIG} is no configuration of {plan.family.model_type}: {error}"
        ) from None


def _settings(plan: Plan) -> dict[str, bool]:
    return {"add_pooling_layer": False} if plan.family.pools else {}


def _head_name(plan: Plan, name: str) -> str:
    """Return what the file calls a tensor of the heads."""
    head, rest = name.split(".", 1)
    if head == "token":
        return f"{plan.token_head}.{rest}"
    layer, kind = rest.rsplit(".", 1)
    return f"{plan.prefix}{getattr(plan.family, layer)}.{kind}"


def _check(contents: Contents, plan: Plan, wanted: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse a file whose tensors are not exactly those that are wanted."""
    shapes = {
        name: shape
        for name, shape in contents.shapes.items()
        if not name.endswith(_BUFFERS) and not name.startswith(plan.ignored)
    }
    missing = sorted(wanted.keys() - shapes.keys())
    unexpected = sorted(shapes.keys() - wanted.keys())
    wrong = [
        f"{name} (must be {wanted[name]}, got {shapes[name]})"
        for name in sorted(wanted.keys() & shapes.keys())
        if wanted[name] != shapes[name]
    ]
    problems = [
        f"{len(names)} {what}: {', '.join(names[:8])}{', …' if len(names) > 8 else ''}"
        for what, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of the wrong shape", wrong),
        )
        if names
    ]
    if problems:
        raise ValueError(
            f"the tensors of {contents.folder} must be those of {plan.family.model_type} with a "
            f"token head {plan.token_head} and a rerank head {plan.prefix}{plan.family.classifier}"
            f"; {'; '.join(problems)}"
        )
