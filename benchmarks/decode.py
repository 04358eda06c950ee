"""Decoding speed: tokens a second of the engine against `generate` of Hugging Face.

Both decode greedily with the same model object after the same context, read as one sequential
prompt; Hugging Face with SDPA attention and a `DynamicCache`. The context is random token ids:
speed does not depend on them. A run is the tokens after the first; runs of both alternate, and the
ratio is the median of pairs. Times are wall times; `cpu` columns are processor time, which says
more on a machine that is not idle.

The engine leaves oneDNN out of products of one row (`rag/generation/one_row.py`); Hugging Face runs
as PyTorch does by default, or with `--same-kernels` like the engine: the ratio is then what is left
of the engine's own attention.

    python benchmarks/decode.py                  contexts of 512, 2,048 and 4,096 tokens, a table
    python benchmarks/decode.py --context 2048 --json
    python benchmarks/decode.py --same-kernels
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from contextlib import nullcontext
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from measuring import machine, markdown_table
from transformers import DynamicCache, GenerationConfig

from rag.generation.attention import IMPLEMENTATION
from rag.generation.decoding import Sampling
from rag.generation.engine import Engine
from rag.generation.one_row import one_row
from rag.models.language_model import load_language_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from rag.models.language_model import LoadedModel

CONTEXTS = (512, 2048, 4096)
BLOCK = 512


def seconds(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Return wall time and processor time of a call, and what it returns."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    return time.perf_counter() - wall, time.process_time() - cpu, found


class Bench:
    """One loaded model and both ways of decoding with it."""

    def __init__(self, loaded: LoadedModel, tokens: int, *, same_kernels: bool = False) -> None:
        self.model = loaded.model
        self.engine = Engine(loaded.model, loaded.identity)
        self.tokens = tokens
        self.same_kernels = same_kernels
        self.greedy = GenerationConfig(
            max_new_tokens=tokens + 1, min_new_tokens=tokens + 1, do_sample=False, pad_token_id=0
        )

    def ours(self, state: Any) -> tuple[float, float, list[int]]:
        """Time the tokens after the first."""
        stream = self.engine.decode(state, Sampling(self.tokens + 1), frozenset())
        first = next(stream)
        wall, cpu, rest = seconds(lambda: list(stream))
        return wall, cpu, [first, *rest]

    def hugging_face_prompt(self, ids: list[int]) -> tuple[DynamicCache, int]:
        """Read all but the last token in blocks: the cache, and the last token."""
        cache = DynamicCache()
        for at in range(0, len(ids) - 1, BLOCK):
            block = torch.tensor([ids[at : min(at + BLOCK, len(ids) - 1)]])
            self.model(block, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return cache, ids[-1]

    def hugging_face(self, ids: list[int], cache: DynamicCache) -> tuple[float, float, list[int]]:
        """Time the tokens after the first: what `generate` takes for all of them, less one."""
        prompt = torch.tensor([ids])
        options = {"attention_mask": torch.ones_like(prompt), "past_key_values": cache}
        like_ours = one_row(self.model.device, self.model.dtype)
        with like_ours if self.same_kernels else nullcontext():
            wall, cpu, found = seconds(
                lambda: self.model.generate(prompt, generation_config=self.greedy, **options)
            )
        share = self.tokens / (self.tokens + 1)
        return wall * share, cpu * share, found[0, len(ids) :].tolist()

    @torch.inference_mode()
    def measure(self, context: int, repeats: int) -> dict[str, Any]:
        """Return one record."""
        generator = torch.Generator().manual_seed(context)
        ids = torch.randint(3, self.model.config.vocab_size, (context,), generator=generator)
        ids = ids.tolist()
        state = self.engine.read(ids)
        self.model.set_attn_implementation("sdpa")
        cache, _ = self.hugging_face_prompt(ids)
        runs = []
        for _ in range(repeats + 1):
            self.model.set_attn_implementation("sdpa")
            theirs = self.hugging_face(ids, copy.deepcopy(cache))
            self.model.set_attn_implementation(IMPLEMENTATION)
            runs.append((self.ours(self.engine.fork(state)), theirs))
        same = sum(a == b for a, b in zip(runs[0][0][2], runs[0][1][2], strict=True))
        runs = runs[1:]
        record = {
            "context_tokens": context,
            "decoded_tokens": self.tokens,
            "tokens_per_s": self.tokens / median(run[0][0] for run in runs),
            "hf_tokens_per_s": self.tokens / median(run[1][0] for run in runs),
            "ratio": median(b[0] / a[0] for a, b in runs),
            "ratio_worst": min(b[0] / a[0] for a, b in runs),
            "ratio_best": max(b[0] / a[0] for a, b in runs),
            "cpu_ms_per_token": median(run[0][1] for run in runs) / self.tokens * 1e3,
            "hf_cpu_ms_per_token": median(run[1][1] for run in runs) / self.tokens * 1e3,
            "cpu_ratio": median(b[1] / a[1] for a, b in runs),
            "runs": repeats,
            "same_tokens": same,
        }
        return {k: round(v, 3) if isinstance(v, float) else v for k, v in record.items()}


def table(records: list[dict[str, Any]]) -> str:
    """Return a Markdown table of records."""
    columns = (
        ("context tokens", "context_tokens", "{:,}"),
        ("tokens/s", "tokens_per_s", "{:.1f}"),
        ("Hugging Face", "hf_tokens_per_s", "{:.1f}"),
        ("ratio", "ratio", "{:.2f}×"),
        ("worst", "ratio_worst", "{:.2f}×"),
        ("best", "ratio_best", "{:.2f}×"),
        ("cpu a token", "cpu_ms_per_token", "{:.1f} ms"),
        ("Hugging Face", "hf_cpu_ms_per_token", "{:.1f} ms"),
    )
    return markdown_table(columns, records)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--context", type=int, action="append", help="context tokens; repeatable")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--tokens", type=int, default=24, help="decoded tokens (default: 24)")
    parser.add_argument("--repeats", type=int, default=5, help="pairs of runs (default: 5)")
    parser.add_argument(
        "--same-kernels", action="store_true", help="no oneDNN in Hugging Face's decoding either"
    )
    parser.add_argument("--json", action="store_true", help="one record a line")
    args = parser.parse_args()
    loaded = load_language_model(args.model, dtype=args.dtype)
    setting = {
        **machine(),
        "model": loaded.identity.name,
        "dtype": loaded.identity.dtype,
        "threads": torch.get_num_threads(),
        "same_kernels": args.same_kernels,
        "torch": torch.__version__,
    }
    bench, records = Bench(loaded, args.tokens, same_kernels=args.same_kernels), []
    for context in args.context or CONTEXTS:
        record = bench.measure(context, args.repeats) | setting
        records.append(record)
        if args.json:
            print(json.dumps(record), flush=True)
    if not args.json:
        print(f"{setting['cpu']}, {setting['threads']} threads, {setting['dtype']}, medians\n")
        print(table(records))


if __name__ == "__main__":
    main()
