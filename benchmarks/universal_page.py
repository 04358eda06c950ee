"""The page of routed retrieval: statistics from rows, and from them Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from pruning_tables import gain, number, whole
from pruning_values import Value, Values, as_csv, read_csv
from retrieval_grid import table
from universal_data import CORPORA, PER_CORPUS, TUNING
from universal_rows import BUDGETS, MERGE, ORACLE, TOGETHER, read_rows

from rag.evaluation.statistics import bootstrap_interval, randomisation_p
from rag.files import write_atomically

CSV, PAGE = "universal-results.csv", "universal-results.md"
MAIN = "ensemble, evidence, top_p 0.9"
"""The strategy that the goals are held against: that of recipe `universal-ensemble`."""
METRICS = ("R@5", "R@1", "read")


def write_page(rows: Path | None, out: Path, *, resamples: int) -> Path:
    """Write the statistics, if there are new rows, and the page made from them."""
    if rows is not None:
        _write(out / CSV, as_csv(list(values(read_rows(rows), resamples=resamples))))
    found = Values(read_csv((out / CSV).read_text(encoding="utf-8")))
    _write(out / PAGE, "".join(page(found)).rstrip("\n") + "\n")
    return out / PAGE


def values(rows: Sequence[dict[str, Any]], *, resamples: int) -> Iterator[Value]:
    """Yield all statistics: `part` is the metric, `data` the budget.

    Args:
        rows: of all strategies and budgets.
        resamples: of the bootstrap.
    """
    of: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for row in rows:
        of.setdefault((row["budget"], row["strategy"]), []).append(row)
    for budget in BUDGETS:
        strategies = [name for at, name in of if at == budget]
        alone = [f"{label} alone" for label in CORPORA]
        best = max(alone, key=lambda name: fmean(row["R@5"] for row in of[budget, name]))
        for name in strategies:
            mine = of[budget, name]
            for metric in METRICS:
                yield _interval(metric, budget, name, "all", "", mine, metric, resamples)
                for other in dict.fromkeys((best, MERGE)):
                    if name != other:
                        yield from _against(metric, budget, name, other, mine, of, resamples)
            for label in CORPORA:
                some = [row for row in mine if row["label"] == label]
                yield _interval("R@5", budget, name, label, "", some, "R@5", resamples)
            for stat in ("tokens", "corpora"):
                told = [row[stat] if stat == "tokens" else len(row[stat]) for row in mine]
                mean = fmean(told)
                yield Value(stat, str(budget), name, "all", "", mean, mean, mean, len(told))
        yield Value("best", str(budget), best, "all", "", 0.0, 0.0, 0.0, 0)


def _interval(
    part: str,
    budget: int,
    name: str,
    statistic: str,
    against: str,
    rows: Sequence[dict[str, Any]],
    metric: str,
    resamples: int,
) -> Value:
    one = bootstrap_interval([row[metric] for row in rows], resamples=resamples)
    return Value(part, str(budget), name, statistic, against, one.mean, one.low, one.high, one.n)


def _against(
    metric: str,
    budget: int,
    name: str,
    other: str,
    mine: Sequence[dict[str, Any]],
    of: dict[tuple[int, str], list[dict[str, Any]]],
    resamples: int,
) -> Iterator[Value]:
    """Yield the paired difference from another strategy, and its p."""
    theirs = {row["id"]: row[metric] for row in of[budget, other]}
    gains = [row[metric] - theirs[row["id"]] for row in mine]
    one = bootstrap_interval(gains, resamples=resamples)
    told = (metric, str(budget), name)
    yield Value(*told, "all", other, one.mean, one.low, one.high, one.n)
    p = randomisation_p(gains)
    yield Value(*told, "p", other, p, p, p, one.n)


def page(found: Values) -> Iterator[str]:
    """Yield the parts of the page."""
    yield TITLE
    for budget in BUDGETS:
        yield from (f"- {sentence}\n" for sentence in _in_short(found, str(budget)))
    yield HOW.format(n=PER_CORPUS, tuning=TUNING)
    for budget in BUDGETS:
        yield f"\n## {budget:,} tokens\n\n{_table(found, str(budget))}"


def _in_short(found: Values, budget: str) -> Iterator[str]:
    best = found.scorers("best", budget)[0]
    mine = found.get("R@5", budget, MAIN, "all")
    for other in (best, MERGE):
        versus = found.get("R@5", budget, MAIN, "all", other)
        p = found.get("R@5", budget, MAIN, "p", other)
        if versus is not None and p is not None:
            met = "met" if versus.low > 0.0 else "missed"
            yield (
                f"{int(budget):,} tokens: recall@5 of `{MAIN}` {whole(mine)}, over `{other}` "
                f"{gain(versus)}, p {p.value:.2g}; goal above it: {met}."
            )
    oracle = found.get("R@5", budget, ORACLE, "all")
    together = found.get("R@5", budget, TOGETHER, "all")
    if oracle is not None and together is not None:
        yield (
            f"{int(budget):,} tokens: with the right corpus known it would be {whole(oracle)}; one "
            f"index of everything, which needs one encoder for all, gives {whole(together)}."
        )


def _table(found: Values, budget: str) -> str:
    best = found.scorers("best", budget)[0]
    rows = []
    for name in found.scorers("R@5", budget):
        versus = [found.get("R@5", budget, name, "all", other) for other in (best, MERGE)]
        told = [found.get(part, budget, name, "all") for part in ("tokens", "corpora")]
        rows.append(
            [
                f"`{name}`",
                whole(found.get("R@5", budget, name, "all")),
                *(number(found.get("R@5", budget, name, label)) for label in CORPORA),
                *map(gain, versus),
                number(found.get("R@1", budget, name, "all")),
                number(found.get("read", budget, name, "all")),
                "" if told[0] is None else f"{told[0].value:.0f}",
                "" if told[1] is None else f"{told[1].value:.2f}",
            ]
        )
    heads = ["R@5", *CORPORA, f"over `{best}`", "over the merge", "R@1", "read", "tokens"]
    return table(["", *heads, "corpora"], rows)


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda file: file.write(text.encode()), mode=0o644)


TITLE = """# Routed retrieval over several corpora

## In short

"""
HOW = """
## How it was measured

    python benchmarks/universal.py prepare DATA -o CORPORA
    python benchmarks/universal.py ask CORPORA --routing DATA/routing -o ROWS
    python benchmarks/universal.py page ROWS -o docs

The last command makes this page; every statistic is in
[universal-results.csv](universal-results.csv).

- Three corpora: `paragraph` (SQuAD's paragraphs and the passages that OTT-QA's tables link to,
  4,704), `document` (500: the supporting paragraphs of a HotpotQA question joined with those that
  stand beside them), `table` (OTT-QA's 154 tables). {n} questions of each, asked without saying
  which.
- Routers learn from the labelled queries of the data set `routing` less all that are asked here,
  compared without case and white space. The questions come from data sets that it knows, so
  style helps the routers that learn; `descriptions` learns nothing but its temperature.
- `evidence` corrects a router's probabilities by the best passage of each corpus
  (`route.evidence`); its weights were fitted on {tuning} other questions of each corpus by
  `benchmarks/universal.py fit`, with probabilities of a router that had not learned from them.
- Every corpus, and the index of everything, is asked by BM25 and vectors together, equal weights,
  five passages, and every strategy reads at most five. `merge of all, RRF` fuses the three
  rankings by rank, `in turn` takes from each in turn. A route to several corpora shares budget and
  places as `retrieve.corpora` does.
- The token budget holds for all strategies alike (1.35 tokens a word): passages are taken in order
  up to the one that does not fit, the first one always.
- R@5: the question's paragraph, document or table is among the first five passages within the
  budget. R@1: it is the first. read: it is among all that fit.
- Intervals are 95 % bootstraps over questions, differences paired, p of a paired randomisation
  test. A difference whose interval holds 0 is written as none.
"""
