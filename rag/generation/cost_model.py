"""What it costs to read a passage from the cache, or to compute it: constants of one machine."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Self

from rag.files import write_atomically
from rag.models.user_cache import user_cache

if TYPE_CHECKING:
    from collections.abc import Callable

    from rag.generation.engine import Engine
    from rag.protocols import SegmentKV
    from rag.records import Segment

MEMORY = "cost-models.json"
PROBED_TOKENS = 64
PROBED_ROWS = 2048
PROBE_S = 0.3
"""Prefill is timed again as long as this has not passed, so that the best time counts."""


@dataclass(frozen=True, slots=True)
class CostModel:
    """Predicts the seconds that every way to read a passage costs.

    For n tokens of which s·n are kept, in k spans, with B bytes a token and D tokens to generate:

        text   s·n/P                         + D·a·s·n
        rows   n·B/w + ρ·s·n + k·t           + D·a·s·n
        full   n·B/w + ρ·n + t               + D·a·n
        blend  rows, and r·s·n/P for the share r that is computed anew

    The store reads a segment whole, so n tokens are loaded for s·n rows; `loads_whole` says that a
    store reads single rows, at s·n·B/w. β = P·B/w is the load time over the prefill time of a
    token: from 1 on, `rows` never costs less than `text`.

    Attributes:
        prefill_tokens_per_s: P, tokens that run through the model in a second.
        load_bytes_per_s: w, bytes of KV that the store gives in a second.
        kv_bytes_per_token: B.
        rotation_s_per_token: ρ, to rotate a row to its position and put it there.
        decode_s_per_row: a, what a row of context adds to the time of each generated token.
        span_s: t, what a span of rows costs beside its bytes; 0 for a store that gives a segment in
            one piece.
        decode_tokens: D.
        loads_whole: whether all rows of a segment are loaded to read some.

    Raises:
        ValueError: if a rate is not positive, or a time or count is negative.
    """

    prefill_tokens_per_s: float
    load_bytes_per_s: float
    kv_bytes_per_token: float
    rotation_s_per_token: float = 0.0
    decode_s_per_row: float = 0.0
    span_s: float = 0.0
    decode_tokens: int = 16
    loads_whole: bool = True

    def __post_init__(self) -> None:
        for name in ("prefill_tokens_per_s", "load_bytes_per_s", "kv_bytes_per_token"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("rotation_s_per_token", "decode_s_per_row", "span_s", "decode_tokens"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")

    @property
    def load_ratio(self) -> float:
        """β, the time to load a token's KV over the time to prefill a token."""
        return self.prefill_tokens_per_s * self.kv_bytes_per_token / self.load_bytes_per_s

    def seconds(
        self, tokens: int, kept: int, spans: int = 1, recomputed: float = 0.0
    ) -> dict[str, float]:
        """Return the predicted seconds of `text`, `rows`, `full` and, with a share, `blend`.

        Args:
            tokens: n, of the whole passage.
            kept: s·n.
            spans: k, runs of kept rows.
            recomputed: r, the share of kept rows that `blend` computes anew.
        """
        token_s = self.kv_bytes_per_token / self.load_bytes_per_s
        decode_s = self.decode_tokens * self.decode_s_per_row
        text = kept / self.prefill_tokens_per_s + decode_s * kept
        loaded = tokens if self.loads_whole else kept
        rows = loaded * token_s + kept * (self.rotation_s_per_token + decode_s)
        rows += spans * self.span_s
        full = tokens * (token_s + self.rotation_s_per_token + decode_s) + self.span_s
        found = {"text": text, "rows": rows, "full": full}
        if recomputed:
            found["blend"] = rows + recomputed * kept / self.prefill_tokens_per_s
        return found

    @classmethod
    def probe(cls, engine: Engine, stored: Segment | None = None, *, remember: bool = True) -> Self:
        """Measure the constants on this machine, in about a second on the default model.

        Constants that were measured before for the same weights, dtype, device, threads and
        libraries are taken from the user's cache. Nothing is put into the store.

        Args:
            engine: runs the model.
            stored: a segment that the engine's store has: loading it is timed. Without one, or if
                it is not there, loading is taken to be a copy in memory.
            remember: whether the user's cache is read and written. What was not loaded from disk
                although the store has one is not remembered: it says nothing about the next run.
        """
        kept = _Memory(engine) if remember else None
        known = None if kept is None else kept.get()
        if known is not None:
            try:
                return cls(**known)
            except (TypeError, ValueError):
                pass
        measured, typical = _measured(engine, stored)
        made = cls(**measured)
        if kept is not None and typical:
            kept.put(asdict(made))
        return made


class _Memory:
    """Constants in the user's cache, by all that they depend on."""

    def __init__(self, engine: Engine) -> None:
        import torch
        import transformers

        device = engine.model.device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        facts = {
            **{key: value for key, value in asdict(engine.identity).items() if key != "name"},
            "device": name,
            "threads": torch.get_num_threads(),
            "libraries": [torch.__version__, transformers.__version__],
            "fields": [field.name for field in fields(CostModel)],
        }
        self._key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        self._path = user_cache() / MEMORY

    def get(self) -> dict[str, Any] | None:
        """Return the constants; None if they are not there, or damaged."""
        found = self._known().get(self._key)
        return found if isinstance(found, dict) else None

    def put(self, constants: Mapping[str, Any]) -> None:
        """Keep constants."""
        known = json.dumps({**self._known(), self._key: constants}, sort_keys=True)
        write_atomically(self._path, lambda file: file.write(known.encode()))

    def _known(self) -> dict[str, Any]:
        try:
            known = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}


def _measured(engine: Engine, stored: Segment | None) -> tuple[dict[str, Any], bool]:
    """Return the constants, and whether a later run can expect the same."""
    import torch

    from rag.records import Segment

    vocabulary = int(engine.model.config.get_text_config().vocab_size)
    tokens = min(PROBED_TOKENS, max(1, engine.window // 4))
    ids = tuple(token % vocabulary for token in range(16, 16 + tokens))
    kv = engine.encode(Segment(engine.identity, "passage", ids, name="probe"))
    began, prefill_s = time.perf_counter(), float("inf")
    while time.perf_counter() - began < PROBE_S:
        prefill_s = min(prefill_s, _timed(engine, lambda: engine.read(ids)))
    load_s, nbytes, typical = _load(engine, stored, kv)
    positions = torch.arange(tokens, device=kv.keys.device)

    def place() -> None:
        engine._rotary.rotate(kv.keys, positions).contiguous()  # noqa: SLF001 - what placing does
        kv.values.transpose(1, 2).contiguous()

    place_s = min(_timed(engine, place) for _ in range(3))
    return {
        "prefill_tokens_per_s": tokens / prefill_s,
        "load_bytes_per_s": nbytes / load_s,
        "kv_bytes_per_token": engine.kv_bytes_per_token,
        "rotation_s_per_token": place_s / tokens,
        "decode_s_per_row": _decode_s_per_row(engine, kv, tokens),
    }, typical


def _load(engine: Engine, stored: Segment | None, kv: SegmentKV) -> tuple[float, int, bool]:
    """Return seconds and bytes of one load, and whether it came from where KV is kept."""

    def to_model(loaded: SegmentKV) -> None:
        # A copy touches every byte, which a file mapped into memory has not read yet.
        for tensor in (loaded.keys, loaded.values):
            tensor.to(engine.model.device, copy=True)

    if stored is not None and engine.cache is not None:
        began = time.perf_counter()
        found = engine.cache.get(stored)
        if found.kv is not None:
            loaded = found.kv
            to_model(loaded)
            _settle(engine)
            seconds = time.perf_counter() - began
            on_disk = getattr(engine.cache, "folder", None) is not None
            return seconds, loaded.nbytes, found.reason != "hit (ram)" or not on_disk
    return min(_timed(engine, lambda: to_model(kv)) for _ in range(3)), kv.nbytes, False


def _decode_s_per_row(engine: Engine, kv: SegmentKV, tokens: int) -> float:
    """Return what a row of context adds to the time of a generated token, at least 0."""
    import torch

    from rag.generation.attention import Scratch
    from rag.generation.prefilled import Prefilled
    from rag.generation.segment_cache import SegmentCache
    from rag.records import CacheUse

    rows = min(PROBED_ROWS, engine.window // 2)
    if rows <= tokens:
        return 0.0
    layers, _, heads, dim = kv.keys.shape
    times = []
    for length in (tokens, rows):
        keys, values = (
            kv.keys.new_zeros(layers, heads, length, width) for width in (dim, kv.values.shape[-1])
        )
        cache = SegmentCache([[] for _ in range(layers)], Scratch(), (keys, values))
        state = Prefilled(torch.zeros(0), cache, length, CacheUse(), 0.0)
        best = float("inf")
        for step in range(4):
            began = time.perf_counter()
            state = engine.advance(state, 16)
            _settle(engine)
            # The first token also copies the prefix.
            best = min(best, time.perf_counter() - began) if step else best
        times.append(best)
    return max(0.0, times[1] - times[0]) / (rows - tokens)


def _timed(engine: Engine, run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    _settle(engine)
    return max(time.perf_counter() - began, 1e-9)


def _settle(engine: Engine) -> None:
    """Wait until the device has done what it was told."""
    if engine.model.device.type == "cuda":
        import torch

        torch.cuda.synchronize(engine.model.device)
