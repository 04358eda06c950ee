"""Encoding passages one by one, several in one packed pass, and as a padded batch: passages/s.

Passages of a setting have mixed lengths, from half of their mean to one and a half. All ways run in
turns in one process, after one run that is not timed; a way's speed is that of its median run. A
padded batch is what the model gives by itself: attention of PyTorch, passages sorted by length, the
prefix's keys expanded over the batch, as many rows as fit into a pass, padding included.

    python benchmarks/precompute.py                            default model, a table
    python benchmarks/precompute.py --json                     one record a setting and way
    python benchmarks/precompute.py --random llama-3.1-8b --device cuda --pass-tokens 1024 4096
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from gpu import LLAMA_8B, SMOLLM2_135M
from measuring import machine, markdown_table, milliseconds
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache

from rag.generation.attention import IMPLEMENTATION
from rag.generation.engine import Engine
from rag.protocols import SegmentKV
from rag.records import ModelIdentity, Segment

if TYPE_CHECKING:
    from torch import Tensor

Way = Callable[[Sequence[Segment]], list[SegmentKV]]
"""Passages to their KV."""
RANDOM = {"llama-3.1-8b": LLAMA_8B, "smollm2-135m": SMOLLM2_135M}
PREFIX_TOKENS = 40
MEANS = (16, 64, 128, 256, 512)


class Bench:
    """One model, and passages of several lengths.

    Args:
        model: in evaluation mode, on its device.
        identity: of the model.
    """

    def __init__(self, model: Any, identity: ModelIdentity) -> None:
        self.model = model
        self.identity = identity
        self.generator = torch.Generator().manual_seed(0)
        self.prefix = Segment(identity, "prefix", self.ids(PREFIX_TOKENS), name="prefix")
        self.engine = Engine(model, identity)

    def ids(self, count: int) -> tuple[int, ...]:
        """Return random token ids."""
        size = self.model.config.vocab_size
        return tuple(torch.randint(3, size, (count,), generator=self.generator).tolist())

    def passages(self, mean: int, count: int) -> list[Segment]:
        """Return passages of mixed lengths, in an order that is not that of their lengths."""
        lengths = [mean // 2 + round(mean * n / max(1, count - 1)) for n in range(count)]
        order = torch.randperm(count, generator=self.generator).tolist()
        return [
            Segment(
                self.identity, "passage", self.ids(lengths[n]), (self.prefix,), name=f"{mean}.{n}"
            )
            for n in order
        ]

    def one_by_one(self, passages: Sequence[Segment]) -> list[SegmentKV]:
        """Encode each in a pass of its own."""
        return [self.engine.encode(passage) for passage in passages]

    def packed(self, pass_tokens: int) -> Way:
        """Return what encodes as many in one pass as have so many tokens together."""
        engine = Engine(self.model, self.identity, pass_tokens=pass_tokens, tested=True)
        return lambda passages: list(engine.encode_all(passages))

    def padded(self, pass_tokens: int) -> Way:
        """Return what encodes passages of like lengths as rows of a padded batch."""

        def encode(passages: Sequence[Segment]) -> list[SegmentKV]:
            self.model.set_attn_implementation("sdpa")
            try:
                return self._padded(passages, pass_tokens)
            finally:
                self.model.set_attn_implementation(IMPLEMENTATION)

        return encode

    @torch.inference_mode()
    def _padded(self, passages: Sequence[Segment], pass_tokens: int) -> list[SegmentKV]:
        before = DynamicCache()
        device = self.model.device
        self.model(torch.tensor([self.prefix.token_ids], device=device), past_key_values=before)
        order = sorted(range(len(passages)), key=lambda n: len(passages[n]))
        found: dict[int, SegmentKV] = {}
        while order:
            longest = len(passages[order[-1]])
            these = order[-max(1, pass_tokens // longest) :]
            del order[-len(these) :]
            keys, values = self._rows([passages[n] for n in these], before)
            for row, number in enumerate(these):
                size = len(passages[number])
                found[number] = SegmentKV(
                    torch.stack([layer[row, :size] for layer in keys]),
                    torch.stack([layer[row, :, -longest:][:, :size] for layer in values]).transpose(
                        1, 2
                    ),
                )
        return [found[n] for n in range(len(passages))]

    def _rows(
        self, passages: Sequence[Segment], before: DynamicCache
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Run one padded batch: keys before RoPE, by token, and values, by head, of each layer."""
        cache, count, device = DynamicCache(), len(passages), self.model.device
        longest = max(map(len, passages))
        for number, layer in enumerate(before.layers):
            parts = (part.expand(count, -1, -1, -1) for part in (layer.keys, layer.values))
            cache.update(*parts, number)
        ids = torch.zeros(count, longest, dtype=torch.int64)
        for row, passage in zip(ids, passages, strict=True):
            row[: len(passage)] = torch.tensor(passage.token_ids)
        keys: list[Tensor] = []
        heads = self.model.config.num_key_value_heads

        def keep(_module: Any, _inputs: Any, output: Tensor) -> None:
            keys.append(output.view(*output.shape[:2], heads, -1))

        hooks = [
            layer.self_attn.k_proj.register_forward_hook(keep) for layer in self.model.model.layers
        ]
        try:
            self.model(ids.to(device), past_key_values=cache, logits_to_keep=1)
        finally:
            for hook in hooks:
                hook.remove()
        return keys, [layer.values for layer in cache.layers]

    def measure(
        self, mean: int, count: int, pass_tokens: Sequence[int], repeats: int
    ) -> list[dict[str, Any]]:
        """Return one record a way."""
        passages = self.passages(mean, count)
        ways: dict[tuple[str, int], Way] = {("one by one", 0): self.one_by_one}
        ways |= {("packed", size): self.packed(size) for size in pass_tokens}
        ways |= {("padded", size): self.padded(size) for size in pass_tokens}
        alone = self.one_by_one(passages)
        off = {name: difference(way(passages), alone) for name, way in ways.items()}
        taken: dict[tuple[str, int], list[float]] = {name: [] for name in ways}
        peak: dict[tuple[str, int], int] = {}
        del alone
        for _ in range(repeats):
            for name, way in ways.items():
                if self.model.device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats()
                    held = torch.cuda.memory_allocated()
                taken[name].append(milliseconds(partial(self.finished, way, passages)))
                if self.model.device.type == "cuda":
                    peak[name] = torch.cuda.max_memory_allocated() - held
        slow = taken["one by one", 0]
        tokens = sum(map(len, passages))
        return [
            {
                "mean_tokens": mean,
                "passages": count,
                "prefix_tokens": PREFIX_TOKENS,
                "way": way,
                "pass_tokens": size or None,
                "passages_per_s": round(count / median(times) * 1e3, 2),
                "tokens_per_s": round(tokens / median(times) * 1e3),
                "ratio": round(median(a / b for a, b in zip(slow, times, strict=True)), 3),
                "ratio_worst": round(min(a / b for a, b in zip(slow, times, strict=True)), 3),
                "ratio_best": round(max(a / b for a, b in zip(slow, times, strict=True)), 3),
                "runs": repeats,
                "relative_difference": off[way, size],
                "peak_bytes": peak.get((way, size)),
            }
            for (way, size), times in taken.items()
        ]

    def finished(self, way: Way, passages: Sequence[Segment]) -> list[SegmentKV]:
        """Encode, and wait until the device has done all that it was given."""
        kept = way(passages)
        if self.model.device.type == "cuda":
            torch.cuda.synchronize()
        return kept


def difference(found: Sequence[SegmentKV], wanted: Sequence[SegmentKV]) -> float:
    """Return the largest relative error of a passage's keys or values, by their norms."""
    errors = [
        float((part - want).float().norm() / want.float().norm())
        for one, other in zip(found, wanted, strict=True)
        for part, want in ((one.keys, other.keys), (one.values, other.values))
    ]
    return float(f"{max(errors):.2e}")


def load(args: argparse.Namespace) -> tuple[Any, ModelIdentity]:
    """Return a model of random weights, or one that is installed, on the device asked for."""
    if args.random is None:
        from rag.models.language_model import load_language_model

        loaded = load_language_model(args.model, dtype=args.dtype)
        return loaded.model.to(args.device), loaded.identity
    dtype = getattr(torch, args.dtype if args.dtype != "auto" else "bfloat16")
    config = AutoConfig.for_model("llama", **RANDOM[args.random], rope_theta=500000.0)
    torch.manual_seed(0)
    with torch.device(args.device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    return model, ModelIdentity(args.random, "random", "llama", str(dtype)[6:], "none")


def table(records: list[dict[str, Any]]) -> str:
    """Return a Markdown table of records."""
    columns = (
        ("way", "way", "{}"),
        ("tokens a passage", "mean_tokens", "{}"),
        ("tokens a pass", "pass_tokens", "{}"),
        ("passages/s", "passages_per_s", "{:,.1f}"),
        ("ratio", "ratio", "{:.2f}×"),
        ("difference", "relative_difference", "{:.0e}"),
    )
    return markdown_table(columns, records)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--random", choices=RANDOM, help="a model of this shape, random weights")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--mean-tokens", type=int, nargs="+", default=MEANS)
    parser.add_argument("--tokens", type=int, default=2048, help="tokens of all passages, about")
    parser.add_argument("--pass-tokens", type=int, nargs="+", default=None)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one record a line")
    args = parser.parse_args()
    model, identity = load(args)
    bench, records = Bench(model, identity), []
    on_cuda = model.device.type == "cuda"
    setting = {
        **machine(),
        "device": torch.cuda.get_device_name() if on_cuda else "cpu",
        "model": identity.name,
        "dtype": str(model.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    for mean in args.mean_tokens:
        sizes = args.pass_tokens or [bench.engine.pass_tokens]
        for record in bench.measure(mean, max(2, args.tokens // mean), sizes, args.repeats):
            records.append(record | setting)
            if args.json:
                print(json.dumps(records[-1]), flush=True)
    if not args.json:
        print(f"{setting['device']}, {setting['threads']} threads, {setting['dtype']}, medians\n")
        print(table(records))


if __name__ == "__main__":
    main()
