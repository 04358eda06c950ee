"""Tiny models of every family, with engines that say what a training pass must compute."""

import importlib.util
from pathlib import Path

import pytest
import torch

from rag.generation.engine import Engine
from rag.training.lora import DECODER_LINEARS, LoRA, LoRALinear

_spec = importlib.util.spec_from_file_location(
    "generation_conftest", Path(__file__).parents[1] / "generation" / "conftest.py"
)
_generation = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_generation)

families = _generation.families
family = _generation.family
windowed = _generation.windowed
tokens = _generation.tokens


@pytest.fixture(scope="session")
def token_ids():
    """Return a function (count, seed) -> token ids of the tiny models."""
    return tokens


@pytest.fixture(scope="session")
def updated(families, identity_of):
    """Return a function (family, dtype, **changes) -> engine over a model with LoRA inside.

    The updates are as large as trained ones, so that they change what the model says.
    """

    def build(family="llama", dtype=torch.float64, **changes):
        model = families.model(family, dtype, **changes)
        LoRA(2, 4.0, DECODER_LINEARS).apply(model, torch.Generator().manual_seed(0))
        generator = torch.Generator().manual_seed(1)
        for module in model.modules():
            if isinstance(module, LoRALinear):
                drawn = torch.randn(module.lora_b.shape, generator=generator)
                module.lora_b.data.copy_(0.1 * drawn)
        return Engine(model, identity_of(dtype), tested=True)

    return build


@pytest.fixture(scope="session")
def identity_of():
    """Return a function dtype -> identity of the tiny models, that of their engines."""
    from rag.records import ModelIdentity

    return lambda dtype: ModelIdentity("tiny", "w", "r", str(dtype).removeprefix("torch."), "t")
