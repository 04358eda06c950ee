"""The page on text against cached rows: from a table of values to Markdown and a picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from quality_chart import Family, chart
from quality_kv_settings import (
    BLOCK,
    FEATURES,
    GRAPH,
    NOTHING,
    ORACLE,
    PART,
    PASSAGES,
    PRUNERS,
    SERIAL,
    of_pruner,
    planned,
)
from quality_kv_summary import in_short
from quality_kv_tables import pairs_of, rows_table, timing_table, timings_of, told_pruners
from quality_settings import AGAIN, EXACT
from quality_tables import LEAST, pairs_table
from quality_values import Measured, Results, about, as_csv, pooled, read_csv

from rag.files import write_atomically

CSV, PAGE, CHART = "pruning-kv-results.csv", "pruning-kv-results.md", "pruning-kv-results.svg"
PAIRED = (FEATURES, ORACLE)
DRAWN = (NOTHING, EXACT, BLOCK, SERIAL, GRAPH, planned(50))
FAMILIES = (
    Family("whole passages", "whole", {name: name for name in DRAWN}),
    Family(
        f"what `{FEATURES}` keeps",
        "pruned",
        {name: of_pruner(FEATURES, name) for name in (*DRAWN, f"{SERIAL}, gaps")},
    ),
)


def write_page(rows: Path | None, out: Path) -> Path:
    """Write the values, if there are new ones, and the page and picture that are made from them."""
    if rows is not None:
        _write(out / CSV, as_csv(rows))
    text = (out / CSV).read_text(encoding="utf-8")
    found = read_csv(text)
    _write(out / CHART, chart({data: asked_all(one) for data, one in of_part(found)}, FAMILIES))
    _write(out / PAGE, "".join(page(found, about(text))).rstrip("\n") + "\n")
    return out / PAGE


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda file: file.write(text.encode()), mode=0o644)


def of_part(found: Results) -> list[tuple[str, Measured]]:
    """Return the values by data set, squad before hotpotqa."""
    return [
        (data, one) for (part, data), one in sorted(found.items(), reverse=True) if part == PART
    ]


def asked_all(one: Measured) -> Measured:
    """Return the questions that every setting was asked, as those of an interrupted run differ."""
    names = [name for name in one.values if one.count(name) and not name.endswith(AGAIN)]
    return one.asked(*names)


def page(found: Results, said: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Yield the parts of the page."""
    sets = {data: asked_all(one) for data, one in of_part(found)}
    sets = {data: one for data, one in sets.items() if len(one.ids) >= LEAST}
    timed = timings_of(found)
    yield TITLE
    if sets:
        whole = pooled({(PART, data): one for data, one in sets.items()}, PART)
        yield "".join(f"- {sentence}\n" for sentence in in_short(whole, sets, timed))
    yield PICTURE
    yield _how(said)
    if sets:
        together = {"all questions": whole} if len(sets) > 1 else {}
        pruners = [name for name in PRUNERS if of_pruner(name, EXACT) in whole.values]
        yield f"\n## The pruners\n\n{TOLD}\n"
        yield told_pruners(sets, pruners)
        for data, one in {**together, **sets}.items():
            yield f"\n## {data[0].upper()}{data[1:]}\n" if together else f"\n## {data}\n"
            yield f"\nWhole passages:\n\n{rows_table(one, None)}"
            for name in pruners:
                yield f"\nWhat `{name}` keeps:\n\n{rows_table(one, name)}"
        yield f"\n## What reuse costs, and how rows stand\n\n{PAIRS}\n"
        pairs = pairs_of([one for one in pruners if one in PAIRED])
        yield pairs_table({**together, **sets}, pairs, ("f1", "nll"))
    if timed:
        devices = ", ".join(f"{name}, {told}" for name, told in said.get("timing", {}).items())
        n = max(len(one.ids) for one in timed.values())
        yield f"\n## Time to the first token\n\n{TIMED.format(device=devices, n=n)}\n"
        yield timing_table(timed)


def _how(said: Mapping[str, Mapping[str, str]]) -> str:
    rows = "; ".join(f"{device} ({told} rows)" for device, told in said.get("rows", {}).items())
    return HOW.format(rows=rows, passages=PASSAGES)


TITLE = """# Text or cached rows of what a pruner keeps

## In short

"""
PICTURE = """
![F1 against the tokens computed before the first token](pruning-kv-results.svg)
"""
HOW = """
## How it was measured

    python benchmarks/quality.py prepare ../shared/data/squad ../shared/data/hotpotqa -o QUESTIONS
    python benchmarks/kv_rows.py prepare QUESTIONS ../shared/data/squad -o DIR
    python benchmarks/kv_rows.py generate DIR -o ROWS --jobs 13
    python benchmarks/kv_rows.py timing DIR -o ROWS --limit 6
    python benchmarks/kv_rows.py page ROWS -o docs

The last command makes this page from the rows that there are; only questions that all settings were
asked count. The questions are those of [generation-results.md](generation-results.md), with the
same {passages} passages: recipe `hybrid` for squad, `graph-compress` for hotpotqa.
SmolLM2-135M-Instruct (Q4_1 weights, dequantised), greedy, answers of one line and at most 24
tokens. Every value is in [pruning-kv-results.csv](pruning-kv-results.csv). Rows are from: {rows}.

- `no context`: the question alone. `sequential`: one prompt, all of it computed, best passage last.
- `block`, `ape, serial` (T = 0.8, S = 1), `into_top_1`: cached passages, as
  [generation.md](generation.md) explains; of pruned ones the rows of kept sentences, re-packed.
- gaps: the same rows at the places that they have in the whole passages.
- sentences alone: each kept sentence, and each title, was encoded by itself, behind the prefix.
- `auto`: the planner in mode `block` (`context: auto`), everything being cached. It reads rows, and
  the best passages as text as far as that adds no more than 50 or 150 ms by a fixed cost model
  (2000 tokens a second; about 100 or 300 tokens).
- F1, EM: against the accepted answers. NLL: of the first accepted answer, nats a token, lower is
  better. KL: from `sequential` over the first 8 tokens of its own answer, nats a token, reading the
  same text; that of `no context` is from the one on whole passages.
- computed: tokens that run through the model before the answer begins, all passages being cached.
- Intervals are 95 % bootstraps over questions. Differences are paired; p comes from paired
  randomisation tests (10,000) with Holm's correction over the column.
- The model has 135 million parameters and was trained for no kind of reuse; larger ones may well
  rank these ways otherwise.
"""
TOLD = """`features` stands at the threshold that keeps 95 % of the gold sentences of its validation
part, `features 98 %` at the one for 98 %, `provence` at its own, `sentences` (vectors and terms,
untrained) at 0.4; `oracle` keeps the gold sentences and one more of each passage, drawn at random:
what no pruner can know. Gold kept: of the gold sentences that were retrieved. Tokens: of the
passages that are read, as a share of whole ones.
"""
PAIRS = """From the first to the second: what reading cached rows instead of computing the same text
does, for whole passages and for pruned ones; what re-packing does; what the passage around a
sentence, seen when it was encoded, does. Below 0 is better for NLL.
"""
TIMED = """Milliseconds from passages that are retrieved and pruned to the first token, planning and
rotation included: mean over {n} questions of the least of several rounds, all settings taking turns
({device}). Passages are cached in memory, but not at their places. In brackets the share of
`sequential`, whose time is the shorter one of this engine's prefill and the stock model's;
`prefix` is the same with the shared prefix read from the cache. Pruning is not included: its own
time is the last line.
"""
