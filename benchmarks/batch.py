"""Eight requests at once against one by one: prefill, and decoding, on cached passages.

Two settings: all eight questions over the same five passages, and each over five of its own from a
pool of twelve. Both ways run in turns in one process and are compared in pairs; every passage is
placed before. Times are those of all eight requests: until the last has its first token, and from
there until the last of 32 tokens.

    python benchmarks/batch.py                   both settings, a table
    python benchmarks/batch.py --json            one record a setting
"""

from __future__ import annotations

import argparse
import json
import time
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from measuring import machine, markdown_table

from rag.corpus import Chunker, discover, read
from rag.generation.cached import GenerateCached
from rag.generation.decoding import Sampling
from rag.generation.engine import Engine
from rag.generation.prompt import PromptEncoder
from rag.models.language_model import load_language_model
from rag.records import Query

if TYPE_CHECKING:
    from rag.generation.plan import EncodingPlan
    from rag.models.language_model import LoadedModel
    from rag.records import Passage

REQUESTS, PASSAGES, POOL = 8, 5, 12
QUESTIONS = (
    "What happens to the name that was bound in the except clause?",
    "When is an else clause of a loop executed, and when is it not?",
    "What does the global statement do?",
    "How are default values of parameters evaluated when a function is defined?",
    "Which object does a with statement call first?",
    "What is raised if an assertion fails?",
    "Can a generator be entered again while it is running, and what happens if one tries?",
    "What does yield return?",
)


class Bench:
    """One loaded model and its plans."""

    def __init__(self, loaded: LoadedModel, tokens: int) -> None:
        engine = Engine(loaded.model, loaded.identity)
        self.generate = GenerateCached(engine, PromptEncoder(loaded.tokenizer, loaded.identity))
        self.sampling = Sampling(max_tokens=tokens)
        passages = (
            passage
            for source in discover(["python:topics"])[0]
            for document in read(source)
            for passage in Chunker()(document)
        )
        self.pool = [next(passages) for _ in range(POOL)]

    def plans(self, setting: str) -> list[EncodingPlan]:
        """Return the plans of all requests."""
        return [
            self.generate.plan(Query(question), self.chosen(setting, number))
            for number, question in enumerate(QUESTIONS)
        ]

    def chosen(self, setting: str, number: int) -> list[Passage]:
        """Return the passages of one request."""
        if setting == "same":
            return self.pool[:PASSAGES]
        return [self.pool[(number * 5 + 7 * rank) % POOL] for rank in range(PASSAGES)]

    def one_by_one(self, plans: list[EncodingPlan]) -> tuple[float, float, list[list[int]]]:
        """Return milliseconds of all prefills and of all decoding, and the tokens.

        The next request begins when the one before is answered.
        """
        engine, prefill, decode, answers = self.generate.engine, 0.0, 0.0, []
        for plan in plans:
            began = time.perf_counter()
            state = engine.prefill(plan)
            first = time.perf_counter()
            answers.append(list(engine.decode(state, self.sampling, frozenset())))
            prefill += first - began
            decode += time.perf_counter() - first
        return prefill * 1e3, decode * 1e3, answers

    def together(self, plans: list[EncodingPlan]) -> tuple[float, float, list[list[int]]]:
        """Do the same as one batch."""
        engine, answers = self.generate.engine, [[] for _ in plans]
        began = time.perf_counter()
        states = engine.prefill_batch(plans)
        first = time.perf_counter()
        for step in engine.decode_batch(states, [self.sampling] * len(plans), frozenset()):
            for row, token in step.items():
                answers[row].append(token)
        return (first - began) * 1e3, (time.perf_counter() - first) * 1e3, answers

    def measure(self, setting: str, repeats: int) -> dict[str, Any]:
        """Return one record."""
        plans = self.plans(setting)
        engine = self.generate.engine
        alone = [engine.prefill(plan).logits for plan in plans]
        batched = [state.logits for state in engine.prefill_batch(plans)]
        runs = [(self.one_by_one(plans), self.together(plans)) for _ in range(repeats + 1)][1:]
        tokens = sum(map(len, runs[0][0][2]))
        single, batch = ([run[way] for run in runs] for way in (0, 1))
        record = {
            "setting": setting,
            "requests": len(plans),
            "passages_each": PASSAGES,
            "context_tokens": sum(sum(map(len, plan.context)) for plan in plans),
            "question_tokens": sum(len(plan.prefill) for plan in plans),
            "prefill_one_by_one_ms": median(run[0] for run in single),
            "prefill_batch_ms": median(run[0] for run in batch),
            "prefill_ratio": median(a[0] / b[0] for a, b in runs),
            "decode_one_by_one_ms": median(run[1] for run in single),
            "decode_batch_ms": median(run[1] for run in batch),
            "decode_ratio": median(a[1] / b[1] for a, b in runs),
            "decode_ratio_worst": min(a[1] / b[1] for a, b in runs),
            "decode_ratio_best": max(a[1] / b[1] for a, b in runs),
            "tokens_per_s_one_by_one": tokens / median(sum(run[:2]) for run in single) * 1e3,
            "tokens_per_s_batch": tokens / median(sum(run[:2]) for run in batch) * 1e3,
            "whole_ratio": median(sum(a[:2]) / sum(b[:2]) for a, b in runs),
            "runs": repeats,
            "logit_difference": float(
                max((a - b).abs().max() for a, b in zip(alone, batched, strict=True))
            ),
            "same_answers": sum(a == b for a, b in zip(runs[0][0][2], runs[0][1][2], strict=True)),
        }
        return {k: round(v, 3) if isinstance(v, float) else v for k, v in record.items()}


def table(records: list[dict[str, Any]]) -> str:
    """Return a Markdown table of records."""
    columns = (
        ("passages", "setting", "{}"),
        ("prefill, one by one", "prefill_one_by_one_ms", "{:,.0f} ms"),
        ("batch", "prefill_batch_ms", "{:,.0f} ms"),
        ("ratio", "prefill_ratio", "{:.2f}×"),
        ("32 tokens, one by one", "decode_one_by_one_ms", "{:,.0f} ms"),
        ("batch", "decode_batch_ms", "{:,.0f} ms"),
        ("ratio", "decode_ratio", "{:.2f}×"),
        ("tokens/s, one by one", "tokens_per_s_one_by_one", "{:.0f}"),
        ("batch", "tokens_per_s_batch", "{:.0f}"),
    )
    return markdown_table(columns, records)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--tokens", type=int, default=32, help="decoded tokens (default: 32)")
    parser.add_argument("--repeats", type=int, default=5, help="pairs of runs (default: 5)")
    parser.add_argument("--setting", choices=("same", "different"), action="append")
    parser.add_argument("--json", action="store_true", help="one record a line")
    args = parser.parse_args()
    loaded = load_language_model(args.model, dtype=args.dtype)
    setting = {
        **machine(),
        "model": loaded.identity.name,
        "dtype": loaded.identity.dtype,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    bench, records = Bench(loaded, args.tokens), []
    for name in args.setting or ("same", "different"):
        record = bench.measure(name, args.repeats) | setting
        records.append(record)
        if args.json:
            print(json.dumps(record), flush=True)
    if not args.json:
        print(f"{setting['cpu']}, {setting['threads']} threads, {setting['dtype']}, medians\n")
        print(table(records))


if __name__ == "__main__":
    main()
