"""Packed encoding: the KV of several segments in one forward pass, each as if it were alone.

Their tokens stand one after another in a single row, at the positions that each has by itself, and
each attends to the common prefix and to its own tokens alone: a block-diagonal mask, of which only
the blocks are computed, and nothing is padded.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from rag.generation.attention import LayerKeys, Scratch
from rag.generation.one_row import many_rows
from rag.generation.plan import ContextWeights
from rag.generation.segment_cache import SegmentCache
from rag.protocols import SegmentKV

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rag.generation.rope import Rotary
    from rag.records import Segment

PASS_TOKENS: Final = {"cpu": 512}
"""Tokens of one forward pass by type of device, at most; `MOST_PASS_TOKENS` elsewhere."""
MOST_PASS_TOKENS: Final = 4096

Prefix = tuple[Tensor, Tensor]
"""Rotated keys and values of what stands before, (layers, kv_heads, tokens, head_dim) each."""


class PackedEncoder:
    """Computes what a KV store keeps of segments: keys before RoPE, and values.

    Attributes:
        pass_tokens: tokens of one forward pass, at most: what bounds its memory. A segment that is
            longer is computed by itself, in blocks.

    Raises:
        ValueError: if `pass_tokens` is below 1.
    """

    def __init__(
        self, model: Any, rotary: Rotary, scratch: Scratch, pass_tokens: int | None = None
    ) -> None:
        """Prepare.

        Args:
            model: whose attention is the registered function.
            rotary: captures the model's keys.
            scratch: buffers for the attention function.
            pass_tokens: None means `PASS_TOKENS` of the model's device.
        """
        if pass_tokens is None:
            pass_tokens = PASS_TOKENS.get(model.device.type, MOST_PASS_TOKENS)
        if pass_tokens < 1:
            raise ValueError(f"pass_tokens must be at least 1, got {pass_tokens}")
        self.pass_tokens = pass_tokens
        self._model = model
        self._layers = int(model.config.num_hidden_layers)
        self._rotary = rotary
        self._scratch = scratch

    def packs(self, segments: Iterable[Segment]) -> Iterator[list[Segment]]:
        """Share segments out to forward passes, in order, as many as fit into each.

        All of a pack have the same parents; none has more than one pass takes, unless it is alone.
        """
        pack: list[Segment] = []
        tokens = 0
        for segment in segments:
            tokens += len(segment)
            if pack and (tokens > self.pass_tokens or segment.parents != pack[0].parents):
                yield pack
                pack, tokens = [], len(segment)
            pack.append(segment)
        if pack:
            yield pack

    def __call__(self, pack: Sequence[Segment], prefix: Prefix | None) -> list[SegmentKV]:
        """Return the KV of each segment, in tensors of its own.

        Args:
            pack: at least one, each of at least one token; one of `packs`.
            prefix: that all of them see, at positions from 0; None means that there is none.
        """
        if len(pack) == 1 and len(pack[0]) > self.pass_tokens:
            return [self._in_blocks(pack[0], prefix)]
        device = self._model.device
        stand = [range(one.start, one.start + len(one)) for one in pack]
        cache = PackedCache(self._layers, stand, prefix, self._scratch, device)
        products = many_rows(device, self._model.dtype)
        with products, self._rotary.capture() as keys, suppress(AllEncoded):
            self._model(
                torch.tensor([[token for one in pack for token in one.token_ids]], device=device),
                position_ids=cache.positions[None],
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
        values = [layer.values.transpose(0, 1) for layer in cache.layers]
        ends = accumulate(map(len, pack), initial=0)
        return [
            SegmentKV(_rows(keys, start, end), _rows(values, start, end))
            for start, end in pairwise(ends)
        ]

    def _in_blocks(self, segment: Segment, prefix: Prefix | None) -> SegmentKV:
        """Encode a segment in several forward passes over its own earlier tokens."""
        cache = SegmentCache([[] for _ in range(self._layers)], self._scratch, prefix)
        device, blocks = self._model.device, []
        with many_rows(device, self._model.dtype), self._rotary.capture() as captured:
            for at in range(0, len(segment), self.pass_tokens):
                ids = segment.token_ids[at : at + self.pass_tokens]
                start = segment.start + at
                positions = torch.arange(start, start + len(ids), device=device)
                cache.announce(positions)
                self._model(
                    torch.tensor([ids], device=device),
                    position_ids=positions[None],
                    past_key_values=cache,
                    use_cache=True,
                    logits_to_keep=1,
                )
                blocks.append(torch.stack(captured))
                captured.clear()
        return SegmentKV(torch.cat(blocks, 1), cache.own_values().contiguous())


class AllEncoded(Exception):  # noqa: N818 - nothing went wrong
    """The last layer has its keys and values: nothing that the pass still computes is asked for."""


class PackedCache(Cache):  # type: ignore[misc]  # transformers is not typed here
    """What the segments of one forward pass attend to, each to the prefix and to itself."""

    layers: list[PackedLayer]

    def __init__(
        self,
        layers: int,
        stand: Sequence[range],
        prefix: Prefix | None,
        scratch: Scratch,
        device: torch.device,
    ) -> None:
        """Lay out a pass.

        Args:
            layers: of the model, at least 1.
            stand: the positions of each segment, none empty.
            prefix: as of `PackedEncoder`.
            scratch: buffers for the attention function.
            device: the model's.
        """
        before = 0 if prefix is None else prefix[0].shape[2]
        plan = Layout(stand, before, scratch, device)
        self.positions = plan.positions
        super().__init__(
            layers=[
                PackedLayer(
                    plan,
                    None if prefix is None else (prefix[0][number], prefix[1][number]),
                    last=number == layers - 1,
                )
                for number in range(layers)
            ]
        )


class Layout:
    """Where the tokens of a pass stand, the same in every layer.

    Attributes:
        positions: of all tokens, int64 (tokens,).
        rows: of prefix and tokens side by side, those that each segment sees, one after another.
        lengths: tokens of each segment.
        seen: tokens that each sees: those of the prefix, and its own.
    """

    def __init__(
        self, stand: Sequence[range], before: int, scratch: Scratch, device: torch.device
    ) -> None:
        self.lengths = [len(one) for one in stand]
        self.seen = [before + length for length in self.lengths]
        rows: list[int] = []
        tails: list[int] = []
        ends = accumulate(self.lengths, initial=before)
        for one, (start, end) in zip(stand, pairwise(ends), strict=True):
            rows += (*range(before), *range(start, end))
            tails += (*range(before), *one)
        self.rows = torch.tensor(rows, device=device)
        of_tails = torch.tensor(tails, device=device)
        self._scratch = scratch
        self._tails = torch.split(of_tails, self.seen)
        self._own = [tail[before:] for tail in self._tails]
        self.positions = torch.cat(self._own)

    def of_segments(self, keys: Tensor, values: Tensor) -> tuple[LayerKeys, ...]:
        """Return what each segment attends to.

        Args:
            keys: those of `rows`, (kv_heads, rows, head_dim), rotated.
            values: the same shape.
        """
        parts = zip(
            torch.split(keys, self.seen, 1),
            torch.split(values, self.seen, 1),
            self._tails,
            self._own,
            strict=True,
        )
        return tuple(
            LayerKeys((), k, v, tail, len(own), own, NEUTRAL, self._scratch)
            for k, v, tail, own in parts
        )


NEUTRAL: Final = ContextWeights()


class PackedLayer(CacheLayerMixin):  # type: ignore[misc]  # transformers is not typed here
    """One layer of a pass: keeps its values, and hands out what each segment attends to.

    Attributes:
        values: of all tokens, (kv_heads, tokens, head_dim).
    """

    is_sliding = False

    def __init__(self, layout: Layout, prefix: Prefix | None, *, last: bool) -> None:
        super().__init__()
        self._layout = layout
        self._prefix = prefix
        self._last = last
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing to make: nothing is appended to."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[tuple[LayerKeys, ...], None]:
        """Take the pass's keys and values; return what each segment attends to.

        Args:
            key_states: (1, kv_heads, tokens, head_dim), rotated.
            value_states: the same shape.

        Raises:
            AllEncoded: in the last layer.
        """
        self.values = value_states[0]
        if self._last:
            raise AllEncoded
        keys, values = key_states[0], value_states[0]
        if self._prefix is not None:
            keys = torch.cat([self._prefix[0], keys], 1).index_select(1, self._layout.rows)
            values = torch.cat([self._prefix[1], values], 1).index_select(1, self._layout.rows)
        return self._layout.of_segments(keys, values), None

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset for mask construction, which is switched off."""
        return query_length, 0

    def get_seq_length(self) -> int:
        """Tokens before the pass: bookkeeping, not a position."""
        return 0

    def get_max_length(self) -> int:
        """No limit of its own."""
        return -1


def _rows(layers: Sequence[Tensor], start: int, end: int) -> Tensor:
    """Copy some tokens of all layers, (layers, tokens, kv_heads, head_dim).

    A view would keep the whole pass in memory for as long as one of its segments is kept.
    """
    return torch.stack([layer[start:end] for layer in layers]).contiguous()
