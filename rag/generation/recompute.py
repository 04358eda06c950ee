"""Repairs: some cached rows are computed anew, seeing what stands before them in the prompt.

LegoLink computes the first rows of each passage (EPIC, arXiv:2410.15332), CacheBlend those whose
keys or values would differ most (arXiv:2405.16444). All rows at serial positions are a full
prefill.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from rag.generation.attention import Group, LayerKeys, Scratch
from rag.generation.plan import ContextWeights

if TYPE_CHECKING:
    from rag.generation.plan import Deviation

COMPARED_LAYER = 1
"""Keys and values of the first layer depend on no other token; these are the first to differ."""


class Compared(Exception):  # noqa: N818 - it is no error: it ends a forward pass that has done its work
    """Ends a forward pass when the compared layer is reached."""


class BlendLayer(CacheLayerMixin):  # type: ignore[misc]  # transformers is not typed here
    """One layer of the assembled context, into which recomputed rows are written in place.

    A row sees the prefix and all rows of the context up to itself, recomputed or cached.
    """

    is_sliding = False

    def __init__(self, cache: BlendCache, number: int) -> None:
        super().__init__()
        self._cache = cache
        self._number = number
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing to make: the context is there."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[LayerKeys, None]:
        """Write rows into the context; return what they attend to.

        Args:
            key_states: (1, kv_heads, rows, head_dim), rotated.
            value_states: the same shape.
        """
        return self._cache.write(self._number, key_states[0], value_states[0]), None

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset for mask construction, which is switched off."""
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        """Tokens visible in all: bookkeeping, not a position."""
        return int(self._cache.keys.shape[2])

    def get_max_length(self) -> int:
        """No limit of its own."""
        return -1


class BlendCache(Cache):  # type: ignore[misc]  # transformers is not typed here
    """The context of one request while rows of it are computed anew.

    Attributes:
        keys: (layers, kv_heads, tokens, head_dim), rotated; the request's own copy, written.
        values: the same shape.
        columns: int64 (rows,): which tokens the current forward pass computes, ascending.
        deviations: float32 (tokens,): how far each token's key or value was from the cached one, if
            the pass compares.
    """

    def __init__(
        self,
        context: tuple[Tensor, Tensor, Tensor],
        prefix: tuple[Tensor, Tensor] | None,
        scratch: Scratch,
    ) -> None:
        """Hold a context.

        Args:
            context: keys, values, and positions, int64 (tokens,).
            prefix: keys and values, (layers, kv_heads, tokens, head_dim), at positions from 0.
            scratch: buffers for the attention function.
        """
        self.keys, self.values, self.positions = context
        self.columns = torch.empty(0, dtype=torch.int64)
        self.deviations = torch.zeros(len(self.positions), device=self.keys.device)
        self._compare: Deviation | None = None
        self._scratch = scratch
        empty = self.keys[:, :, :0], self.values[:, :, :0]
        self._prefix = empty if prefix is None else prefix
        tokens = self._prefix[0].shape[2]
        self._prefix_positions = torch.arange(tokens, device=self.keys.device)
        super().__init__(layers=[BlendLayer(self, number) for number in range(len(self.keys))])

    def select(self, columns: Tensor, compare: Deviation | None = None) -> None:
        """Choose the rows of the next pass, and whether it only compares and then ends.

        Args:
            columns: int64 (rows,), ascending.
            compare: raise `Compared` once `deviations` of these rows are known.
        """
        self.columns = columns
        self._compare = compare

    def write(self, number: int, keys: Tensor, values: Tensor) -> LayerKeys:
        """Write one layer's rows; return what they attend to.

        Args:
            number: of the layer.
            keys: (kv_heads, rows, head_dim), rotated.
            values: the same shape.
        """
        if self._compare is not None and number == COMPARED_LAYER:
            new, old = (
                (keys, self.keys[number])
                if self._compare == "key"
                else (values, self.values[number])
            )
            difference = (new - old[:, self.columns]).float()
            self.deviations[self.columns] = difference.square().sum((0, 2)).sqrt()
            raise Compared
        self.keys[number][:, self.columns] = keys
        self.values[number][:, self.columns] = values
        seen = Group(self.keys[number], self.values[number], self.positions, self.columns + 1)
        return LayerKeys(
            [seen],
            self._prefix[0][number],
            self._prefix[1][number],
            self._prefix_positions,
            0,
            self.positions[self.columns],
            ContextWeights(),
            self._scratch,
        )


def most_different(deviations: Tensor, among: Tensor, count: int) -> Tensor:
    """Return the columns that differ most, ascending; ties go to the lower column.

    Args:
        deviations: float32 (tokens,).
        among: int64 (candidates,), ascending.
        count: at most as many as there are candidates.
    """
    order = torch.argsort(deviations[among], descending=True, stable=True)
    return among[order[:count]].sort().values
