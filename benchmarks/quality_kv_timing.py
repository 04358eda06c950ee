"""Time to the first token with rows of what a pruner keeps, every setting side by side."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from quality_data import Asked, read_asked, vectors_by
from quality_kv_data import TIMING, feature_pruner
from quality_kv_settings import (
    MIX,
    ORACLE,
    PRUNERS,
    PRUNING,
    SIZES,
    timed_part,
)
from quality_rows import Bench, Row, _first, key_of, read_rows, say_where
from quality_settings import EXACT, Part, Setting

from rag.errors import ModelNotFoundError
from rag.generation.attention import IMPLEMENTATION
from rag.generation.plan import PlacedRows

if TYPE_CHECKING:
    from pruners import ThresholdPruner


def timing(questions: Path, out: Path, model: str, *, rounds: int, limit: int | None) -> None:
    """Time the first token of each setting with contexts of several sizes, resumably.

    All passages are cached in memory, none at its place: a time goes from passages that are
    retrieved and pruned to the first token, planning and rotation included. Settings take turns,
    and the least of a setting's times counts, as whatever else the machine does only adds to them.
    The pruner's own time stands apart; vectors of sentences are there, as in an index. Without its
    encoder on this machine it is left out, and a later call where there is one adds it.

    Args:
        questions: folder that `prepare` wrote.
        out: folder of rows.
        model: name of the language model.
        rounds: turns of each setting.
        limit: questions, if not all.
    """
    bench = Bench(model, plain=False, block=8)
    say_where(bench.device, out)
    prune = _pruner()
    asked = read_asked(questions / TIMING)[:limit]
    known = [name for name in PRUNERS if all(name in one.decisions for one in asked)]
    pruners = [name for name in known if name not in (MIX, ORACLE)]
    done = {key_of(row) for row in read_rows(out, "timing-*.jsonl")}
    for one in asked:
        for size in SIZES:
            part = timed_part(pruners, size)
            if (part.name, one.data, EXACT, one.id) in done:
                part = replace(part, settings=())
            own = None if (part.name, one.data, PRUNING, one.id) in done else prune
            rows = _times(bench, part, one, rounds, own)
            with (out / "timing-00.jsonl").open("a", encoding="utf-8") as file:
                file.write("".join(json.dumps(row) + "\n" for row in rows))


def _pruner() -> ThresholdPruner | None:
    """Return the default pruner, or None if its encoder is not on this machine."""
    from pipelines.cli.index import LateEncoder

    encoder = LateEncoder("minilm")
    try:
        encoder.encode(["a sentence"])
    except ModelNotFoundError as error:
        print(f"without {PRUNING}: {error}", flush=True)
        return None
    return feature_pruner(encoder, vectors_by(encoder))


def _times(
    bench: Bench, part: Part, asked: Asked, rounds: int, prune: ThresholdPruner | None
) -> list[Row]:
    least: dict[tuple[str, str], float] = {}

    def timed(name: str, metric: str, work: Callable[[], object]) -> None:
        began = time.perf_counter()
        work()
        taken = (time.perf_counter() - began) * 1e3
        least[name, metric] = min(taken, least.get((name, metric), taken))

    passages = asked.read(part.passages, pruned=False)
    computed: dict[str, int] = {}
    gc.collect()
    # In the first round segments are encoded, and nothing counts.
    for turn in range(rounds + 1):
        for setting in part.settings:
            _leave_places(bench)
            timed(setting.name, "ttft_ms", partial(_request, bench, part, setting, asked))
            read = bench.read(part, setting, asked)
            assert read is not None, "every setting reads every question"
            computed[setting.name] = read.plan.computed_tokens
            if setting.exact:
                timed(setting.name, "stock_ms", partial(_stock, bench, read.plan.prefill))
        if prune is not None:
            timed(PRUNING, "ttft_ms", partial(prune, asked.query, passages))
        if not turn:
            least.clear()
    rows = []
    device = f"{bench.device}, {str(bench.loaded.model.dtype).removeprefix('torch.')}"
    for name in dict.fromkeys(name for name, _ in least):
        row: Row = {"part": part.name, "data": asked.data, "setting": name, "id": asked.id}
        row |= {"gold": "", "device": device, "threads": torch.get_num_threads()}
        row |= {"computed": computed[name]} if name in computed else {}
        row |= {metric: round(ms, 2) for (of, metric), ms in least.items() if of == name}
        rows.append(row)
    print(part.name, asked.id, {row["setting"]: row["ttft_ms"] for row in rows}, flush=True)
    return rows


def _request(bench: Bench, part: Part, setting: Setting, asked: Asked) -> int:
    read = bench.read(part, setting, asked)
    assert read is not None, "every setting reads every question"
    return _first(bench, read.plan)


def _leave_places(bench: Bench) -> None:
    """Drop copies at their positions, but the prefix: another question has others there."""
    placed = bench.engine.placed
    prefix = PlacedRows(bench.generate.prompt.prefix(), 0)
    copy = placed.get(prefix)
    placed.clear()
    if copy is not None:
        placed.put(prefix, copy)


def _stock(bench: Bench, token_ids: tuple[int, ...]) -> int:
    """Prefill with the stock model and PyTorch's own attention."""
    model = bench.loaded.model
    model.set_attn_implementation("sdpa")
    try:
        with torch.inference_mode():
            ids = torch.tensor([token_ids], device=model.device)
            return int(model(ids, use_cache=True, logits_to_keep=1).logits[0, -1].argmax())
    finally:
        model.set_attn_implementation(IMPLEMENTATION)
