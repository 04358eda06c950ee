"""The engine: executes an encoding plan on an unmodified Hugging Face model."""

from __future__ import annotations

import time
import weakref
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from rag.generation.attention import IMPLEMENTATION, Group, Scratch, register
from rag.generation.attention_mass import Units
from rag.generation.batch import DecodeBatch, Row, Shared, run_rows
from rag.generation.decode_loops import DecodeLoops
from rag.generation.model_lock import model_lock
from rag.generation.one_row import many_rows, products_of
from rag.generation.packed_encoding import PackedEncoder
from rag.generation.placed_segments import PlacedSegments
from rag.generation.plan import EncodingPlan, PlacedRows, exact_rows
from rag.generation.prefilled import Prefilled, Reading
from rag.generation.recompute import BlendCache, Compared, most_different
from rag.generation.rope import Rotary
from rag.generation.scattered import Pieces, ScatteredGroup, reads_pieces
from rag.generation.segment_cache import Lease, SegmentCache
from rag.generation.segment_reader import SegmentReader
from rag.generation.self_test import self_test
from rag.protocols import PassageCache, SegmentKV
from rag.records import CacheUse, ModelIdentity, Segment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from transformers.cache_utils import Cache

    from rag.generation.decoding import Sampling
    from rag.generation.plan import Deviation

PREFILL_CHUNK = 512
READ_BLOCK = 64
FREE_ARENAS = 16
"""Buffers of finished requests that wait for new ones, at most."""

_Part = tuple[Tensor, Tensor, Tensor]
"""Keys and values, (layers, kv_heads, tokens, head_dim) each, and positions, int64 (tokens,)."""


class Engine(DecodeLoops):
    """Encodes segments, reads plans and decodes; one forward pass at a time, guarded by a lock.

    The model itself is not modified: attention is switched to a registered function, and each
    request brings a cache that hands it stored segments. Engines of one model share its lock.

    Args:
        model: a causal language model with rotary attention, in evaluation mode.
        identity: what its KV depends on; every segment must carry it.
        cache: where KV is kept between requests; None computes everything anew.
        placed_bytes: budget for rotated copies of whole segments, the form that attention reads.
        copy_context: whether the passages of a request are copied side by side, where plain matrix
            products read them fastest. None copies unless a kernel reads them where they lie, which
            takes CUDA, half precision, and attention without window or cap. A repair, and watching
            attention, always copy.
        tested: whether the model has passed the self-test before; it is left out then.
        pass_tokens: tokens of passages that are encoded in one forward pass, at most: more take
            more memory. None means what measured best on the model's device, 512 on CPUs, where
            more gains nothing, and 4096 on others.

    Attributes:
        pass_tokens: that number.
        placed: those copies.
        reuses: True: it reads cached passages, and sees where attention goes.

    Raises:
        UnsupportedModelError: if the family is not supported, or the self-test fails.
        ValueError: if `pass_tokens` is below 1.
    """

    reuses: ClassVar[bool] = True

    def __init__(
        self,
        model: Any,
        identity: ModelIdentity,
        cache: PassageCache | None = None,
        *,
        placed_bytes: int = 2 << 30,
        copy_context: bool | None = None,
        tested: bool = False,
        pass_tokens: int | None = None,
    ) -> None:
        self.model = model
        self.identity = identity
        self._rotary = Rotary(model)
        self.layers = int(model.config.num_hidden_layers)
        self._scratch = Scratch()
        self._free_arenas: list[Scratch] = []
        self.placed = PlacedSegments(placed_bytes)
        encoder = PackedEncoder(model, self._rotary, self._scratch, pass_tokens)
        self.pass_tokens = encoder.pass_tokens
        self._reader = SegmentReader(
            identity, self._rotary, encoder, self.placed, cache, model.device
        )
        reads = reads_pieces(model, self._rotary.head_dim) if copy_context is None else False
        self.copy_context = not reads if copy_context is None else copy_context
        self._lock = model_lock(model)
        register()
        with self._lock:
            if tested:
                model.set_attn_implementation(IMPLEMENTATION)
            else:
                self_test(self)

    @property
    def cache(self) -> PassageCache | None:
        """Where KV is kept between requests; None computes everything anew."""
        return self._reader.cache

    @cache.setter
    def cache(self, cache: PassageCache | None) -> None:
        self._reader.cache = cache

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of stored KV a token, before any codec."""
        config = self.model.config
        return int(
            2
            * self.layers
            * config.num_key_value_heads
            * self._rotary.head_dim
            * self.model.dtype.itemsize
        )

    def encode(self, segment: Segment) -> SegmentKV:
        """Compute a segment's KV, its parents being visible, as stored: keys before RoPE.

        Raises:
            UnsupportedModelError: if it passes the model's window.
            ValueError: if the segment belongs to another model or has more than one parent.
        """
        (kv,) = self.encode_all([segment])
        return kv

    def encode_all(self, segments: Iterable[Segment]) -> Iterator[SegmentKV]:
        """Compute the KV of segments in order, several in one forward pass: see `encode`.

        Each gets what it gets alone, to rounding. What stands before a segment that cannot be
        encoded is yielded first. Between two passes other requests may run.

        Args:
            segments: parents are looked up, so put them to the store before.

        Raises:
            UnsupportedModelError: if a segment passes the model's window.
            ValueError: if a segment belongs to another model or has more than one parent.
        """
        encoded = self._reader.encode(segments, Reading())
        while True:
            with self._lock, torch.inference_mode():
                kv = next(encoded, None)
            if kv is None:
                return
            yield kv

    @torch.inference_mode()
    def prefill(self, plan: EncodingPlan, *, watch: bool = False) -> Prefilled:
        """Read a plan's prompt: load or encode its segments, run the rest through the model.

        Args:
            plan: what to read.
            watch: whether to keep the attention mass of sentences, from here on.

        Raises:
            UnsupportedModelError: if a position passes the model's window.
            ValueError: if a segment belongs to another model.
        """
        with self._lock:
            return self._prefill(plan, Reading(), watch=watch)

    @torch.inference_mode()
    def prefill_all(self, plans: Sequence[EncodingPlan]) -> list[Prefilled]:
        """Read several prompts of one answer: a segment that they share is looked up as one.

        Args:
            plans: at least one.

        Returns:
            One state a plan; the last one's `use` and `fresh` count all of them.

        Raises:
            UnsupportedModelError: if a position passes the model's window.
            ValueError: if a segment belongs to another model.
        """
        with self._lock:
            reading = Reading()
            for plan in plans:
                self._check_window(plan.last_position + 1)
            self._reader.gather(plans, [reading] * len(plans))
            return [self._prefill(plan, reading) for plan in plans]

    @torch.inference_mode()
    def prefill_batch(
        self, plans: Sequence[EncodingPlan], *, watch: bool = False
    ) -> list[Prefilled]:
        """Read the prompts of several requests at once: what they share is read and placed once.

        Each gets the logits that `prefill` gives it alone, to rounding. Passages in the same order
        after the same prefix lie in memory once, however many requests read them.

        Args:
            plans: of the requests; there may be none.
            watch: as of `prefill`.

        Returns:
            One state a plan. The first request that needs a segment which is not stored counts and
            has it as `fresh`; for the others it is a hit.

        Raises:
            UnsupportedModelError: if a position passes the model's window; nothing is read then.
            ValueError: if a segment belongs to another model.
        """
        for plan in plans:
            self._check_window(plan.last_position + 1)
        with self._lock:
            started = time.perf_counter()
            shared = Shared.of(plans)
            readings = [Reading(shared=shared) for _ in plans]
            self._reader.gather(plans, readings)
            prepared = [
                self._prepare(plan, reading, watch=watch)
                for plan, reading in zip(plans, readings, strict=True)
            ]
            kv_ms = (time.perf_counter() - started) * 1e3
            rows = [
                Row(
                    plan.prefill,
                    plan.prefill_start,
                    cache,
                    None if units is None else units.of_prefill(plan, self.model.device),
                )
                for plan, (cache, units) in zip(plans, prepared, strict=True)
            ]
            with many_rows(self.model.device, self.model.dtype):
                logits = run_rows(self.model, rows, PREFILL_CHUNK)
        return [
            Prefilled(
                after,
                cache,
                plan.last_position + 1,
                reading.use(),
                kv_ms,
                tuple(reading.fresh),
                None if units is None else units.known,
            )
            for plan, reading, after, (cache, units) in zip(
                plans, readings, logits, prepared, strict=True
            )
        ]

    @torch.inference_mode()
    def read(
        self, token_ids: Sequence[int], *, like: SegmentCache | None = None, shared: int = 0
    ) -> Prefilled:
        """Read a raw prompt, sequentially, in blocks of `READ_BLOCK` tokens.

        Blocks make a prompt's logits independent of what is shared: the same passes over the same
        blocks come to the same numbers, whether they ran for this prompt or for another.

        Args:
            token_ids: the whole prompt, at least one token.
            like: the cache of another prompt that began with the same tokens.
            shared: tokens to take from it: whole blocks, fewer than the prompt has.

        Raises:
            UnsupportedModelError: if the prompt passes the model's window.
            ValueError: if `shared` does not fit.
        """
        if shared % READ_BLOCK or not 0 <= shared < len(token_ids) or (shared and like is None):
            raise ValueError(
                f"shared must be a multiple of {READ_BLOCK} below the prompt's {len(token_ids)} "
                f"tokens, and come from another prompt, got {shared}"
            )
        self._check_window(len(token_ids))
        with self._lock:
            prefix = None if like is None or not shared else like.first(shared)
            cache = SegmentCache([[] for _ in range(self.layers)], self._scratch, prefix)
            logits = self._run(token_ids[shared:], shared, cache, READ_BLOCK)[-1]
        return Prefilled(logits, cache, len(token_ids), CacheUse(), 0.0)

    @torch.inference_mode()
    def advance(self, state: Prefilled, token: int) -> Prefilled:
        """Append one token; return the state with the logits after it. The old state is spent.

        Raises:
            UnsupportedModelError: if the token's position passes the model's window.
        """
        self._check_window(state.position + 1)
        with self._lock:
            logits = self._run((token,), state.position, state.cache)[-1]
        return replace(state, logits=logits, position=state.position + 1)

    @torch.inference_mode()
    def advance_batch(self, states: Sequence[Prefilled], tokens: Sequence[int]) -> list[Prefilled]:
        """Append one token to each of several requests; the old states are spent.

        Args:
            states: no two of the same cache.
            tokens: one a state.

        Raises:
            UnsupportedModelError: if a token's position passes the model's window.
            ValueError: if there is not one token a state, or a cache comes twice.
        """
        caches = {id(state.cache) for state in states}
        if not len(caches) == len(states) == len(tokens):
            raise ValueError(
                f"tokens must be one for each of {len(caches)} different caches, "
                f"got {len(states)} states and {len(tokens)} tokens"
            )
        for state in states:
            self._check_window(state.position + 1)
        rows = [
            Row((token,), state.position, state.cache)
            for state, token in zip(states, tokens, strict=True)
        ]
        with self._lock, products_of(len(rows), self.model.device, self.model.dtype):
            logits = run_rows(self.model, rows, PREFILL_CHUNK)
        return [
            replace(state, logits=after, position=state.position + 1)
            for state, after in zip(states, logits, strict=True)
        ]

    def decode_batch(
        self, states: Sequence[Prefilled], samplings: Sequence[Sampling], stop: frozenset[int]
    ) -> DecodeBatch:
        """Decode several requests at once; see `DecodeBatch`."""
        return DecodeBatch(self, states, samplings, stop)

    @torch.inference_mode()
    def following(self, state: Prefilled, token_ids: Sequence[int]) -> Tensor:
        """Return the logits that tokens after a prompt are chosen from: (n, vocabulary).

        The state stays as it is and can be asked again; float32, or float64 for a float64 model.

        Raises:
            UnsupportedModelError: if a position passes the model's window.
        """
        logits = state.logits[None]
        if len(token_ids) < 2:
            return logits[: len(token_ids)]
        self._check_window(state.position + len(token_ids) - 1)
        with self._lock:
            cache = state.cache.fork(self._scratch)
            later = self._run(token_ids[:-1], state.position, cache, every=True)
        return torch.cat([logits, later])

    @torch.inference_mode()
    def fork(self, state: Prefilled) -> Prefilled:
        """Return the same state once more: either can go on by itself; stored keys are shared."""
        with self._lock:
            return replace(state, cache=state.cache.fork(self._scratch))

    @torch.inference_mode()
    def rehearse(self, plan: EncodingPlan, token_ids: Sequence[int]) -> tuple[Tensor, bool]:
        """Run a plan and the same tokens as one prompt, and keep nothing of it: for the self-test.

        Args:
            plan: of segments that no store holds.
            token_ids: its tokens.

        Returns:
            Logits after the plan, and whether the keys that were captured, rotated, are those that
            the model itself would have cached, bit for bit.
        """
        cache, self.cache = self.cache, None
        try:
            whole = SegmentCache([[] for _ in range(self.layers)], self._scratch)
            with self._rotary.capture() as captured:
                self._run(token_ids, 0, whole)
            positions = torch.arange(len(token_ids), device=self.model.device)
            rotated = self._rotary.rotate(torch.stack(captured), positions)
            return (
                self._prefill(plan, Reading()).logits,
                torch.equal(rotated, whole.own_keys().transpose(1, 2)),
            )
        finally:
            self.cache = cache
            self.placed.clear()

    def store(self, fresh: Sequence[tuple[Segment, SegmentKV]]) -> None:
        """Write segments encoded by a request to the store; apart, so the answer need not wait."""
        if self.cache is not None:
            for segment, kv in fresh:
                self.cache.put(segment, kv)

    @property
    def window(self) -> int:
        """Positions that a prompt and its answer may take."""
        return self._rotary.window

    def _prefill(self, plan: EncodingPlan, reading: Reading, *, watch: bool = False) -> Prefilled:
        started = time.perf_counter()
        self._check_window(plan.last_position + 1)
        self._reader.gather([plan], [reading])
        cache, units = self._prepare(plan, reading, watch=watch)
        kv_ms = (time.perf_counter() - started) * 1e3
        told = None if units is None else units.of_prefill(plan, self.model.device)
        logits = self._run(plan.prefill, plan.prefill_start, cache, units=told)[-1]
        return Prefilled(
            logits,
            cache,
            plan.last_position + 1,
            reading.use(),
            kv_ms,
            tuple(reading.fresh),
            None if units is None else units.known,
        )

    def _prepare(
        self, plan: EncodingPlan, reading: Reading, *, watch: bool = False
    ) -> tuple[SegmentCache, Units | None]:
        """Do all that comes before the prefill: place, recompute, compute targets."""
        device = self.model.device
        prefix = None if plan.prefix is None else self._reader.place(plan.prefix, reading)
        lease = None
        parts: list[_Part] = []
        context = None
        if plan.context and (self.copy_context or plan.recomputed_tokens or watch):
            context, lease = self._context(plan, prefix, reading)
            parts = _split(context, [len(placed) for placed in plan.context])
        elif plan.context:
            parts = self._in_place(plan.context, reading)
        for target in plan.targets:
            seen = [parts[source] for source in target.sources]
            cache = SegmentCache(self._groups(seen), self._scratch, prefix)
            self._run(target.placed.token_ids, target.placed.start, cache)
            positions = torch.tensor(target.placed.positions, device=device)
            own = cache.own_keys().transpose(1, 2), cache.own_values().transpose(1, 2)
            parts.append((*own, positions))
        units = Units(plan) if watch else None
        mass = None
        if units is not None:
            heads = int(self.model.config.num_attention_heads)
            mass = torch.zeros(self.layers, heads, units.count, device=device)
        all_placed = [*plan.context, *(target.placed for target in plan.targets)]
        reads = plan.read_parts
        if not plan.targets and plan.reads is None and context is not None:
            # The context lies side by side: one group is one product.
            numbers = None if units is None else units.of(plan.context, device)
            groups = self._groups([context], [numbers])
        else:
            groups = self._groups(
                [parts[place] for place in reads],
                [
                    None if units is None else units.of([all_placed[place]], device)
                    for place in reads
                ],
            )
        cache = SegmentCache(
            groups, self._scratch, prefix, weights=plan.weights, mass=mass, lease=lease
        )
        return cache, units

    def _run(
        self,
        token_ids: Sequence[int],
        start: int,
        cache: SegmentCache,
        chunk: int = PREFILL_CHUNK,
        *,
        every: bool = False,
        units: Tensor | None = None,
    ) -> Tensor:
        """Run tokens through the model: logits after the last, or `every` one, (n, vocabulary)."""
        device = self.model.device
        positions = torch.arange(start, start + len(token_ids), device=device)
        kept: list[Tensor] = []
        for at in range(0, len(token_ids), chunk):
            these = positions[at : at + chunk]
            cache.announce(these, None if units is None else units[at : at + chunk])
            out = self._forward(token_ids[at : at + chunk], these, cache, every=every)
            kept = [*kept, out] if every else [out]
        logits = torch.cat(kept)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def _forward(
        self, token_ids: Sequence[int], positions: Tensor, cache: Cache, *, every: bool = False
    ) -> Tensor:
        """Run one block of tokens: logits after the last, or `every` one, (n, vocabulary)."""
        device = self.model.device
        with products_of(len(token_ids), device, self.model.dtype):
            out = self.model(
                torch.tensor(token_ids, device=device)[None],
                position_ids=positions[None],
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=0 if every else 1,
            )
        logits: Tensor = out.logits[0]
        return logits

    def _groups(
        self, parts: Sequence[_Part], units: Sequence[Tensor | None] | None = None
    ) -> list[list[Group | ScatteredGroup]]:
        """Return parts as groups by layer; `units` are those of each part's tokens."""
        numbers = units or [None] * len(parts)
        if parts and not self.copy_context:
            known = [of_part for of_part in numbers if of_part is not None]
            pieces, of_all = Pieces(parts), torch.cat(known) if known else None
            return [[ScatteredGroup(pieces, layer, of_all)] for layer in range(self.layers)]
        return [
            [
                Group(keys[layer], values[layer], positions, units=of_part)
                for (keys, values, positions), of_part in zip(parts, numbers, strict=True)
            ]
            for layer in range(self.layers)
        ]

    def _recompute(
        self, plan: EncodingPlan, context: _Part, prefix: tuple[Tensor, Tensor] | None
    ) -> None:
        """Compute the rows that a plan's repair asks for anew, in place."""
        ids = torch.tensor([token for placed in plan.context for token in placed.token_ids])
        blend = BlendCache(context, prefix, self._scratch)
        repair, device = plan.recompute, context[0].device
        begin = torch.tensor(repair.beginnings(plan.context), dtype=torch.int64, device=device)
        most = plan.recomputed_tokens - len(begin)
        chosen = begin
        if most:
            everything = torch.arange(len(ids), device=device)
            self._blend(ids, everything, blend, compare=repair.by)
            others = everything[exact_rows(plan.context) :]
            others = others[~torch.isin(others, begin)]
            differing = most_different(blend.deviations, others, most)
            chosen = torch.cat([begin, differing]).sort().values
        self._blend(ids, chosen, blend)

    def _blend(
        self, ids: Tensor, columns: Tensor, blend: BlendCache, compare: Deviation | None = None
    ) -> None:
        """Run some tokens of the context through the model, or its first layers to compare."""
        for at in range(0, len(columns), PREFILL_CHUNK):
            these = columns[at : at + PREFILL_CHUNK]
            blend.select(these, compare)
            with suppress(Compared):
                self._forward(ids[these.cpu()].tolist(), blend.positions[these], blend)

    def _context(
        self, plan: EncodingPlan, prefix: tuple[Tensor, Tensor] | None, reading: Reading
    ) -> tuple[_Part, Lease]:
        """Copy all context rows side by side and repair them, once a batch."""
        placed = [self._reader.place(item, reading) for item in plan.context]
        made: dict[Any, tuple[_Part, Lease]] = reading.shared.contexts
        key = plan.prefix, plan.context, plan.recompute
        if key in made:
            return made[key]
        arena = self._free_arenas.pop() if self._free_arenas else Scratch()
        lease = Lease()
        # The copies belong to their readers until nobody can read them any more.
        weakref.finalize(lease, _give_back, self._free_arenas, arena)
        context = self._assemble(plan.context, placed, arena)
        if plan.recomputed_tokens:
            self._recompute(plan, context, prefix)
        made[key] = context, lease
        return context, lease

    def _assemble(
        self,
        context: Sequence[PlacedRows],
        placed: Sequence[tuple[Tensor, Tensor]],
        arena: Scratch,
    ) -> _Part:
        first = placed[0][0]
        shape = (*first.shape[:2], sum(len(item) for item in context), first.shape[3])
        keys = arena.take("keys", shape, first, first.dtype)
        values = arena.take("values", shape, first, first.dtype)
        torch.cat([k for k, _ in placed], 2, out=keys)
        torch.cat([v for _, v in placed], 2, out=values)
        return keys, values, _positions(context).to(keys.device)

    def _in_place(self, context: Sequence[PlacedRows], reading: Reading) -> list[_Part]:
        """Return all context rows where they lie."""
        placed = [self._reader.place(item, reading) for item in context]
        positions = _positions(context).to(self.model.device)
        stand = torch.split(positions, [len(item) for item in context])
        return [(*both, where) for both, where in zip(placed, stand, strict=True)]


def _give_back(free: list[Scratch], arena: Scratch) -> None:
    if len(free) < FREE_ARENAS:
        free.append(arena)


def _positions(context: Sequence[PlacedRows]) -> Tensor:
    """Return the positions of all rows, one item after another: int64 (tokens,)."""
    return torch.cat(
        [
            torch.tensor(item.positions)
            if item.gaps
            else torch.arange(item.start, item.start + len(item))
            for item in context
        ]
    )


def _split(context: _Part, lengths: Sequence[int]) -> list[_Part]:
    """Return views of the parts that were put side by side."""
    keys, values, positions = context
    parts, at = [], 0
    for length in lengths:
        these = slice(at, at + length)
        parts.append((keys[:, :, these], values[:, :, these], positions[these]))
        at += length
    return parts
