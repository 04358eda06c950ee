"""Time to first token: passages read from the KV cache against a full prefill of the same prompt.

All figures of a setting come from one process on the same prompt: the shared prefix, whole passages
of the Python language reference, a question. TTFT runs from the generator receiving passages to the
first token. `floor_ms` is the question alone, plus KV bytes over copy bandwidth, plus attention
flops over the rate of a matrix product of that shape: what no arrangement of the same work beats.

    python benchmarks/ttft.py                    512, 1k, 2k, 4k and 8k context tokens, a table
    python benchmarks/ttft.py --context 4096 --json
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from measuring import machine, markdown_table

from kvstore.store import KVStore
from rag.corpus import Chunker, discover, read
from rag.generation.attention import IMPLEMENTATION
from rag.generation.cached import GenerateCached
from rag.generation.engine import Engine
from rag.generation.plan import sequential_plan
from rag.generation.prompt import PromptEncoder
from rag.models.language_model import load_language_model
from rag.records import Query

if TYPE_CHECKING:
    from collections.abc import Callable

    from rag.generation.plan import EncodingPlan
    from rag.models.language_model import LoadedModel
    from rag.records import Passage

CONTEXTS = (512, 1024, 2048, 4096, 7900)
QUESTION = (
    "What happens to the name that was bound in the except clause when the statement ends, "
    "and what if it is used?"
)


def timed(work: Callable[[], Any], repeats: int, before: Callable[[], Any] = lambda: None) -> dict:
    """Run once to warm up where that is cheap, then `repeats` times: milliseconds."""
    if repeats > 1:
        before()
        work()
    runs = []
    for _ in range(repeats):
        before()
        started = time.perf_counter()
        work()
        runs.append((time.perf_counter() - started) * 1e3)
    runs.sort()
    return {"best": runs[0], "median": median(runs), "worst": runs[-1], "runs": len(runs)}


class Bench:
    """One loaded model, its passages, and the ways of reading them."""

    def __init__(self, loaded: LoadedModel, folder: Path) -> None:
        self.loaded = loaded
        self.folder = folder
        self.prompt = PromptEncoder(loaded.tokenizer, loaded.identity)
        self.query = Query(QUESTION)
        self.passages = [
            passage
            for source in discover(["python:topics"])[0]
            for document in read(source)
            for passage in Chunker()(document)
        ]

    def generator(self, store: KVStore | None, placed_bytes: int) -> GenerateCached:
        """Return the generator over a store."""
        engine = Engine(self.loaded.model, self.loaded.identity, store, placed_bytes=placed_bytes)
        return GenerateCached(engine, self.prompt, mode="ape")

    def context(self, tokens: int) -> list[Passage]:
        """Return whole passages of about so many tokens."""
        prefix, total, chosen = self.prompt.prefix(), 0, []
        for passage in self.passages:
            size = len(self.prompt.passage(passage, prefix))
            if total and total + size > tokens:
                break
            total += size
            chosen.append(passage)
        return chosen

    def hugging_face(self, ids: tuple[int, ...]) -> torch.Tensor:
        """Return the last logits of the stock model's own prefill, SDPA attention."""
        self.loaded.model.set_attn_implementation("sdpa")
        try:
            with torch.inference_mode():
                return self.loaded.model(torch.tensor([ids]), use_cache=True, logits_to_keep=1)
        finally:
            self.loaded.model.set_attn_implementation(IMPLEMENTATION)

    def drop_page_cache(self) -> None:
        """Ask the system to forget the stored files, so that the next read comes from the disk."""
        for path in self.folder.rglob("*.safetensors"):
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)

    def measure(self, tokens: int, repeats: int, slow_repeats: int) -> dict[str, Any]:
        """Return one record."""
        passages = self.context(tokens)
        in_ram = KVStore(self.folder, ram_bytes=4 << 30)
        with in_ram:
            generate = self.generator(in_ram, 4 << 30)
            plan = generate.plan(self.query, passages)
            filled = generate.engine.prefill(plan)
            generate.engine.store(filled.fresh)
            ram = timed(lambda: self.first_token(generate, passages), repeats)
            warm = generate.engine.prefill(plan)
            kv_ms = warm.kv_ms
            question = timed(
                lambda: generate.engine.prefill(sequential_plan(plan.prefill)), repeats
            )
            ids = self.sequential_ids(generate, passages)
            own = timed(lambda: generate.engine.prefill(sequential_plan(ids)), slow_repeats)
            own_logits = generate.engine.prefill(sequential_plan(ids)).logits
            full_kernel = generate.engine
        hf = timed(lambda: self.hugging_face(ids), slow_repeats)
        hf_logits = self.hugging_face(ids).logits[0, -1].float()
        with KVStore(self.folder, ram_bytes=0, read_only=True) as on_disk:
            cold_reader = self.generator(on_disk, 0)
            disk = timed(lambda: self.first_token(cold_reader, passages), repeats)
            cold = None
            if hasattr(os, "posix_fadvise"):
                cold = timed(
                    lambda: self.first_token(cold_reader, passages), repeats, self.drop_page_cache
                )
            same = torch.equal(cold_reader.engine.prefill(plan).logits, warm.logits)
        floor = question["median"] + self.floor_extra_ms(plan, full_kernel)
        record = {
            "context_tokens": sum(len(placed) for placed in plan.context),
            "passages": len(passages),
            "prompt_tokens": len(ids),
            "question_tokens": len(plan.prefill),
            "ttft_ms": ram["median"],
            "hf_sequential_ms": hf["median"],
            "own_sequential_ms": own["median"],
            "question_only_ms": question["median"],
            "floor_ms": floor,
            "ratio_hf_sequential": hf["median"] / ram["median"],
            "ratio_own_sequential": own["median"] / ram["median"],
            "ratio_floor": ram["median"] / floor,
            "disk_warm_ms": disk["median"],
            "disk_cold_ms": None if cold is None else cold["median"],
            "assemble_ms": kv_ms,
            "forward_ms": ram["median"] - kv_ms,
            "kv_bytes": warm.use.bytes,
            "spread": {"ram": ram, "hf": hf, "own": own, "disk": disk, "cold": cold},
            "disk_equals_ram": same,
            "own_hf_logit_difference": float((own_logits - hf_logits).abs().max()),
            "own_hf_same_token": int(own_logits.argmax()) == int(hf_logits.argmax()),
        }
        return {k: round(v, 3) if isinstance(v, float) else v for k, v in record.items()}

    def first_token(self, generate: GenerateCached, passages: list[Passage]) -> int:
        """Do what a request does up to its first token."""
        state = generate.engine.prefill(generate.plan(self.query, passages))
        return generate.sampling.choose(state.logits, generate.sampling.generator())

    def sequential_ids(self, generate: GenerateCached, passages: list[Passage]) -> tuple[int, ...]:
        """Return the whole prompt, best passage last."""
        return replace(generate, mode="sequential").plan(self.query, passages).prefill

    def floor_extra_ms(self, plan: EncodingPlan, engine: Engine) -> float:
        """Return KV bytes over copy bandwidth plus attention flops over the GEMM rate."""
        config, dtype = self.loaded.model.config, self.loaded.model.dtype
        source = torch.zeros(64 << 20, dtype=torch.uint8)
        target = torch.empty_like(source)
        copy = timed(lambda: target.copy_(source), 7)["best"]
        bandwidth = source.nbytes / copy  # bytes a millisecond
        heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
        rows, cached = heads // kv_heads * len(plan.prefill), plan.cached_tokens
        dim = config.head_dim
        query = torch.randn(kv_heads, rows, dim).to(dtype)
        keys = torch.randn(kv_heads, dim, cached).to(dtype)
        out = torch.empty(kv_heads, rows, cached, dtype=dtype)
        gemm = timed(lambda: torch.bmm(query, keys, out=out), 15)["best"]
        return cached * engine.kv_bytes_per_token / bandwidth + 2 * engine.layers * gemm


def about(loaded: LoadedModel) -> dict[str, Any]:
    """Return what a reader needs to repeat the figures."""
    return {
        **machine(),
        "model": loaded.identity.name,
        "dtype": loaded.identity.dtype,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "operator": "ape, T=0.8, S=1, whole passages",
    }


def table(records: list[dict[str, Any]]) -> str:
    """Return a Markdown table of records."""
    columns = (
        ("context tokens", "context_tokens", "{:,}"),
        ("cached, RAM", "ttft_ms", "{:.0f} ms"),
        ("disk, warm", "disk_warm_ms", "{:.0f} ms"),
        ("disk, cold", "disk_cold_ms", "{:.0f} ms"),
        ("own full prefill", "own_sequential_ms", "{:,.0f} ms"),
        ("Hugging Face prefill", "hf_sequential_ms", "{:,.0f} ms"),
        ("HF ÷ cached", "ratio_hf_sequential", "{:.0f}×"),
        ("own ÷ cached", "ratio_own_sequential", "{:.0f}×"),
        ("floor", "floor_ms", "{:.0f} ms"),
        ("cached ÷ floor", "ratio_floor", "{:.2f}×"),
    )
    return markdown_table(columns, records)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--context", type=int, action="append", help="context tokens; repeatable")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--repeats", type=int, default=9, help="of the cached figures (default: 9)")
    parser.add_argument("--slow-repeats", type=int, default=2, help="of full prefills (default: 2)")
    parser.add_argument("--json", action="store_true", help="one record a line")
    args = parser.parse_args()
    loaded = load_language_model(args.model)
    setting = about(loaded)
    records = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(loaded, Path(folder))
        for tokens in args.context or CONTEXTS:
            sys.stderr.write(f"measuring {tokens} tokens …\n")
            record = bench.measure(tokens, args.repeats, args.slow_repeats) | setting
            records.append(record)
            if args.json:
                print(json.dumps(record), flush=True)
    if not args.json:
        print(f"{setting['cpu']}, {setting['threads']} threads, {setting['dtype']}, medians\n")
        print(table(records))


if __name__ == "__main__":
    main()
