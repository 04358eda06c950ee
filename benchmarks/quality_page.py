"""The quality page: from a table of values to Markdown and a picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean

from quality_chart import chart
from quality_settings import AGAIN, EXACT
from quality_summary import in_short
from quality_tables import (
    IN_PLACE,
    PRUNED,
    SERIAL,
    answers_table,
    fidelity_table,
    first_token_ms,
    grid_tables,
    pairs_table,
    places_table,
    pooled_table,
    settings_of,
    targets_table,
    timing_table,
)
from quality_values import Measured, Results, about, as_csv, joined, pooled, read_csv

from rag.files import write_atomically

CSV, PAGE, CHART = "generation-results.csv", "generation-results.md", "generation-results.svg"
TITLES = {
    "grid": "the grid",
    "five": "5 passages",
    "ten": "10 passages",
    "repairs": "repairs and edges",
    "places": "places",
}
REPAIRED = ("ape", "ape, serial", "block")


def write_page(rows: Path | None, out: Path) -> Path:
    """Write the values, if there are new ones, and the page and picture that are made from them."""
    if rows is not None:
        _write(out / CSV, as_csv(rows))
    text = (out / CSV).read_text(encoding="utf-8")
    found = read_csv(text)
    _write(out / CHART, chart(_of_part(found, "five")))
    _write(out / PAGE, "".join(page(found, about(text))).rstrip("\n") + "\n")
    return out / PAGE


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda file: file.write(text.encode()), mode=0o644)


def _of_part(found: Results, part: str) -> dict[str, Measured]:
    """Return a part's values by data set, squad before hotpotqa."""
    return {data: one for (name, data), one in sorted(found.items(), reverse=True) if name == part}


def page(found: Results, said: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Yield the parts of the page."""
    five, ten = _of_part(found, "five"), _of_part(found, "ten")
    repairs = {
        data: joined(one, five[data])
        for data, one in _of_part(found, "repairs").items()
        if data in five
    }
    yield TITLE
    yield "".join(f"- {sentence}\n" for sentence in in_short(found))
    yield PICTURE
    yield _how(found, said)
    if five:
        yield f"\n## All questions together, 5 passages\n\n{POOLED}\n"
        yield from _pooled(pooled(found, "five"))
    for data, one in five.items():
        yield from _of_set(data, one)
    for data, one in ten.items():
        yield f"\n## {data}: 10 passages\n\n"
        yield answers_table(one, settings_of(one), EXACT)
    if five:
        yield f"\n## How many targets\n\n{TARGETS}"
        for data, one in five.items():
            yield f"\n{data}:\n\n{targets_table(one)}"
    if five:
        yield f"\n## What pruning changes\n\n{PRUNING}\n"
        yield pairs_table(five, (*PRUNED, *IN_PLACE), ("f1", "nll"))
        yield f"\n## Positions\n\n{POSITIONS}\n"
        both = {data: joined(one, repairs.get(data, one)) for data, one in five.items()}
        yield pairs_table(both, SERIAL, ("f1", "nll", "kl"))
    if repairs:
        yield from _repairs(repairs)
    if places := _of_part(found, "places"):
        yield from _places(places)
    if any(part == "grid" for part, _ in found):
        yield f"\n## APE's weights\n\n{GRID}\n"
        yield from grid_tables(pooled(found, "grid"))
    yield from _timing({5: five, 10: ten}, said.get("timing", {}))


def _how(found: Results, said: Mapping[str, Mapping[str, str]]) -> str:
    rows = _where(found, said["rows"])
    chosen = []
    for metric, values in said.get("calibrated", {}).items():
        t, s, b = values.split(" ")
        chosen.append(f"`least {metric.upper()}` has T = {t}, S = {s}, b = {b}")
    return HOW.format(rows=rows, again=_again(found), chosen=" and ".join(chosen))


def _where(found: Results, devices: Mapping[str, str]) -> str:
    """Return which device gave what: all rows of the first one, and the settings of the others."""
    names = list(devices)
    first = f"Rows are from: {names[0]} ({devices[names[0]]} rows)."
    told = []
    for place, device in enumerate(names[1:], 1):
        parts = []
        for part, title in TITLES.items():
            of_part = [one for (name, _), one in found.items() if name == part]
            known = {name for one in of_part for name in one.values if not name.endswith(AGAIN)}
            here = {name for name in known for one in of_part if place in one.raw(name, "device")}
            if here:
                listed = ", ".join(f"`{name}`" for name in sorted(here))
                parts.append(f"{title}: {'every setting' if here == known else listed}")
        told.append(
            f"Others, of the settings that follow, are from: {device} ({devices[device]} rows);"
            f" {'; '.join(parts)}."
        )
    return " ".join([first, *told])


def _again(found: Results) -> str:
    """Return how far two runs are apart in the exact mode, on two devices or on one."""
    if not _of_part(found, "five"):
        return ""
    one = pooled(found, "five")
    repeated = f"{EXACT}, {AGAIN}"
    here = one.asked(EXACT, repeated)
    if not here.ids:
        return ""
    f1, nll = (
        [a - b for a, b in zip(here.of(repeated, metric), here.of(EXACT, metric), strict=True)]
        for metric in ("f1", "nll")
    )
    apart, mean = fmean(map(abs, nll)), fmean(nll)
    moved = here.of(EXACT, "device") != here.of(repeated, "device")
    return (
        f" `{EXACT}` was asked {len(nll)} questions of the first table"
        f" {'on both devices' if moved else 'twice, in batches of other questions'}: F1 differs"
        f" in {sum(map(bool, f1))} of them, NLL by {apart:.3f} on average and by {mean:+.3f} in its"
        f" mean. So much comes from rounding{' and library versions' if moved else ''} alone."
    )


def _pooled(one: Measured) -> Iterator[str]:
    whole = [name for name in settings_of(one) if ", pruned" not in name]
    pruned = [name for name in settings_of(one) if ", pruned" in name]
    yield pooled_table(one, whole, EXACT, "ape")
    if pruned:
        yield "\nOnly the sentences that the pruner keeps:\n\n"
        yield pooled_table(one, pruned, f"{EXACT}, pruned", "ape, pruned")


def _of_set(data: str, one: Measured) -> Iterator[str]:
    whole = [name for name in settings_of(one) if ", pruned" not in name]
    pruned = [name for name in settings_of(one) if ", pruned" in name]
    yield f"\n## {data}: 5 passages\n\n"
    yield answers_table(one, whole, EXACT)
    if pruned:
        yield "\nOnly the sentences that the pruner keeps:\n\n"
        yield answers_table(one, pruned, f"{EXACT}, pruned")


def _repairs(sets: Mapping[str, Measured]) -> Iterator[str]:
    everything = list(dict.fromkeys(name for one in sets.values() for name in one.values))
    mine = [name for name in everything if not name.endswith(AGAIN) and ", pruned" not in name]
    families: dict[str, list[str]] = {name: [name] for name in REPAIRED}
    for name in mine:
        home = next((one for one in reversed(REPAIRED[:2]) if name.startswith(f"{one},")), None)
        home = "block" if name.startswith("block,") else home
        if home and name not in REPAIRED and "least" not in name and "paper" not in name:
            families[home].append(name)
    yield f"\n## Repairs\n\n{REPAIRS}\n"
    yield fidelity_table(sets, [EXACT, *(name for of in families.values() for name in of)])
    edges = [name for name in mine if not name.startswith(("ape", "block", "parallel", EXACT))]
    targets = [name for name in edges if name.startswith("into_top")]
    order = [*sorted(targets, key=lambda name: ("," in name, name)), *edges]
    order = [EXACT, "parallel", *dict.fromkeys(order)]
    yield f"\n## Edges\n\n{EDGES}\n"
    yield fidelity_table(sets, order)


def _places(places: Mapping[str, Measured]) -> Iterator[str]:
    tables = {data: places_table(one) for data, one in places.items()}
    if any(tables.values()):
        yield f"\n## Where the gold passages stand\n\n{PLACED}"
        for data, rows in tables.items():
            if rows:
                yield f"\n{data}:\n\n{rows}"


def _timing(parts: Mapping[int, Mapping[str, Measured]], where: Mapping[str, str]) -> Iterator[str]:
    timed = {
        f"{data}, {count} passages": one
        for count, sets in parts.items()
        for data, one in sets.items()
        if first_token_ms(one, EXACT) is not None
    }
    if timed:
        device = ", ".join(f"{device}, {told}" for device, told in where.items())
        n = max(len(one.of(EXACT, "ttft_ms")) for one in timed.values())
        yield f"\n## Time to the first token\n\n{TIMED.format(device=device, n=n)}\n"
        yield timing_table(timed)


TITLE = """# What each way to read cached passages is worth

## In short

"""
PICTURE = """
![F1 against the tokens computed before the first token](generation-results.svg)
"""
HOW = """
## How it was measured

    python benchmarks/quality.py prepare ../shared/data/squad ../shared/data/hotpotqa -o DIR
    python benchmarks/quality.py generate DIR -o ROWS --jobs 12 --masses
    python benchmarks/quality.py timing DIR -o ROWS --limit 20
    python benchmarks/quality.py page ROWS -o docs

The last command makes this page. `generate` goes on where it was stopped, on another device too;
`--part` and `--limit` choose what is done. SmolLM2-135M-Instruct (Q4_1 weights, dequantised) in
bfloat16, greedy, answers of one line and at most 24 tokens. Passages are those that recipe `hybrid`
retrieves for squad and `graph-compress` for hotpotqa. Every value is in
[generation-results.csv](generation-results.csv); [generation.md](generation.md) explains the modes.

{rows}

A difference is taken from an exact answer of the same device where there is one.{again}

- `n`: questions that a setting was asked. Means of rows with another n are over other questions;
  differences are always over the questions that both have.
- `sequential`: one prompt with the best passage last, next to the question.
- EM, F1, Contains: of the answer against the accepted ones. NLL: of the first accepted answer, nats
  a token, lower is better. KL: from `sequential` over the first 8 tokens of its own answer, nats a
  token, reading the same text; that of `sequential` itself is what rounding does between two ways
  to compute the same thing.
- computed: tokens that run through the model before the first one of the answer, all passages being
  cached; in later tables as a share of those of `sequential`.
- Intervals are 95 % bootstraps over questions. Differences are paired; p comes from paired
  randomisation tests (10,000) with Holm's correction over the column.
- `ape` has T = 0.8, S = 1, b = 0; paper's weights are T = 0.9, S = 0.9. The best cells of the grid
  below, which was measured on other questions: {chosen}.
- serial: passages stand one after another, and the question after them, as in one prompt; else
  all start at the same position.
- pruned: rows of sentences that score below 0.4 are left out; the rest is re-packed, or left in
  place.
- `into_top_k`: the k best passages are computed anew over all others (mode `graph`).
- The papers' own numbers are for models about sixty times as large, some of them fine-tuned.
"""
POOLED = """Best F1 first, below the exact mode. Settings with a smaller n stand where their own
mean puts them; what counts is their difference.
"""
TARGETS = """Differences are from the row above. Questions are grouped by the rank of the last gold
passage among the five; where a question has several, those that were not found do not count.
"""
PRUNING = """From whole passages to kept sentences, re-packed, and from re-packed ones to the same
rows left where they were.
"""
POSITIONS = """From shared to serial positions, with nothing else changed: `parallel` and `block`
differ in positions alone. Below 0 is better for NLL and KL.
"""
REPAIRS = """Rows computed anew see everything before them. `first k` are the first k of each
passage but the first (LegoLink); a share of rows is those that differ most from what is cached, by
value or by key (CacheBlend); `passages twice` reads all of them once more before the question.
"""
EDGES = """Edges lead from the passages that are seen to those that are computed anew over them.
`from_top_m`: all others see the best m. `full`: each sees all others. `chain`: each sees the worse
ones. `corpus`: edges of the corpus graph, on the questions whose passages have any. `cached one
too`: the question sees the target's cached rows beside the new ones; `sees itself`: so does the
target.
"""
PLACED = """The same five passages with the gold ones at another place of the prompt; `last` is next
to the question. For a mode without an order between passages only rounding can differ, and the
device, as one place can be from another device than the next.
"""
GRID = """Mean over all data sets, 5 passages, on questions that are reported nowhere else. T
divides the logits of the passages, S scales and b shifts their weight against everything else.
"""
TIMED = """Mean over {n} questions of the median of 3, with all passages cached in memory
({device}); in brackets the share of the exact mode's on the same text. The time of the exact mode
is the shorter one of this engine's prefill and the stock model's.
"""
