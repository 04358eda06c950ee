"""What an engine checks of a model before it lends out its KV: a few tokens, at every load."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

from rag.errors import UnsupportedModelError
from rag.generation.attention import IMPLEMENTATION
from rag.generation.capability import reusable_positions, sliding_windows
from rag.generation.plan import ContextWeights, parallel_plan
from rag.records import Segment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from rag.generation.engine import Engine

TOKENS: Final = 36
MOST_TOKENS: Final = 64
LIMITS: Final = {torch.bfloat16: 0.1, torch.float16: 0.02}
"""Largest relative error of a logit; in wider types `EXACT`."""
EXACT: Final = 1e-4


@torch.inference_mode()
def self_test(engine: Engine) -> None:
    """Compare cached segments with the model's own forward pass.

    If a window slides that is short enough, the test crosses it.

    Raises:
        UnsupportedModelError: if a request could cross into other rotary frequencies, if stored
            keys, rotated, differ from the model's own in any bit, or if logits differ by more than
            rounding. The model's attention is then the one that it came with.
    """
    model, name = engine.model, engine.identity.name
    limit = reusable_positions(model.config)
    if engine.window > limit:
        raise UnsupportedModelError(
            f"{name}: rotary frequencies change for prompts longer than {limit} tokens (LongRoPE), "
            f"so keys stored for shorter ones would be wrong, and its window is {engine.window}"
        )
    vocabulary = int(model.config.vocab_size)
    ids = tuple((7 * n + 3) % vocabulary for n in range(_test_tokens(engine)))
    before = model.config._attn_implementation  # noqa: SLF001 - there is no public getter
    try:
        _compare(engine, ids)
    except UnsupportedModelError:
        model.set_attn_implementation(before)
        raise
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        model.set_attn_implementation(before)
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise UnsupportedModelError(
            f"{name}: its forward pass does not run on cached segments: {error}"
        ) from error


def _test_tokens(engine: Engine) -> int:
    """Return how many tokens to run: past a short window, within the model's."""
    windows = sliding_windows(engine.model.config)
    reaching = [window + 8 for window in windows if window + 8 <= MOST_TOKENS]
    return min(engine.window, max([TOKENS, *reaching]))


def _compare(engine: Engine, ids: Sequence[int]) -> None:
    model, identity = engine.model, engine.identity
    model.set_attn_implementation("eager")
    own = model(torch.tensor([ids], device=model.device), logits_to_keep=1, use_cache=False)
    model.set_attn_implementation(IMPLEMENTATION)
    third = len(ids) // 3
    prefix = Segment(identity, "prefix", tuple(ids[:third]), name="self-test prefix")
    passage = Segment(
        identity, "passage", tuple(ids[third : 2 * third]), (prefix,), name="self-test"
    )
    plan = parallel_plan(prefix, ((passage, None),), tuple(ids[2 * third :]), ContextWeights())
    logits, same_keys = engine.rehearse(plan, ids)
    error = relative_error(logits, own.logits[0, -1])
    limit = LIMITS.get(model.dtype, EXACT)
    if not error <= limit or not same_keys:
        raise UnsupportedModelError(
            f"{identity.name}: cached segments do not reproduce the model's own forward pass "
            f"(relative logit error {error:.2e}, allowed {limit:.0e}; keys equal: {same_keys})"
        )


def relative_error(logits: Tensor, reference: Tensor) -> float:
    """Return the largest difference of two rows of logits over the largest of the reference."""
    wide = reference.to(logits.dtype)
    return float((logits - wide).abs().max() / wide.abs().max().clamp(min=1e-6))
