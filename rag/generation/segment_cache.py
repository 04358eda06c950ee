"""A Hugging Face cache that returns segments: stored keys are attended to, never concatenated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from rag.generation.attention import Group, LayerKeys, Scratch
from rag.generation.plan import ContextWeights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rag.generation.scattered import ScatteredGroup


class SegmentLayer(CacheLayerMixin):  # type: ignore[misc]  # transformers is not typed here
    """One layer: fixed groups of stored keys, and a tail that this request appends to.

    The tail begins with a copy of the prefix, if there is one: prefix and tail share a softmax. It
    lives in one buffer that doubles when it is full, so a decoded token copies nothing.

    Attributes:
        groups: stored keys; never written.
        length: tokens in the tail, those of the prefix included.
    """

    is_sliding = False

    def __init__(
        self,
        groups: Sequence[Group | ScatteredGroup],
        scratch: Scratch,
        prefix: tuple[Tensor, Tensor] | None,
        tail: Tail,
        mass: Tensor | None,
    ) -> None:
        super().__init__()
        self.groups = tuple(groups)
        self._scratch = scratch
        self._tail = tail
        self._mass = mass
        self._prefix = prefix
        self._prefix_tokens = 0 if prefix is None else prefix[0].shape[1]
        self.length = self._prefix_tokens
        self._keys: Tensor | None = None
        self._values: Tensor | None = None

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Make room for the prefix, the first tokens and some more."""
        prefix = self._prefix_tokens
        room = prefix + max(64, 2 * key_states.shape[-2])
        heads, dim = key_states.shape[1], key_states.shape[-1]
        self._keys = key_states.new_empty(heads, room, dim)
        self._values = value_states.new_empty(heads, room, value_states.shape[-1])
        if self._prefix is not None:
            self._keys[:, :prefix] = self._prefix[0]
            self._values[:, :prefix] = self._prefix[1]
            # The copy is all that is needed; the original may be a view into another request.
            self._prefix = None
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[LayerKeys, None]:
        """Append tokens to the tail; return what the attention function reads.

        Args:
            key_states: (1, kv_heads, tokens, head_dim), rotated.
            value_states: the same shape.
        """
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self._keys is not None
        assert self._values is not None
        own = key_states.shape[-2]
        end = self.length + own
        if end > self._keys.shape[1]:
            self._keys = _grown(self._keys, self.length, 2 * end)
            self._values = _grown(self._values, self.length, 2 * end)
        self._keys[:, self.length : end] = key_states[0]
        self._values[:, self.length : end] = value_states[0]
        self.length = end
        positions = self._tail.positions[:end]
        return LayerKeys(
            self.groups,
            self._keys[:, :end],
            self._values[:, :end],
            positions,
            own,
            positions[end - own :],
            self._tail.weights,
            self._scratch,
            self._mass,
            None if self._tail.units is None else self._tail.units[:end],
        ), None

    @property
    def own(self) -> tuple[Tensor, Tensor]:
        """Rotated keys and values of this request's own tokens: (kv_heads, tokens, head_dim)."""
        assert self._keys is not None
        assert self._values is not None
        start = self._prefix_tokens
        return self._keys[:, start : self.length], self._values[:, start : self.length]

    def first(self, tokens: int) -> tuple[Tensor, Tensor]:
        """Rotated keys and values of the first tokens of the tail: views that stay as they are.

        Args:
            tokens: at most `length`; those of the prefix count.
        """
        assert tokens <= self.length
        if self._prefix is not None:
            return self._prefix[0][:, :tokens], self._prefix[1][:, :tokens]
        assert self._keys is not None
        assert self._values is not None
        return self._keys[:, :tokens], self._values[:, :tokens]

    @property
    def nbytes(self) -> int:
        """Bytes of the tail's buffers, room to grow included."""
        return sum(buffer.nbytes for buffer in (self._keys, self._values) if buffer is not None)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset for mask construction, which is switched off."""
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        """Tokens visible in all: bookkeeping, not a position."""
        return sum(len(group.positions) for group in self.groups) + self.length

    def get_max_length(self) -> int:
        """No limit of its own."""
        return -1


def _grown(buffer: Tensor, used: int, room: int) -> Tensor:
    larger = buffer.new_empty(buffer.shape[0], room, buffer.shape[2])
    larger[:, :used] = buffer[:, :used]
    return larger


class Tail:
    """What the layers of one request know alike about its tail.

    Attributes:
        positions: int64 (tokens,), of the prefix and of what was or is about to be run.
        weights: T, S and b of the context.
        units: the unit that each of these tokens counts for in the attention mass, or None.
    """

    def __init__(self, positions: Tensor, weights: ContextWeights, units: Tensor | None) -> None:
        self.positions = positions
        self.weights = weights
        self.units = units

    def append(self, positions: Tensor, units: Tensor | None) -> None:
        """Announce tokens that are about to be run."""
        self.positions = torch.cat([self.positions, positions])
        if self.units is not None and units is not None:
            self.units = torch.cat([self.units, units])


class Lease:
    """Held by all caches that read the same buffers: once it is gone, they can be used again."""

    __slots__ = ("__weakref__",)


class SegmentCache(Cache):  # type: ignore[misc]  # transformers is not typed here
    """The cache of one request: for each layer the stored groups and the request's own tail.

    Stored tensors are shared between requests and never written.

    Attributes:
        mass: the last query's attention, (layers, heads, units) float32: how much of it went to
            each unit, the last of which is all that belongs to none; None if nobody asked.
    """

    layers: list[SegmentLayer]

    def __init__(
        self,
        groups: Sequence[Sequence[Group | ScatteredGroup]],
        scratch: Scratch,
        prefix: tuple[Sequence[Tensor] | Tensor, Sequence[Tensor] | Tensor] | None = None,
        *,
        weights: ContextWeights = ContextWeights(),
        positions: Tensor | None = None,
        mass: Tensor | None = None,
        units: Tensor | None = None,
        lease: Lease | None = None,
    ) -> None:
        """Hold stored keys for one request.

        Args:
            groups: for each layer its groups; none means that only prefix and tail are visible.
            scratch: buffers for the attention function.
            prefix: keys and values, (layers, kv_heads, tokens, head_dim) or one tensor a layer.
            weights: T, S and b of the groups.
            positions: of the prefix, int64 (tokens,); None means from 0.
            mass: room for the attention mass, (layers, heads, units), if it is asked for.
            units: of the prefix's tokens, int64 (tokens,), if mass is asked for; None means that
                they belong to none.
            lease: of the buffers that the groups lie in, if they are used again.
        """
        tokens = 0 if prefix is None else prefix[0][0].shape[1]
        if positions is None:
            positions = torch.arange(tokens)
        if mass is not None and units is None:
            units = torch.full((tokens,), mass.shape[-1] - 1, device=mass.device)
        self.tail = Tail(positions, weights, units)
        self.mass = mass
        self._lease = lease
        layers = []
        for number, of_layer in enumerate(groups):
            start = None if prefix is None else (prefix[0][number], prefix[1][number])
            of_mass = None if mass is None else mass[number]
            layers.append(SegmentLayer(of_layer, scratch, start, self.tail, of_mass))
        super().__init__(layers=layers)

    def announce(self, positions: Tensor, units: Tensor | None = None) -> None:
        """Say where the tokens of the next forward pass stand.

        Args:
            positions: int64 (tokens,).
            units: of the tokens; None means that they belong to none.
        """
        tail = self.tail
        tail.positions = tail.positions.to(positions.device)
        if self.mass is not None:
            self.mass.zero_()
            if units is None:
                units = torch.full_like(positions, self.mass.shape[-1] - 1)
        tail.append(positions, units)

    def first(self, tokens: int) -> tuple[list[Tensor], list[Tensor]]:
        """Keys and values of the first tokens of every layer's tail: the prefix of another cache.

        They are views, and stay as they are whatever this request appends.
        """
        parts = [layer.first(tokens) for layer in self.layers]
        return [keys for keys, _ in parts], [values for _, values in parts]

    def fork(self, scratch: Scratch) -> SegmentCache:
        """Return a cache that goes on from here by itself; stored keys are shared, the tail is not.

        Args:
            scratch: buffers for the attention function.
        """
        tokens = self.tail_tokens
        units = self.tail.units
        return SegmentCache(
            [layer.groups for layer in self.layers],
            scratch,
            self.first(tokens),
            weights=self.tail.weights,
            positions=self.tail.positions[:tokens],
            mass=None if self.mass is None else self.mass.clone(),
            units=None if units is None else units[:tokens],
            lease=self._lease,
        )

    @property
    def tail_tokens(self) -> int:
        """Tokens of prefix and request together, the same in every layer."""
        return self.layers[0].length

    @property
    def nbytes(self) -> int:
        """Bytes that the request holds of its own: stored groups are shared and do not count."""
        return sum(layer.nbytes for layer in self.layers)

    def own_values(self) -> Tensor:
        """Values of the request's own tokens, all layers: (layers, tokens, kv_heads, head_dim)."""
        return torch.stack([layer.own[1] for layer in self.layers]).transpose(1, 2)

    def own_keys(self) -> Tensor:
        """Rotated keys of the request's own tokens: (layers, tokens, kv_heads, head_dim)."""
        return torch.stack([layer.own[0] for layer in self.layers]).transpose(1, 2)
