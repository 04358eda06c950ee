"""The routing page: from statistics to Markdown and a picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pruning_values import as_csv, read_csv
from routing_routers import CLASSIFIER
from routing_summary import in_short
from routing_tables import (
    confusion_table,
    labels_table,
    policies_table,
    routers_table,
    sources_table,
)
from routing_values import CSV, Results, values

from pipelines.drawing.reliability import reliability_svg
from rag.evaluation.routing import BINS, ReliabilityBin
from rag.files import write_atomically

PAGE, CHART = "routing-results.md", "routing-results.svg"


def write_page(rows: Path | None, out: Path, *, resamples: int) -> Path:
    """Write the statistics, if there are new rows, and the page and picture made from them."""
    if rows is not None:
        _write(out / CSV, as_csv(list(values(rows, resamples=resamples))))
    found = Results(read_csv((out / CSV).read_text(encoding="utf-8")))
    _write(out / CHART, chart(found))
    _write(out / PAGE, "".join(page(found)).rstrip("\n") + "\n")
    return out / PAGE


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda file: file.write(text.encode()), mode=0o644)


def chart(found: Results) -> str:
    """Return the picture: right routes against the probability of the top label, by router."""
    bins = {}
    for name in found.scorers("reliability", "folds"):
        told = [
            found.get("reliability", "folds", name, low)
            for low in found.statistics("reliability", "folds", name)
        ]
        bins[name] = [
            ReliabilityBin(
                float(one.statistic), float(one.statistic) + 1 / BINS, one.n, one.low, one.value
            )
            for one in told
            if one is not None
        ]
    return reliability_svg(bins, columns=4)


def page(found: Results) -> Iterator[str]:
    """Yield the parts of the page."""
    yield TITLE
    yield "".join(f"- {sentence}\n" for sentence in in_short(found))
    yield HOW
    names = found.scorers("all", "folds")
    ensembles = [name for name in names if name.startswith("ensemble")]
    if names:
        yield f"\n## Five folds\n\n{routers_table(found, 'folds')}"
        yield f"\nWhat policies take:\n\n{policies_table(found, 'folds', [CLASSIFIER, *ensembles])}"
        yield f"\nF1 by label:\n\n{labels_table(found)}"
        yield f"\nWhere `{CLASSIFIER}` sent them:\n\n{confusion_table(found, CLASSIFIER)}"
        yield f"\nAccuracy by source:\n\n{sources_table(found, 'folds')}"
    for split, title, about in (
        ("left out", "Sources left out", LEFT_OUT),
        ("unseen", "Sources left out with their label", UNSEEN),
    ):
        if found.scorers("all", split):
            yield f"\n## {title}\n\n{about}\n{routers_table(found, split)}"
            yield f"\nBy source:\n\n{sources_table(found, split)}"
            policies = policies_table(found, split, [CLASSIFIER, *ensembles])
            yield f"\nWhat policies take:\n\n{policies}"
    if found.statistics("times", ""):
        told = {key: found.about(key) for key in ("cpu", "threads")}
        yield f"\n## Time\n\n{TIMED.format(**told)}\n"


TITLE = """# Where routers send questions

## In short

"""
HOW = """
![Right routes against the probability of the top label](routing-results.svg)

## How it was measured

    python benchmarks/routing.py route DATA/routing -o ROWS
    python benchmarks/routing.py timing DATA/routing -o ROWS
    python benchmarks/routing.py page ROWS -o docs

The last command makes this page. `route` goes on where it was stopped, router by router. Every
statistic is in [routing-results.csv](routing-results.csv).

- Each query has one label, that of the data set that it comes from: nobody labelled single queries.
  Style gives the data set away, so five-fold figures flatter every router that learns from queries;
  those of sources left out do not.
- Five-fold: each fifth is routed by what learned from the others; what a router fits besides, such
  as its temperature, it fits without that fifth too.
- `descriptions` compares the query with two or three sentences a label; labelled queries only fit
  its temperature. `prototypes` compares with the mean of a label's queries, `examples` with the
  nearest queries. `classifier` is the mean of three logistic heads, over sentence vectors, words
  and characters.
- `ensemble` asks the classifier, then descriptions where it is not sure, and where neither is,
  averages both; `ensemble of three` asks examples in between. `ensemble mean` always averages the
  three, and `ensemble majority` counts their votes.
- ECE: expected calibration error of the top probability, 15 bins. Modality: the top label has the
  right modality (paragraph and document are text, clip and video are video).
- A policy's hit: the needed label is among those taken; `none` counts as a corpus that is taken.
  `two below P`: the two most probable labels where the largest probability is below P or the router
  says that it fell back. The P of the first lines is the best of four, on the same queries.
- Intervals are 95 % bootstraps over queries, differences paired, p of a paired randomisation test.
  A difference whose interval holds 0 is written as none.
- `route.lm` is not measured here: it costs a forward pass of a language model a query.
"""
LEFT_OUT = """Each source is routed by what learned from the others, which have its label too.
"""
UNSEEN = """Each source is routed by what learned from the others, none of which has its label: what
learns from queries alone cannot give it.
"""
TIMED = """`classifier` learns from all queries once, with its five folds for calibration, and then
routes single queries whose vectors are known, on {cpu}, threads: {threads}; the first lines say how
long."""
