"""On one GPU: time to first token from resident passages, from host memory, and by a full prefill.

Models have the shapes of Llama-3.1-8B and SmolLM2-135M and random weights in bfloat16, and contexts
are passages of 512 tokens with random keys and values, put into the pool directly: times do not
depend on the numbers. What depends on them is checked apart: a passage that is really encoded gives
the logits of a full prefill by Hugging Face, and a context in place those of a copied one. Floors
are the bytes that must be read over the bandwidth of a copy, or the operations over the rate of a
matrix product, both measured in the same run.

    python benchmarks/gpu.py                          a table
    python benchmarks/gpu.py --json --minutes 8       a record a line; stops before its time is up
    python benchmarks/gpu.py --device cpu --tiny      everything once, small, to see that it runs
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from measuring import machine
from torch import Tensor

from rag.generation import fused_attention, scattered
from rag.generation.attention import IMPLEMENTATION, Scratch, attend
from rag.generation.engine import Engine
from rag.generation.plan import (
    ContextWeights,
    EncodingPlan,
    PlacedRows,
    parallel_plan,
    sequential_plan,
)
from rag.generation.prefilled import Prefilled
from rag.protocols import Lookup, SegmentKV
from rag.records import ModelIdentity, Segment

WEIGHTS = ContextWeights(temperature=0.9)


@dataclass(frozen=True)
class Sizes:
    """What is measured.

    Attributes:
        contexts: tokens of passages.
        batches: requests at once.
        passage: tokens.
        question: tokens.
        decoded: tokens that are timed.
        configs: of the models, by name.
    """

    contexts: tuple[int, ...]
    batches: tuple[int, ...]
    passage: int
    question: int
    decoded: int
    configs: dict[str, dict[str, Any]]


LLAMA_8B = {
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "tie_word_embeddings": False,
}
SMOLLM2_135M = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 64,
    "tie_word_embeddings": True,
}
SMALL = {
    "vocab_size": 300,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "tie_word_embeddings": True,
}
FULL = Sizes(
    (4096, 32768, 131072),
    (1, 8, 32),
    512,
    64,
    24,
    {"llama-3.1-8b": LLAMA_8B, "smollm2-135m": SMOLLM2_135M},
)
TINY = Sizes((96, 192), (1, 3), 32, 8, 3, {"tiny": SMALL})


class Clock:
    """Milliseconds on a device: works are finished before the clock is read."""

    def __init__(self, device: torch.device, minutes: float) -> None:
        self.device = device
        self._end = time.monotonic() + 60 * minutes

    @property
    def left(self) -> float:
        """Seconds until the budget is spent."""
        return self._end - time.monotonic()

    def wait(self) -> None:
        """Wait until the device has done all that it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def once(self, work: Callable[[], Any]) -> tuple[float, float]:
        """Return until a call returned, and until the device was done, in ms."""
        self.wait()
        began = time.perf_counter()
        kept = work()
        returned = time.perf_counter()
        self.wait()
        done = time.perf_counter()
        del kept
        return (returned - began) * 1e3, (done - began) * 1e3

    def several(self, work: Callable[[], Any], seconds: float = 1.5) -> dict[str, float]:
        """Warm up once, then repeat for some seconds, 3 to 15 times; ms."""
        first = self.once(work)[1]
        repeats = max(3, min(15, int(seconds * 1e3 / first))) if first < 5e3 else 1
        runs = [self.once(work) for _ in range(repeats)]
        totals = sorted(total for _, total in runs)
        return {
            "median_ms": totals[len(totals) // 2],
            "best_ms": totals[0],
            "worst_ms": totals[-1],
            "host_ms": median(host for host, _ in runs),
            "runs": len(totals),
        }

    def kernel(self, works: Sequence[Callable[[], Any]]) -> float:
        """Return the median time of one work on the device alone, in ms; they take turns."""
        if self.device.type != "cuda":
            return min(self.once(work)[1] for work in works)
        for work in works:
            work()
        taken = []
        for _ in range(7):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            # The device is kept busy meanwhile, so that launches wait for it and not it for them.
            torch.cuda._sleep(20_000_000)  # noqa: SLF001 - there is no public way
            start.record()
            for work in works:
                work()
            end.record()
            torch.cuda.synchronize()
            taken.append(start.elapsed_time(end) / len(works))
        return median(taken)


class Report:
    """Prints a record as soon as there is one; what fails is a record too."""

    def __init__(self, clock: Clock, *, as_json: bool) -> None:
        self.records: list[dict[str, Any]] = []
        self._clock = clock
        self._as_json = as_json

    def add(self, part: str, **values: Any) -> None:
        """Keep and print a record."""
        record: dict[str, Any] = {"part": part} | {
            key: float(f"{value:.5g}") if isinstance(value, float) else value
            for key, value in values.items()
        }
        self.records.append(record)
        if self._as_json:
            print(json.dumps(record), flush=True)

    @contextmanager
    def part(self, name: str, seconds: float = 5.0, **about: Any) -> Iterator[bool]:
        """Run a part that takes so many seconds; whatever it raises ends only itself.

        Yields:
            Whether there is time for it; it must do nothing if not.
        """
        if self._clock.left < seconds:
            self.add(name, skipped=f"{self._clock.left:.0f} s left", **about)
            yield False
            return
        try:
            yield True
        except Exception as error:  # noqa: BLE001 - the other parts are still to be measured
            self.add(name, error=f"{type(error).__name__}: {error}"[:600], **about)
            sys.stderr.write(traceback.format_exc()[-2000:] + "\n")
        sys.stderr.write(f"[{self._clock.left:.0f} s left] {name} {about}\n")
        gc.collect()
        if self._clock.device.type == "cuda":
            torch.cuda.empty_cache()


@dataclass
class Limits:
    """What the device does at best: bytes a ms (read plus written), operations a ms."""

    copy: float = 1e9
    host: float = 1e7
    products: float = 1e11


def measure_limits(clock: Clock, report: Report, *, tiny: bool) -> Limits:
    """Measure copies on the device and from pinned memory, and a matrix product in bfloat16."""
    device, limits = clock.device, Limits()
    size = 1 << (20 if tiny else 31)
    with report.part("limits"):
        source = torch.empty(size, dtype=torch.uint8, device=device).random_(0, 255)
        target = torch.empty_like(source)
        limits.copy = 2 * size / clock.kernel([lambda: target.copy_(source)])
        n = 64 if tiny else 8192
        left, right = (torch.randn(n, n, device=device, dtype=torch.bfloat16) for _ in range(2))
        limits.products = 2 * n**3 / clock.kernel([lambda: left @ right])
        report.add(
            "limits",
            copy_gb_s=limits.copy / 1e6,
            products_tflops=limits.products / 1e9,
        )
    with report.part("host"):
        pinned = torch.empty(size // 4, dtype=torch.uint8, pin_memory=device.type == "cuda")
        there = torch.empty_like(pinned, device=device)
        limits.host = pinned.nbytes / clock.several(lambda: there.copy_(pinned))["best_ms"]
        report.add("host", pinned_gb_s=limits.host / 1e6)
    return limits


def measure_kernels(
    clock: Clock, report: Report, sizes: Sizes, limits: Limits, dtype: torch.dtype
) -> None:
    """Time attention of one layer of the largest model, decoding and prefilling, by each kernel."""
    config = next(iter(sizes.configs.values()))
    kv_heads, dim = config["num_key_value_heads"], config["head_dim"]
    groups, scale = config["num_attention_heads"] // kv_heads, dim**-0.5
    for tokens, queries in itertools.product(sizes.contexts, (1, sizes.question)):
        about = {"context": tokens, "queries": queries}
        with report.part("kernel", 20, **about) as go:
            if not go:
                continue
            # Several layers, so that none is found in the device's cache.
            layers = max(2, min(8, 8 * sizes.contexts[1] // tokens))
            parts = [
                tuple(
                    torch.randn(
                        layers, kv_heads, sizes.passage, dim, device=clock.device, dtype=dtype
                    )
                    for _ in range(2)
                )
                for _ in range(tokens // sizes.passage)
            ]
            pieces = scattered.Pieces([(k, v, torch.arange(sizes.passage)) for k, v in parts])
            keys, values = (torch.cat([part[i] for part in parts], 2) for i in (0, 1))
            rows = groups * queries
            query = torch.randn(kv_heads, rows, dim, device=clock.device, dtype=dtype)
            floor = max(
                keys[0].nbytes * 2 / limits.copy,
                4 * kv_heads * rows * dim * tokens / limits.products,
            )
            exact = _exact(query, keys[0], values[0], scale)
            ways = _ways(query, keys, values, pieces, scale)
            for name, work in ways.items():
                try:
                    got = work(0)
                    if got is None:
                        report.add("kernel", way=name, missing=True, **about)
                        continue
                    error = float((got[0].double() - exact[0]).norm() / exact[0].norm())
                    off = float((got[1].double() - exact[1]).abs().max())
                    ms = clock.kernel([lambda n=n, w=work: w(n) for n in range(layers)])
                    report.add(
                        "kernel",
                        way=name,
                        ms=ms,
                        floor_ms=floor,
                        over_floor=ms / floor,
                        relative_error=error,
                        lse_error=off,
                        **about,
                    )
                except Exception as problem:  # noqa: BLE001 - the next way may work
                    report.add("kernel", way=name, error=str(problem)[:300], **about)


Way = Callable[[int], tuple[Tensor, Tensor] | None]


def _ways(
    query: Tensor, keys: Tensor, values: Tensor, pieces: scattered.Pieces, scale: float
) -> dict[str, Way]:
    """Return the ways of attending to one layer."""
    scratch = Scratch()

    def products(layer: int) -> tuple[Tensor, Tensor] | None:
        hidden = torch.zeros(1, keys.shape[2], dtype=torch.bool, device=keys.device)
        out, lse, _ = attend(query, keys[layer], values[layer], scale, scratch, hidden=hidden)
        assert lse is not None
        return out, lse

    def one(kernel: fused_attention.Kernel) -> Way:
        return lambda layer: (
            kernel(query, keys[layer], values[layer], scale, 0)
            if fused_attention.usable(query)
            and fused_attention.proven(kernel, query.device, query.dtype, query.shape[-1])
            else None
        )

    def in_place(tile: int, warps: int, stages: int, waves: int) -> Way:
        def way(layer: int) -> tuple[Tensor, Tensor] | None:
            names = ("TILE", "WARPS", "STAGES", "WAVES")
            before = [getattr(scattered, name) for name in names]
            for name, value in zip(names, (tile, warps, stages, waves), strict=True):
                setattr(scattered, name, value)
            try:
                return scattered.ScatteredGroup(pieces, layer).attend(query, scale)
            finally:
                for name, value in zip(names, before, strict=True):
                    setattr(scattered, name, value)

        return way

    ways = {kernel.__name__: one(kernel) for kernel in fused_attention.KERNELS}
    few = query.shape[1] <= 16
    variants = (
        ((16, 4, 2, 4), (16, 4, 3, 4), (16, 4, 4, 4), (16, 4, 3, 8), (16, 2, 4, 8))
        if few
        else ((64, 4, 2, 4), (64, 4, 3, 4), (64, 4, 3, 2), (128, 8, 2, 2), (128, 8, 3, 2))
    )
    for variant in variants:
        ways["in place, tile {}, warps {}, stages {}, waves {}".format(*variant)] = in_place(
            *variant
        )
    return ways | {"products": products}


def _exact(query: Tensor, keys: Tensor, values: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Return output and log-sum-exp in float64, one head at a time."""
    outs, sums = [], []
    for q, k, v in zip(query.double(), keys, values, strict=True):
        logits = q @ k.double().T * scale
        sums.append(logits.logsumexp(-1))
        outs.append(logits.softmax(-1) @ v.double())
    return torch.stack(outs), torch.stack(sums)


class PinnedStore:
    """A store in pinned host memory in which all passages of a length share one buffer."""

    def __init__(self, kv: SegmentKV) -> None:
        self.kv = kv

    def get(self, segment: Segment) -> Lookup:
        """Return the buffer for any passage of its length."""
        if len(segment) != self.kv.keys.shape[1]:
            return Lookup(None, "absent")
        return Lookup(self.kv, "hit (ram)", self.kv.nbytes)

    def put(self, segment: Segment, kv: SegmentKV) -> bool:  # noqa: ARG002 - as the protocol says
        """Keep nothing."""
        return False


class Bench:
    """One model of random weights, and passages of random keys and values."""

    def __init__(
        self,
        name: str,
        clock: Clock,
        report: Report,
        sizes: Sizes,
        limits: Limits,
        dtype: torch.dtype,
    ) -> None:
        from transformers import AutoConfig, AutoModelForCausalLM

        self.name, self.clock, self.report, self.sizes = name, clock, report, sizes
        self.limits = limits
        config = AutoConfig.for_model(
            "llama",
            **sizes.configs[name],
            max_position_embeddings=1 << 18,
            rope_theta=500000.0,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=2,
        )
        torch.manual_seed(0)
        with torch.device(clock.device):
            self.model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
        self.config = config
        self.identity = ModelIdentity(name, "random", "llama", str(dtype)[6:], "none")
        self.generator = torch.Generator().manual_seed(1)
        self.engine = Engine(self.model, self.identity, placed_bytes=1 << 40)
        self.weight_bytes = sum(p.nbytes for p in self.model.parameters())
        if not config.tie_word_embeddings:
            self.weight_bytes -= self.model.get_input_embeddings().weight.nbytes
        self.prefix = self.segment("prefix", 16)
        self.question = self.ids(sizes.question)

    def ids(self, count: int) -> tuple[int, ...]:
        """Return random token ids."""
        drawn = torch.randint(3, self.config.vocab_size, (count,), generator=self.generator)
        return tuple(drawn.tolist())

    def segment(self, name: str, tokens: int) -> Segment:
        """Return a segment of random tokens."""
        if name == "prefix":
            return Segment(self.identity, "prefix", self.ids(tokens), name=name)
        return Segment(self.identity, "passage", self.ids(tokens), (self.prefix,), name=name)

    def fill(
        self, engine: Engine, requests: int, tokens: int, *, shared: bool
    ) -> list[EncodingPlan]:
        """Put random keys and values of passages into the pool; return plans that read them."""
        count = tokens // self.sizes.passage
        plans = []
        passages: list[Segment] = []
        for request in range(requests):
            if not passages or not shared:
                passages = [
                    self.segment(f"{request}.{number}", self.sizes.passage)
                    for number in range(count)
                ]
                for passage in passages:
                    placed = PlacedRows(passage, len(self.prefix))
                    engine.placed.put(placed, self.random_kv(self.sizes.passage))
            pairs = tuple((passage, None) for passage in passages)
            plans.append(parallel_plan(self.prefix, pairs, self.ids(self.sizes.question), WEIGHTS))
        return plans

    def random_kv(self, tokens: int) -> tuple[Tensor, Tensor]:
        """Return keys and values, (layers, kv_heads, tokens, head_dim)."""
        c = self.config
        shape = (c.num_hidden_layers, c.num_key_value_heads, tokens, c.head_dim)
        made = [
            torch.randn(shape, device=self.clock.device, dtype=self.model.dtype) for _ in range(2)
        ]
        return made[0], made[1]

    def floor_ms(self, requests: int, tokens: int, queries: int, contexts: int) -> float:
        """Return the time that reading weights and keys takes, or computing, whichever is longer.

        Args:
            requests: at once.
            tokens: of each one's context.
            queries: of each.
            contexts: that are different.
        """
        c = self.config
        read = self.weight_bytes + contexts * tokens * self.engine.kv_bytes_per_token
        # Two operations a weight, which takes two bytes.
        linear = self.weight_bytes * requests * queries
        heads = c.num_hidden_layers * c.num_attention_heads * c.head_dim
        attention = 4 * heads * requests * queries * tokens
        return max(read / self.limits.copy, (linear + attention) / self.limits.products)

    @contextmanager
    def hugging_face(self) -> Iterator[Any]:
        """Lend the model with its own attention, SDPA."""
        self.model.set_attn_implementation("sdpa")
        try:
            with torch.inference_mode():
                yield self.model
        finally:
            self.model.set_attn_implementation(IMPLEMENTATION)

    def peak_gb(self) -> float:
        """Return the most memory taken since the last call."""
        if self.clock.device.type != "cuda":
            return 0.0
        peak = torch.cuda.max_memory_allocated() / 1e9
        torch.cuda.reset_peak_memory_stats()
        return peak

    def fits(self, gigabytes: float) -> bool:
        """Return whether so much memory is free."""
        if self.clock.device.type != "cuda":
            return True
        free, _ = torch.cuda.mem_get_info()
        reserved = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        return (free + reserved) / 1e9 > gigabytes + 2

    def kv_gb(self, tokens: int) -> float:
        """Return what keys and values of so many tokens take."""
        return tokens * self.engine.kv_bytes_per_token / 1e9

    def check(self) -> None:
        """Compare one really encoded passage with a full prefill, its own and Hugging Face's."""
        tokens = self.sizes.contexts[0]
        passage = self.segment("check", tokens)
        plan = parallel_plan(self.prefix, ((passage, None),), self.question, ContextWeights())
        ids = (*self.prefix.token_ids, *passage.token_ids, *self.question)
        cached = self.engine.prefill(plan).logits
        own = self.engine.prefill(sequential_plan(ids)).logits
        with self.hugging_face() as model:
            inputs = torch.tensor([ids], device=self.clock.device)
            theirs = model(inputs, logits_to_keep=1).logits[0, -1].float()
        wrong = parallel_plan(
            self.prefix, ((passage, None),), self.question, ContextWeights(bias=-1.0)
        )
        self.report.add(
            "check",
            model=self.name,
            context=tokens,
            cached_to_hugging_face=_off(cached, theirs),
            own_to_hugging_face=_off(own, theirs),
            cached_to_own=_off(cached, own),
            wrong_on_purpose=_off(self.engine.prefill(wrong).logits, theirs),
            same_token=bool(cached.argmax() == theirs.argmax()),
        )
        encode = self.clock.several(
            lambda: self.engine.encode(self.segment("timed", self.sizes.passage))
        )
        self.report.add("encode", model=self.name, tokens=self.sizes.passage, **encode)
        self.engine.placed.clear()

    def one(self, tokens: int) -> None:
        """Measure one request."""
        about = {"model": self.name, "context": tokens, "batch": 1}
        queries = self.sizes.question
        floor = self.floor_ms(1, tokens, queries, 1)
        need = self.kv_gb(tokens)
        with self.report.part("pool", 12, **about) as go:
            if go and self.fits(need):
                (plan,) = self.fill(self.engine, 1, tokens, shared=True)
                self.peak_gb()
                taken = self.clock.several(lambda: self.first(self.engine, plan))
                record = {"floor_ms": floor, "peak_gb": self.peak_gb()}
                self.report.add("pool", copied=self.engine.copy_context, **taken, **record, **about)
                self.decode(self.engine, plan, about)
                self.graph(plan, about)
                self.copied(plan, tokens, floor, about)
        self.engine.placed.clear()
        with self.report.part("host", 12, **about) as go:
            if go and self.fits(need):
                self.from_host(tokens, about)
        with self.report.part("full prefill", 25 if tokens > 1 << 16 else 8, **about) as go:
            if go:
                self.full(tokens, about)

    def first(self, engine: Engine, plan: EncodingPlan) -> int:
        """Do what a request does up to its first token."""
        return int(engine.prefill(plan).logits.argmax())

    def decode(self, engine: Engine, plan: EncodingPlan, about: dict[str, Any]) -> None:
        """Time greedy decoding after a plan."""
        state = engine.prefill(plan)

        def step() -> None:
            nonlocal state
            state = engine.advance(state, int(state.logits.argmax()))

        self._steps("decode", step, about, self.floor_ms(1, about["context"], 1, 1))

    def _steps(
        self, part: str, step: Callable[[], None], about: dict[str, Any], floor: float
    ) -> None:
        for _ in range(2):
            step()
        runs = sorted(self.clock.once(step)[1] for _ in range(self.sizes.decoded))
        middle = runs[len(runs) // 2]
        record = {"median_ms": middle, "best_ms": runs[0], "worst_ms": runs[-1], "floor_ms": floor}
        rate = {"tokens_s": about["batch"] * 1e3 / middle, "peak_gb": self.peak_gb()}
        self.report.add(part, **record, **rate, **about)

    def copied(self, plan: EncodingPlan, tokens: int, floor: float, about: dict[str, Any]) -> None:
        """Measure the same with passages copied side by side, and compare the logits."""
        if not self.fits(self.kv_gb(tokens)):
            return
        other = Engine(self.model, self.identity, copy_context=True)
        other.placed = self.engine.placed
        same = _off(self.engine.prefill(plan).logits, other.prefill(plan).logits)
        taken = self.clock.several(lambda: self.first(other, plan), 1.0)
        record = {"floor_ms": floor, "in_place_to_copied": same, "peak_gb": self.peak_gb()}
        self.report.add("copied", **taken, **record, **about)
        self.decode(other, plan, about | {"copied": True})

    def graph(self, plan: EncodingPlan, about: dict[str, Any]) -> None:
        """Time one decoding step as a CUDA graph: what launching costs, and a graph would save."""
        if self.clock.device.type != "cuda":
            return
        try:
            state = self.engine.prefill(plan)
            cache = state.cache
            ids = torch.tensor([[5]], device=self.clock.device)
            stand = torch.tensor([state.position], device=self.clock.device)

            def run() -> Any:
                return self.model(
                    ids, position_ids=stand[None], past_key_values=cache, logits_to_keep=1
                ).logits

            with torch.inference_mode():
                stream = torch.cuda.Stream()
                stream.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(stream):
                    for _ in range(2):
                        cache.announce(stand)
                        run()
                torch.cuda.current_stream().wait_stream(stream)
                cache.announce(stand)
                captured = torch.cuda.CUDAGraph()
                with torch.cuda.graph(captured):
                    run()
                replay = self.clock.several(captured.replay, 0.5)
            self.report.add("graph", **replay, **about)
        except Exception as error:  # noqa: BLE001 - a capture fails in many ways
            self.report.add("graph", error=str(error)[:300], **about)

    def from_host(self, tokens: int, about: dict[str, Any]) -> None:
        """Measure with passages in pinned host memory."""
        c, on_gpu = self.config, self.clock.device.type == "cuda"
        shape = (c.num_hidden_layers, self.sizes.passage, c.num_key_value_heads, c.head_dim)
        kv = SegmentKV(
            *(torch.empty(shape, dtype=self.model.dtype, pin_memory=on_gpu) for _ in range(2))
        )
        for tensor in (kv.keys, kv.values):
            tensor.copy_(torch.randn(shape, device=self.clock.device))
        engine = Engine(self.model, self.identity, PinnedStore(kv), placed_bytes=0)
        count = tokens // self.sizes.passage
        pairs = tuple((self.segment(f"{n}", self.sizes.passage), None) for n in range(count))
        plan = parallel_plan(self.prefix, pairs, self.question, WEIGHTS)
        self.peak_gb()
        taken = self.clock.several(lambda: self.first(engine, plan))
        floor = max(
            kv.nbytes * count / self.limits.host, self.floor_ms(1, tokens, self.sizes.question, 1)
        )
        self.report.add("host", **taken, floor_ms=floor, peak_gb=self.peak_gb(), **about)

    def full(self, tokens: int, about: dict[str, Any]) -> None:
        """Measure Hugging Face's prefill of as many tokens, and its decoding after it."""
        ids = torch.randint(
            3,
            self.config.vocab_size,
            (1, len(self.prefix) + tokens + self.sizes.question),
            generator=self.generator,
        ).to(self.clock.device)
        self.peak_gb()
        with self.hugging_face() as model:
            self.clock.once(lambda: model(ids[:, :64], use_cache=True, logits_to_keep=1))
            runs: list[float] = []
            out = None
            while not runs or (sum(runs) < 2e3 and len(runs) < 5):
                del out
                self.clock.wait()
                began = time.perf_counter()
                out = model(ids, use_cache=True, logits_to_keep=1)
                self.clock.wait()
                runs.append((time.perf_counter() - began) * 1e3)
            heads = self.config.num_hidden_layers * self.config.num_attention_heads
            attention = 2 * heads * self.config.head_dim * tokens**2
            floor = (self.weight_bytes * tokens + attention) / self.limits.products
            record = {"floor_ms": floor, "peak_gb": self.peak_gb(), "runs": len(runs)}
            taken = {"median_ms": median(runs), "best_ms": min(runs), "worst_ms": max(runs)}
            self.report.add("full prefill", **taken, **record, **about)
            self.hugging_face_steps(model, out.past_key_values, out.logits[:, -1], about)

    def hugging_face_steps(
        self, model: Any, cache: Any, logits: Tensor, about: dict[str, Any]
    ) -> None:
        """Time Hugging Face's decoding, a `DynamicCache` and SDPA."""

        def step() -> None:
            nonlocal logits
            token = logits.argmax(-1)
            token.tolist()
            logits = model(token[:, None], past_key_values=cache, use_cache=True).logits[:, -1]

        floor = self.floor_ms(about["batch"], about["context"], 1, about["batch"])
        self._steps("Hugging Face decode", step, about, floor)

    def batch(self, requests: int, tokens: int) -> None:
        """Measure several requests at once, with passages of their own and with the same."""
        for shared in (False, True):
            contexts = 1 if shared else requests
            about = {
                "model": self.name,
                "context": tokens,
                "batch": requests,
                "shared": shared,
            }
            if not self.fits(self.kv_gb(tokens) * contexts):
                self.report.add("pool", skipped="not enough memory", **about)
                continue
            with self.report.part("pool", 15, **about) as go:
                if not go:
                    continue
                plans = self.fill(self.engine, requests, tokens, shared=shared)
                floor = self.floor_ms(requests, tokens, self.sizes.question, contexts)
                self.peak_gb()
                taken = self.clock.several(lambda p=plans: self.firsts(p), 1.0)
                record = {"floor_ms": floor, "peak_gb": self.peak_gb()}
                self.report.add("pool", **taken, **record, **about)
                states: list[Prefilled] = self.engine.prefill_batch(plans)

                def step() -> None:
                    nonlocal states
                    chosen = torch.stack([state.logits for state in states]).argmax(-1).tolist()
                    states = self.engine.advance_batch(states, chosen)

                self._steps("decode", step, about, self.floor_ms(requests, tokens, 1, contexts))
                alone = self.engine.advance(self.engine.prefill(plans[-1]), 5).logits
                fresh = self.engine.prefill_batch(plans)
                together = self.engine.advance_batch(fresh, [5] * requests)[-1].logits
                self.report.add("batch check", off=_off(together, alone), **about)
                del states, fresh
            self.engine.placed.clear()
        about = {"model": self.name, "context": tokens, "batch": requests}
        with self.report.part("Hugging Face decode", 8, **about) as go:
            if go and self.fits(1.1 * self.kv_gb(tokens) * requests):
                from transformers import DynamicCache

                c, cache = self.config, DynamicCache()
                shape = (requests, c.num_key_value_heads, tokens, c.head_dim)
                for layer in range(c.num_hidden_layers):
                    keys, values = (
                        torch.randn(shape, device=self.clock.device, dtype=self.model.dtype)
                        for _ in range(2)
                    )
                    cache.update(keys, values, layer)
                del keys, values
                logits = torch.randn(requests, self.config.vocab_size, device=self.clock.device)
                with self.hugging_face() as model:
                    self.hugging_face_steps(model, cache, logits, about)

    def firsts(self, plans: list[EncodingPlan]) -> list[int]:
        """Do what requests do up to their first tokens."""
        states = self.engine.prefill_batch(plans)
        return torch.stack([state.logits for state in states]).argmax(-1).tolist()


def _off(ours: Tensor, theirs: Tensor) -> float:
    """Return the relative difference of logits."""
    return float((ours.double() - theirs.double()).norm() / theirs.double().norm())


def about_run(clock: Clock) -> dict[str, Any]:
    """Return what a reader needs to repeat the figures."""
    values: dict[str, Any] = {**machine(), "torch": torch.__version__, "os": platform.system()}
    if clock.device.type == "cuda":
        values["gpu"] = torch.cuda.get_device_name(clock.device)
        values["memory_gb"] = torch.cuda.get_device_properties(clock.device).total_memory / 1e9
        for dtype, dim in itertools.product((torch.bfloat16, torch.float16), (64, 128)):
            of = f"{str(dtype)[6:]} {dim}"
            values[f"kernels {of}"] = [
                kernel.__name__
                for kernel in fused_attention.KERNELS
                if fused_attention.proven(kernel, clock.device, dtype, dim)
            ]
            values[f"ragged {of}"] = fused_attention._ragged_proven(clock.device, dtype, dim)  # noqa: SLF001 - the answer is what is wanted
            values[f"in place {of}"] = scattered.readable(
                torch.empty(0, dim, dtype=dtype, device=clock.device)
            )
    return values


def table(records: Sequence[dict[str, Any]]) -> str:
    """Return Markdown tables of the records: kernels, then requests."""
    lines = []
    for title, wanted, columns in (
        (
            "Attention of one layer",
            lambda r: "over_floor" in r,
            ("context", "queries", "way", "ms", "floor_ms", "over_floor", "relative_error"),
        ),
        (
            "Requests",
            lambda r: "median_ms" in r and "model" in r,
            (
                "model", "part", "context", "batch", "shared", "copied",
                "median_ms", "host_ms", "floor_ms", "tokens_s", "peak_gb",
            ),
        ),
    ):  # fmt: skip
        lines += [
            "",
            f"{title}",
            "",
            "| " + " | ".join(columns) + " |",
            "| --- " * len(columns) + "|",
        ]
        for record in filter(wanted, records):
            cells = (record.get(name, "") for name in columns)
            shown = (f"{c:.4g}" if isinstance(c, float) else str(c) for c in cells)
            lines.append("| " + " | ".join(shown) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true", help="one record a line")
    parser.add_argument("--minutes", type=float, default=8.0, help="stop by then (default: 8)")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small shapes, to see that it runs")
    args = parser.parse_args()
    device = torch.device(args.device, 0) if args.device == "cuda" else torch.device(args.device)
    clock = Clock(device, args.minutes)
    report = Report(clock, as_json=args.json)
    sizes = TINY if args.tiny else FULL
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    with report.part("about"):
        report.add("about", **about_run(clock))
    limits = measure_limits(clock, report, tiny=args.tiny)
    with torch.inference_mode():
        measure_kernels(clock, report, sizes, limits, dtype)
    for name in sizes.configs:
        bench = None
        with report.part("load", 20, model=name) as go:
            if go:
                bench = Bench(name, clock, report, sizes, limits, dtype)
                report.add("load", model=name, copies=bench.engine.copy_context)
        if bench is None:
            continue
        with report.part("check", 10, model=name) as go:
            if go:
                bench.check()
        for tokens in sizes.contexts:
            bench.one(tokens)
        for tokens, requests in itertools.product(sizes.contexts, sizes.batches[1:]):
            bench.batch(requests, tokens)
        del bench
    print(table(report.records))


if __name__ == "__main__":
    main()
