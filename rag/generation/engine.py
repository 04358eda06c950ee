"""The engine: executes an encoding plan on an unmodified Hugging Face model."""

from __future__ import annotations

import threading
import time
import weakref
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rag.errors import UnsupportedModelError
from rag.generation.attention import IMPLEMENTATION, Group, Scratch, register
from rag.generation.plan import ContextWeights, EncodingPlan, PlacedRows, parallel_plan
from rag.generation.rope import Rotary
from rag.generation.segment_cache import SegmentCache
from rag.protocols import PassageCache, SegmentKV
from rag.records import CacheUse, ModelIdentity, Segment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rag.generation.decoding import Sampling

PREFILL_CHUNK = 512
READ_BLOCK = 64
SELF_TEST_TOKENS = 12

# A forward pass that captures keys would capture those of any other on the same model.
_LOCKS: weakref.WeakKeyDictionary[Any, threading.RLock] = weakref.WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Prefilled:
    """A request whose prompt has been read: ready to decode.

    Attributes:
        logits: of the token to come, float32 (vocabulary,).
        cache: the request's own cache.
        position: of the token to come.
        use: what the KV store gave.
        kv_ms: time spent reading, encoding and placing KV.
        fresh: segments encoded for this request and not yet stored.
    """

    logits: Tensor
    cache: SegmentCache
    position: int
    use: CacheUse
    kv_ms: float
    fresh: tuple[tuple[Segment, SegmentKV], ...] = ()


@dataclass(slots=True)
class _Reading:
    """What one request found in the store so far."""

    hits: int = 0
    misses: int = 0
    bytes: int = 0
    reasons: dict[str, str] = field(default_factory=dict)
    fresh: list[tuple[Segment, SegmentKV]] = field(default_factory=list)

    def hit(self, segment: Segment, reason: str, nbytes: int) -> None:
        """Count a segment once, however often the request needs it."""
        if segment.name not in self.reasons:
            self.hits += 1
            self.bytes += nbytes
            self.reasons[segment.name] = reason

    def miss(self, segment: Segment, reason: str) -> None:
        """Count a segment that has to be encoded."""
        if segment.name not in self.reasons:
            self.misses += 1
            self.reasons[segment.name] = reason

    def use(self) -> CacheUse:
        """Return the counts so far."""
        return CacheUse(self.hits, self.misses, self.bytes, dict(self.reasons))


class Engine:
    """Encodes segments, reads plans and decodes; one forward pass at a time, guarded by a lock.

    The model itself is not modified: attention is switched to a registered function, and each
    request brings a cache that hands it stored segments. Engines of one model share its lock.

    Args:
        model: a causal language model with rotary attention, in evaluation mode.
        identity: what its KV depends on; every segment must carry it.
        cache: where KV is kept between requests; None computes everything anew.
        placed_bytes: budget for rotated copies of whole segments, the form that attention reads.

    Raises:
        UnsupportedModelError: if the family is not supported, or the self-test fails.
    """

    def __init__(
        self,
        model: Any,
        identity: ModelIdentity,
        cache: PassageCache | None = None,
        *,
        placed_bytes: int = 2 << 30,
    ) -> None:
        self.model = model
        self.identity = identity
        self.cache = cache
        self.layers = int(model.config.num_hidden_layers)
        self._rotary = Rotary(model)
        self._scratch = Scratch()
        self._free_arenas: list[Scratch] = []
        self._placed: OrderedDict[tuple[Segment, int], tuple[Tensor, Tensor]] = OrderedDict()
        self._placed_budget = placed_bytes
        self._placed_bytes = 0
        self._lock = _LOCKS.setdefault(model, threading.RLock())
        register()
        with self._lock:
            self._self_test()

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

    @torch.inference_mode()
    def encode(self, segment: Segment) -> SegmentKV:
        """Compute a segment's KV, its parents being visible, as stored: keys before RoPE.

        Raises:
            ValueError: if the segment belongs to another model or has more than one parent.
        """
        with self._lock:
            return self._encode(segment, _Reading())

    @torch.inference_mode()
    def prefill(self, plan: EncodingPlan) -> Prefilled:
        """Read a plan's prompt: load or encode its segments, run the rest through the model.

        Raises:
            UnsupportedModelError: if a position passes the model's window.
            ValueError: if a segment belongs to another model.
        """
        with self._lock:
            return self._prefill(plan, _Reading())

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
            reading = _Reading()
            return [self._prefill(plan, reading) for plan in plans]

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
    def score(self, state: Prefilled, token_ids: Sequence[int]) -> Tensor:
        """Return the natural log-probability of each of some tokens after a prompt: (n,), float32.

        The state stays as it is and can be asked again; float64 for a float64 model.

        Raises:
            UnsupportedModelError: if a position passes the model's window.
        """
        if not token_ids:
            return state.logits[:0]
        self._check_window(state.position + len(token_ids) - 1)
        logits = state.logits[None]
        if len(token_ids) > 1:
            with self._lock:
                groups = [layer.groups for layer in state.cache.layers]
                prefix = state.cache.first(state.cache.tail_tokens)
                cache = SegmentCache(groups, self._scratch, prefix)
                later = self._run(token_ids[:-1], state.position, cache, every=True)
            logits = torch.cat([logits, later])
        chosen = torch.tensor(token_ids, device=logits.device)[:, None]
        return logits.log_softmax(-1).gather(1, chosen)[:, 0]

    def decode(self, state: Prefilled, sampling: Sampling, stop: frozenset[int]) -> Iterator[int]:
        """Yield token ids until a stop token (not yielded), `max_tokens`, or the window's end."""
        for token, _ in self._decoded(state, sampling, stop):
            yield token

    def decode_scored(
        self, state: Prefilled, sampling: Sampling, stop: frozenset[int]
    ) -> Iterator[tuple[int, float]]:
        """Yield what `decode` does, each token with its natural log-probability (temperature 1)."""
        for token, logits in self._decoded(state, sampling, stop):
            yield token, float(logits.log_softmax(-1)[token])

    def room(self, position: int, max_tokens: int) -> int:
        """Return how many tokens can be generated at most: the window ends an answer too.

        Args:
            position: of the first of them.
            max_tokens: the most that is wanted.
        """
        return min(max_tokens, self.window - position + 1)

    def _decoded(
        self, state: Prefilled, sampling: Sampling, stop: frozenset[int]
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield each token with the logits that it was chosen from."""
        generator = sampling.generator()
        room = self.room(state.position, sampling.max_tokens)
        for count in range(1, room + 1):
            token = sampling.choose(state.logits, generator)
            if token in stop:
                return
            yield token, state.logits
            if count < room:
                state = self.advance(state, token)

    def store(self, fresh: Sequence[tuple[Segment, SegmentKV]]) -> None:
        """Write segments encoded by a request to the store; apart, so the answer need not wait."""
        if self.cache is not None:
            for segment, kv in fresh:
                self.cache.put(segment, kv)

    @property
    def window(self) -> int:
        """Positions that a prompt and its answer may take."""
        window = int(self.model.config.max_position_embeddings)
        sliding = getattr(self.model.config, "sliding_window", None)
        return min(window, int(sliding)) if sliding else window

    def _check_window(self, end: int) -> None:
        if end > self.window:
            raise UnsupportedModelError(
                f"the prompt reaches position {end}, the model's window ends at {self.window}: "
                "lower top_k, or use a model with a longer window"
            )

    def _prefill(self, plan: EncodingPlan, reading: _Reading) -> Prefilled:
        self._check_window(plan.last_position + 1)
        started = time.perf_counter()
        prefix = None if plan.prefix is None else self._place(plan.prefix, reading)
        arena = self._free_arenas.pop() if self._free_arenas else Scratch()
        groups = (
            self._with_targets(plan, prefix, reading)
            if plan.targets
            else self._groups(plan, arena, reading)
        )
        cache = SegmentCache(groups, self._scratch, prefix)
        # The copies belong to this request until nobody can read its cache any more.
        weakref.finalize(cache, self._free_arenas.append, arena)
        kv_ms = (time.perf_counter() - started) * 1e3
        logits = self._run(plan.prefill, plan.prefill_start, cache)[-1]
        return Prefilled(
            logits, cache, plan.last_position + 1, reading.use(), kv_ms, tuple(reading.fresh)
        )

    def _run(
        self,
        token_ids: Sequence[int],
        start: int,
        cache: SegmentCache,
        chunk: int = PREFILL_CHUNK,
        *,
        every: bool = False,
    ) -> Tensor:
        """Run tokens through the model: logits after the last, or `every` one, (n, vocabulary)."""
        device = self.model.device
        ids = torch.tensor(token_ids, device=device)[None]
        positions = torch.arange(start, start + len(token_ids), device=device)[None]
        kept: list[Tensor] = []
        for at in range(0, len(token_ids), chunk):
            out = self.model(
                ids[:, at : at + chunk],
                position_ids=positions[:, at : at + chunk],
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=0 if every else 1,
            )
            kept = [*kept, out.logits[0]] if every else [out.logits[0]]
        logits = torch.cat(kept)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def _groups(self, plan: EncodingPlan, arena: Scratch, reading: _Reading) -> list[list[Group]]:
        groups: list[list[Group]] = [[] for _ in range(self.layers)]
        if plan.context:
            keys, values = self._assemble(plan.context, arena, reading)
            weights = plan.weights
            for layer, of_layer in enumerate(groups):
                of_layer.append(
                    Group(
                        keys[layer],
                        values[layer],
                        weights.temperature,
                        weights.scale * weights.temperature,
                        weights.bias,
                    )
                )
        return groups

    def _with_targets(
        self, plan: EncodingPlan, prefix: tuple[Tensor, Tensor] | None, reading: _Reading
    ) -> list[list[Group]]:
        """Compute a plan's targets over their sources; return all its parts as neutral groups."""
        parts = [self._place(item, reading) for item in plan.context]
        for target in plan.targets:
            seen = [parts[source] for source in target.sources]
            cache = SegmentCache(self._neutral(seen), self._scratch, prefix)
            self._run(target.placed.token_ids, target.placed.start, cache)
            parts.append((cache.own_keys().transpose(1, 2), cache.own_values().transpose(1, 2)))
        return self._neutral(parts)

    def _neutral(self, parts: Sequence[tuple[Tensor, Tensor]]) -> list[list[Group]]:
        """Return parts, (layers, kv_heads, tokens, head_dim) twice each, as groups by layer."""
        return [
            [Group(keys[layer], values[layer]) for keys, values in parts]
            for layer in range(self.layers)
        ]

    def _assemble(
        self, context: Sequence[PlacedRows], arena: Scratch, reading: _Reading
    ) -> tuple[Tensor, Tensor]:
        """Copy all context rows side by side: (layers, kv_heads, tokens, head_dim) twice."""
        placed = [self._place(item, reading) for item in context]
        first = placed[0][0]
        shape = (*first.shape[:2], sum(len(item) for item in context), first.shape[3])
        keys = arena.take("keys", shape, first, first.dtype)
        values = arena.take("values", shape, first, first.dtype)
        torch.cat([k for k, _ in placed], 2, out=keys)
        torch.cat([v for _, v in placed], 2, out=values)
        return keys, values

    def _place(self, item: PlacedRows, reading: _Reading) -> tuple[Tensor, Tensor]:
        """Rotate rows to their positions: keys and values, (layers, kv_heads, tokens, head_dim)."""
        hot = (item.segment, item.start)
        if item.rows is None and hot in self._placed:
            self._placed.move_to_end(hot)
            keys, values = self._placed[hot]
            reading.hit(item.segment, "hit (placed)", keys.nbytes + values.nbytes)
            return keys, values
        kv = self._load(item.segment, reading)
        stored_keys, stored_values = kv.keys, kv.values
        if item.rows is not None:
            rows = torch.tensor(item.rows, device=stored_keys.device)
            stored_keys = stored_keys.index_select(1, rows)
            stored_values = stored_values.index_select(1, rows)
        keys = self._rotary.rotate(stored_keys, item.start).contiguous()
        values = stored_values.transpose(1, 2).contiguous()
        if item.rows is None:
            self._keep_placed(hot, keys, values)
        return keys, values

    def _keep_placed(self, hot: tuple[Segment, int], keys: Tensor, values: Tensor) -> None:
        size = keys.nbytes + values.nbytes
        if size > self._placed_budget:
            return
        self._placed[hot] = keys, values
        self._placed_bytes += size
        while self._placed_bytes > self._placed_budget:
            _, (old_keys, old_values) = self._placed.popitem(last=False)
            self._placed_bytes -= old_keys.nbytes + old_values.nbytes

    def _load(self, segment: Segment, reading: _Reading) -> SegmentKV:
        if segment.model != self.identity:
            raise ValueError(
                f"segment {segment.name!r} belongs to {segment.model.name!r} "
                f"({segment.model.dtype}), the engine runs {self.identity.name!r} "
                f"({self.identity.dtype})"
            )
        for made, kv in reading.fresh:
            if made == segment:
                return kv
        reason = "no store"
        if self.cache is not None:
            found = self.cache.get(segment)
            if found.kv is not None:
                reading.hit(segment, found.reason, found.nbytes)
                device = self.model.device
                return SegmentKV(found.kv.keys.to(device), found.kv.values.to(device))
            reason = found.reason
        reading.miss(segment, reason)
        kv = self._encode(segment, reading)
        reading.fresh.append((segment, kv))
        return kv

    def _encode(self, segment: Segment, reading: _Reading) -> SegmentKV:
        self._check_window(segment.start + len(segment))
        if len(segment.parents) > 1:
            raise ValueError(f"segment {segment.name!r} has {len(segment.parents)} parents, not 1")
        prefix = None
        for parent in segment.parents:
            prefix = self._place(PlacedRows(parent, 0), reading)
        cache = SegmentCache([[] for _ in range(self.layers)], self._scratch, prefix)
        with self._rotary.capture() as captured:
            chunks = []
            for at in range(0, len(segment), PREFILL_CHUNK):
                self._run(segment.token_ids[at : at + PREFILL_CHUNK], segment.start + at, cache)
                chunks.append(torch.stack(captured))
                captured.clear()
        return SegmentKV(torch.cat(chunks, 1), cache.own_values().contiguous())

    @torch.inference_mode()
    def _self_test(self) -> None:
        """Compare with the model's own forward pass on a few tokens; cheap, at every load.

        Raises:
            UnsupportedModelError: if stored keys, rotated, differ from the model's own in any bit,
                or if logits differ by more than rounding.
        """
        vocabulary = int(self.model.config.vocab_size)
        ids = tuple((7 * n + 3) % vocabulary for n in range(3 * SELF_TEST_TOKENS))
        third = SELF_TEST_TOKENS
        self.model.set_attn_implementation("eager")
        own = self.model(torch.tensor([ids], device=self.model.device), logits_to_keep=1)
        self.model.set_attn_implementation(IMPLEMENTATION)
        prefix = Segment(self.identity, "prefix", ids[:third], name="self-test prefix")
        passage = Segment(
            self.identity, "passage", ids[third : 2 * third], (prefix,), name="self-test"
        )
        cache, self.cache = self.cache, None
        try:
            cached = SegmentCache([[] for _ in range(self.layers)], self._scratch)
            with self._rotary.capture() as captured:
                self._run(ids, 0, cached)
            rotated = self._rotary.rotate(torch.stack(captured), 0)
            plan = parallel_plan(prefix, ((passage, None),), ids[2 * third :], ContextWeights())
            logits = self.prefill(plan).logits
        finally:
            self.cache = cache
            self._placed.clear()
            self._placed_bytes = 0
        reference = own.logits[0, -1].to(logits.dtype)
        error = float((logits - reference).abs().max() / reference.abs().max().clamp(min=1e-6))
        limit = 1e-4 if self.model.dtype in (torch.float32, torch.float64) else 0.1
        same_keys = torch.equal(rotated, cached.own_keys().transpose(1, 2))
        if error > limit or not same_keys:
            raise UnsupportedModelError(
                f"{self.identity.name}: cached segments do not reproduce the model's own forward "
                f"pass (relative logit error {error:.2e}, allowed {limit:.0e}; keys equal: "
                f"{same_keys}); use mode 'sequential' with another engine"
            )
