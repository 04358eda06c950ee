"""What an engine checks of a model before it lends out its KV: a few tokens, at every load."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from rag.errors import UnsupportedModelError
from rag.generation.attention import IMPLEMENTATION
from rag.generation.plan import ContextWeights, parallel_plan
from rag.records import Segment

if TYPE_CHECKING:
    from rag.generation.engine import Engine

TOKENS = 12


@torch.inference_mode()
def self_test(engine: Engine) -> None:
    """Compare cached segments with the model's own forward pass.

    Raises:
        UnsupportedModelError: if stored keys, rotated, differ from the model's own in any bit, or
            if logits differ by more than rounding.
    """
    model, identity = engine.model, engine.identity
    vocabulary = int(model.config.vocab_size)
    ids = tuple((7 * n + 3) % vocabulary for n in range(3 * TOKENS))
    model.set_attn_implementation("eager")
    own = model(torch.tensor([ids], device=model.device), logits_to_keep=1)
    model.set_attn_implementation(IMPLEMENTATION)
    prefix = Segment(identity, "prefix", ids[:TOKENS], name="self-test prefix")
    passage = Segment(identity, "passage", ids[TOKENS : 2 * TOKENS], (prefix,), name="self-test")
    plan = parallel_plan(prefix, ((passage, None),), ids[2 * TOKENS :], ContextWeights())
    logits, same_keys = engine.rehearse(plan, ids)
    reference = own.logits[0, -1].to(logits.dtype)
    error = float((logits - reference).abs().max() / reference.abs().max().clamp(min=1e-6))
    limit = 1e-4 if model.dtype in (torch.float32, torch.float64) else 0.1
    if error > limit or not same_keys:
        raise UnsupportedModelError(
            f"{identity.name}: cached segments do not reproduce the model's own forward pass "
            f"(relative logit error {error:.2e}, allowed {limit:.0e}; keys equal: {same_keys}); "
            "use mode 'sequential' with another engine"
        )
