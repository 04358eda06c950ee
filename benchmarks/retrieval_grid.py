"""Quality of hybrid retrieval with feedback: sparse leg x mode x fusion x weight x k, a page of it.

    python benchmarks/retrieval_grid.py ../shared/data/cranfield ../shared/data/cacm -o docs

writes `retrieval-results.md`, which docs/retrieval.md refers to, and `retrieval-grid.csv` with
every cell. The parts of a configuration that others share are computed once, which makes the whole
grid a matter of minutes; a sample of cells is compared with what `Hybrid` itself returns.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache, lru_cache, partial
from pathlib import Path
from statistics import fmean

import numpy as np

from pipelines.cli.index import LateEncoder
from pipelines.cli.terminal import progress
from pipelines.evaluating.data_index import data_index
from pipelines.open_index import OpenIndex
from rag.evaluation.comparison import difference_of
from rag.evaluation.cross_validation import best_of, cross_validated
from rag.evaluation.data import Question, read_questions, sample
from rag.evaluation.retrieval import retrieval_metrics
from rag.evaluation.statistics import bootstrap_interval, holm
from rag.files import write_atomically
from rag.protocols import SparseSearch
from rag.records import Hit, Query
from retrievers.feedback.vector import VectorFeedback
from retrievers.fusion.fuse import Method, fuse
from retrievers.hybrid import Hybrid, Interpolation
from retrievers.sparse.rm3 import RM3

DEPTH = 1000
CUT = 100
LEGS = ("bm25", "rm3")
MODES: tuple[Interpolation, ...] = ("none", "dense", "pre", "post", "both")
FUSIONS: tuple[Method, ...] = ("minmax", "tm2c2", "rrf")
WEIGHTS = (0.1, 0.3, 0.5, 0.7, 0.9)
COUNTS = (1, 3, 5, 10)
ALPHAS = (0.4, 0.7)
METRICS = ("nDCG@10", "AP", "R@100")


@dataclass(frozen=True)
class Cell:
    """A configuration; fields that its mode does not use are at their reference values."""

    sparse: str = "bm25"
    mode: Interpolation = "none"
    fusion: Method = "minmax"
    weight: float = 0.5
    k: int = 3
    alpha: float = 0.7


def cells() -> list[Cell]:
    """Return every configuration of the grid once, the simplest first."""
    found = [
        Cell(sparse, mode, fusion, weight, k, alpha)
        for mode in MODES
        for sparse in LEGS
        for fusion in FUSIONS
        for weight in WEIGHTS
        for k in COUNTS
        for alpha in ALPHAS
    ]
    return list(dict.fromkeys(map(_plain, found)))


def _plain(cell: Cell) -> Cell:
    if cell.mode == "none":
        return Cell(cell.sparse, "none", cell.fusion, cell.weight)
    return Cell(mode="dense", k=cell.k, alpha=cell.alpha) if cell.mode == "dense" else cell


class Grid:
    """All rankings of one data set."""

    def __init__(self, index: OpenIndex, questions: Sequence[Question]) -> None:
        self.index = index
        self.queries = [Query(question.text) for question in questions]
        self.questions = questions
        self.vectors = index.encoder.encode_queries([query.text for query in self.queries])
        self.legs: dict[str, SparseSearch] = {"bm25": index.sparse}
        self.legs["rm3"] = RM3(index.term_index)
        self.sparse = {
            name: leg.search_batch(self.queries, DEPTH) for name, leg in self.legs.items()
        }
        self.first = index.dense.search_vectors(self.vectors, DEPTH)
        self.fused = lru_cache(1)(self._fused)
        self.after = lru_cache(1)(self._after)
        self.after_dense = cache(partial(self._after, None))

    def rankings(self, cell: Cell) -> list[list[Hit]]:
        """Return the ranking of each question."""
        if cell.mode == "none":
            return self.fused(cell.sparse, cell.fusion, cell.weight)
        mixed = cell.mode in ("pre", "both")
        if mixed:
            source = (cell.sparse, cell.fusion, cell.weight)
            dense = self.after(source, cell.k, cell.alpha)
        else:
            dense = self.after_dense(cell.k, cell.alpha)
        if cell.mode in ("dense", "pre"):
            return dense
        return self._mixed(cell.sparse, cell.fusion, cell.weight, dense)

    def _fused(self, sparse: str, fusion: Method, weight: float) -> list[list[Hit]]:
        return self._mixed(sparse, fusion, weight, self.first)

    def _after(
        self, source: tuple[str, Method, float] | None, k: int, alpha: float
    ) -> list[list[Hit]]:
        """Return the dense rankings after feedback from a fused ranking, or the dense one."""
        rankings = self.first if source is None else self.fused(*source)
        dense = self.index.dense
        feedback = _feedback(k, alpha)
        moved = [
            feedback.refine(vector, ranking, dense.vectors, dense.__contains__)
            for vector, ranking in zip(self.vectors, rankings, strict=True)
        ]
        return dense.search_vectors(np.stack(moved), DEPTH)

    def _mixed(
        self, sparse: str, fusion: Method, weight: float, dense: Sequence[list[Hit]]
    ) -> list[list[Hit]]:
        return [
            fuse(pair, (weight, 1.0 - weight), method=fusion, minima=(0.0, -1.0))
            for pair in zip(self.sparse[sparse], dense, strict=True)
        ]

    def check(self, cell: Cell) -> None:
        """Compare a cell with what `Hybrid` returns.

        Raises:
            AssertionError: if one ranking differs.
        """
        hybrid = Hybrid(
            self.legs[cell.sparse],
            self.index.dense,
            self.index.encoder,
            self.index.passages,
            interpolation=cell.mode,
            sparse_weight=cell.weight,
            fusion=cell.fusion,
            feedback=_feedback(cell.k, cell.alpha),
            depth=DEPTH,
        )
        few = self.queries[:10]
        mine = [[hit.id for hit in hits[:CUT]] for hits in self.rankings(cell)[:10]]
        theirs = [[hit.id for hit in hits[:CUT]] for hits in hybrid.hits(few)]
        if mine != theirs:
            raise AssertionError(f"{cell} is not what Hybrid returns")


def _feedback(k: int, alpha: float) -> VectorFeedback:
    return VectorFeedback(k=k, alpha=alpha, beta=round(1.0 - alpha, 1))


Values = dict[Cell, dict[str, list[float]]]


def measured(data: Path, limit: int | None) -> tuple[Values, int, float]:
    """Return every metric of every cell, question by question, their number, and the seconds."""
    began = time.monotonic()
    encoder = LateEncoder("minilm")
    with progress() as watched:
        path = data_index(data, encoder=encoder, sentences=False, progress=watched)
        judged = [q for q in read_questions(data) if max(q.relevant.values(), default=0) > 0]
        questions = sample(judged, limit)
        index = OpenIndex(path)
        grid = Grid(index, questions)
        for cell in (Cell(), Cell(mode="pre"), Cell("rm3", "both", "rrf", 0.3, 5, 0.4)):
            grid.check(cell)
        relevant = {q.id: q.relevant for q in questions}
        found: Values = {}
        watched.stage(data.name, len(cells()))
        # Cells that share rankings stand together, so that few need be kept.
        for cell in sorted(cells(), key=lambda c: (c.sparse, c.fusion, c.weight, c.k, c.alpha)):
            rankings = {
                question.id: [hit.id for hit in hits[:CUT]]
                for question, hits in zip(questions, grid.rankings(cell), strict=True)
            }
            metrics = retrieval_metrics(rankings, relevant)
            found[cell] = {m: [metrics[q.id][m] for q in questions] for m in METRICS}
            watched.advance()
        index.close()
    found = {cell: found[cell] for cell in cells()}
    return found, len(questions), time.monotonic() - began


def shown(values: Sequence[float]) -> str:
    """Return a mean with its 95 % interval."""
    interval = bootstrap_interval(values)
    return f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose first column is text."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def modes_table(values: Values) -> str:
    """Return the modes at the reference settings, against no feedback."""
    base = values[Cell()]["nDCG@10"]
    rows, tests = [], []
    for mode in MODES:
        of_mode = values[_plain(Cell(mode=mode))]
        cells_ = [f"`{mode}`", *(shown(of_mode[metric]) for metric in METRICS)]
        tests.append(difference_of(list(zip(base, of_mode["nDCG@10"], strict=True))))
        rows.append(cells_)
    corrected = holm([test.p for test in tests[1:]])
    for row, test, p in zip(rows[1:], tests[1:], corrected, strict=True):
        row += [
            f"{test.difference:+.3f} [{test.low:+.3f}, {test.high:+.3f}]",
            f"{test.p_t:.2g}",
            f"{test.p:.2g}",
            f"{p:.2g}",
            f"{test.robustness:+.2f}",
        ]
    rows[0] += [""] * 5
    header = ("mode", *METRICS, "nDCG@10 over none", "p (t)", "p (rand.)", "p (Holm)", "robustness")
    return table(header, rows)


def sweep_table(values: Values) -> str:
    """Return nDCG@10 of BM25, min-max and k = 3 by mode and weight."""
    rows = []
    sweep: tuple[Interpolation, ...] = ("none", "pre", "post", "both")
    for mode in sweep:
        means = [fmean(values[Cell(mode=mode, weight=w)]["nDCG@10"]) for w in WEIGHTS]
        rows.append((f"`{mode}`", *(f"{mean:.3f}" for mean in means)))
    return table(("mode", *(f"λ = {w}" for w in WEIGHTS)), rows)


def best_table(values: Values, by: str) -> str:
    """Return the best cell for each value of a field; chosen on the questions it is shown for."""
    groups: dict[object, list[Cell]] = {}
    for cell in values:
        if cell.mode != "dense":
            groups.setdefault(getattr(cell, by), []).append(cell)
    rows = []
    for name, of_group in groups.items():
        best = max(of_group, key=lambda cell: fmean(values[cell]["nDCG@10"]))
        rows.append((f"`{name}`", _called(best), shown(values[best]["nDCG@10"])))
    return table((by, "best cell", "nDCG@10 (fitted)"), rows)


def tuned_table(values: Values, questions: int) -> str:
    """Return what tuning is worth on questions left out, by the modes that it may choose from."""
    ids = [f"q{row}" for row in range(questions)]
    base = values[Cell()]["nDCG@10"]

    def score(cell: Cell) -> Sequence[float]:
        return values[cell]["nDCG@10"]

    rows = []
    for name, modes in (
        ("no feedback", {"none"}),
        *((f"`{mode}`", {mode}) for mode in ("pre", "post", "both")),
        ("any mode", set(MODES)),
    ):
        allowed = [cell for cell in values if cell.mode in modes]

        def choose(rows_: Sequence[int], allowed: list[Cell] = allowed) -> Cell:
            return best_of(allowed, score, rows_)

        tuned = cross_validated(ids, choose, score)
        test = difference_of(list(zip(base, tuned.held_out, strict=True)))
        rows.append(
            (
                name,
                shown(tuned.held_out),
                f"{test.difference:+.3f} [{test.low:+.3f}, {test.high:+.3f}]",
                f"{test.p:.2g}",
                _called(tuned.chosen),
            )
        )
    header = ("choice among", "nDCG@10, left out", "over none at λ = 0.5", "p", "chosen by all")
    return table(header, rows)


def _called(cell: Cell) -> str:
    if cell.mode == "dense":
        return f"`dense`, k {cell.k}, α {cell.alpha}"
    k = "" if cell.mode == "none" else f", k {cell.k}, α {cell.alpha}"
    return f"{cell.sparse}, `{cell.mode}`, {cell.fusion}, λ {cell.weight}{k}"


def page(found: dict[str, tuple[Values, int, float]], command: str) -> Iterator[str]:
    """Yield the parts of the results page."""
    yield f"""# Retrieval results

Made by `{command}`; every cell is in [retrieval-grid.csv](retrieval-grid.csv). MiniLM
(all-MiniLM-L6-v2) vectors; BM25 with k1 0.9 and b 0.4; RM3 with its defaults; β is 1 - α; each leg
{DEPTH:,} deep, rankings judged to {CUT}. λ is the sparse leg's weight, in the ranking that gives
feedback as in the final one. Intervals are 95 % bootstraps over questions; p of paired t-tests and
paired randomisation tests, Holm's correction over the modes; robustness is the share of questions
helped minus the share hurt.

"Left out" figures come from nested five-fold cross-validation; cells
called "fitted" were chosen on the very questions they are shown for and are too good to be true.
"""
    for name, (values, questions, seconds) in found.items():
        yield f"\n## {name}: {questions} questions, {len(values)} cells, {seconds:.0f} s\n"
        yield "\nThe modes at the reference settings (BM25, min-max, λ 0.5, k 3, α 0.7):\n\n"
        yield modes_table(values)
        yield "\nnDCG@10 by weight (BM25, min-max, k 3, α 0.7):\n\n"
        yield sweep_table(values)
        yield "\nTuned, judged on questions left out:\n\n"
        yield tuned_table(values, questions)
        for by in ("sparse", "fusion", "k", "alpha"):
            yield f"\nThe best cell by {by}:\n\n"
            yield best_table(values, by)


def grid_csv(found: dict[str, tuple[Values, int, float]]) -> str:
    """Return every cell with its means and the interval of nDCG@10."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        [
            "data",
            "sparse",
            "mode",
            "fusion",
            "weight",
            "k",
            "alpha",
            *METRICS,
            "nDCG@10 low",
            "nDCG@10 high",
        ]
    )
    for name, (values, _, _) in found.items():
        for cell, metrics in values.items():
            interval = bootstrap_interval(metrics["nDCG@10"], resamples=2000)
            means = [f"{fmean(metrics[metric]):.4f}" for metric in METRICS]
            ends = [f"{interval.low:.4f}", f"{interval.high:.4f}"]
            setting = [cell.sparse, cell.mode, cell.fusion, cell.weight, cell.k, cell.alpha]
            writer.writerow([name, *setting, *means, *ends])
    return text.getvalue()


def main() -> None:
    """Measure the grid and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="+", type=Path, help="folders of evaluation data")
    parser.add_argument("-o", "--out", type=Path, help="folder of the page")
    parser.add_argument("--json", action="store_true", help="print a record a cell instead")
    parser.add_argument("--limit", type=int, help="questions of a set that has more: a sample")
    parser.add_argument("--jobs", type=int, default=1, help="data sets measured at a time")
    args = parser.parse_args()
    if (args.out is None) is not args.json:
        parser.error("give either --out or --json")
    command = shlex.join(["python", "benchmarks/retrieval_grid.py", *sys.argv[1:]])
    with ProcessPoolExecutor(args.jobs) as pool:
        results = list(pool.map(measured, args.data, [args.limit] * len(args.data)))
    found = {data.name: result for data, result in zip(args.data, results, strict=True)}
    if args.json:
        for name, (values, questions, _) in found.items():
            for cell, metrics in values.items():
                means = {metric: round(fmean(metrics[metric]), 4) for metric in METRICS}
                print(json.dumps({"data": name, "questions": questions, **asdict(cell), **means}))
        return
    for name, text in (
        ("retrieval-results.md", "".join(page(found, command))),
        ("retrieval-grid.csv", grid_csv(found)),
    ):
        content = text.encode()
        write_atomically(args.out / name, lambda file, c=content: file.write(c), mode=0o644)
        print(args.out / name)


if __name__ == "__main__":
    main()
