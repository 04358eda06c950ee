"""Quality of graph expansion and compression on multi-hop questions: systems, ablations, a page.

    python benchmarks/graph_quality.py ../shared/data/2wiki ../shared/data/squad -o docs

writes `graph-results.md`, which docs/graph.md refers to. Every system ranks the same questions from
the same index, and every difference is a paired one. Indexes are those of the user's cache, made
with their graph where they are missing.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import numpy as np
from retrieval_grid import shown, table

from pipelines.catalogue.graph import compress, expand
from pipelines.catalogue.retrieval import dense, hybrid, sparse
from pipelines.cli.index import LateEncoder
from pipelines.cli.terminal import progress
from pipelines.evaluating.data_index import data_index
from pipelines.open_index import OpenIndex
from rag.evaluation.comparison import Difference, difference_of
from rag.evaluation.data import Question, read_questions, sample
from rag.evaluation.retrieval import retrieval_metrics
from rag.evaluation.statistics import holm
from rag.files import write_atomically
from rag.records import Passage, Query
from retrievers.compression.compress import words_and_a_third
from retrievers.compression.coverage import Coverage
from retrievers.graph.build import build_graph
from retrievers.graph.corpus_graph import CorpusGraph
from retrievers.graph.expansion import GraphExpansion
from retrievers.graph.settings import KINDS, EdgeWeights
from retrievers.scaled_scores import scaled

METRICS = ("AllR@5", "R@5", "R@10")
POOL = 100
BUDGETS = (300, 600, 1200)
Rankings = list[list[Passage]]


@dataclass(frozen=True)
class Measured:
    """What one data set gave.

    Attributes:
        systems: every metric of every system, question by question.
        ablations: the same for each change to `graph-compress`.
        budgets: for each budget and system, whether each question had all its passages in it.
        coverage: mean coverage ratio of the first five, by system.
        questions: how many.
        seconds: of wall time.
    """

    systems: dict[str, dict[str, list[float]]]
    ablations: dict[str, dict[str, list[float]]]
    budgets: dict[int, dict[str, list[float]]]
    coverage: dict[str, float]
    questions: int
    seconds: float


class Bench:
    """One data set: its index, questions, and rankings that several systems start from."""

    def __init__(self, index: OpenIndex, questions: Sequence[Question]) -> None:
        self.index = index
        self.questions = questions
        self.queries = [Query(question.text) for question in questions]
        self.pool = self._ask(hybrid(index, top_k=POOL))
        self.expanded = self._after(expand(index, top_k=POOL), self.pool)

    def systems(self) -> Iterator[tuple[str, Rankings]]:
        """Yield each system's rankings, ten deep."""
        yield "bm25", self._ask(sparse(self.index, top_k=10))
        yield "dense", self._ask(dense(self.index, top_k=10))
        yield "hybrid", [ranking[:10] for ranking in self.pool]
        yield "prf-both", self._ask(hybrid(self.index, top_k=10, interpolation="both"))
        yield "compress", self._after(compress(self.index, top_k=10), self.pool)
        yield "graph", [ranking[:10] for ranking in self.expanded]
        yield "graph-compress", self._compressed(self.expanded)

    def ablations(self) -> Iterator[tuple[str, Rankings]]:
        """Yield what single changes to `graph-compress` give."""
        yield "as it is", self._compressed(self.expanded)
        for kind in ("mention", "phrase", "knn"):
            yield f"edges: {kind} only", self._changed(**_only(kind))
        for kind in ("mention", "phrase"):
            yield f"edges: no {kind}", self._changed(**{kind: 0.0})
        yield "edges: knn too, weight 0.1", self._changed(knn=0.1)
        yield "edges: knn too, either end", self._changed(knn=0.1, knn_symmetry="union")
        for seeds in (0, 1, 3, 5):
            yield f"seeds: {seeds} best and names", self._changed(seeds=seeds)
        for seeds in (0, 2, 3):
            yield f"seeds without a name: {seeds} best", self._changed(unnamed_seeds=seeds)
        yield "seeds: no names", self._changed(named=False)
        yield "weight: b = 0.3 always", self._changed(graph_weight=0.3)
        yield "weight: b = 0.8 always", self._changed(unnamed_weight=0.8)
        yield "walk: push", self._changed(method="push")
        yield "walk: two hops", self._changed(method="hops")
        for damping in (0.3, 0.7):
            yield f"walk: damping {damping}", self._changed(damping=damping)
        yield "corpus without titles", self._on(self._bare_graph(titles=False, lead=True))
        yield (
            "corpus without titles and terms",
            self._on(self._bare_graph(titles=False, lead=False)),
        )
        prf = self._ask(hybrid(self.index, top_k=POOL, interpolation="both"))
        yield (
            "candidates: prf-both",
            self._compressed(self._after(expand(self.index, top_k=POOL), prf)),
        )
        for name, options in {
            "compression: none": {"coverage": 0.0, "diversity": 0.0, "kind": "none"},
            "compression: coverage only": {"diversity": 0.0, "kind": "none"},
            "compression: coverage 0.3": {"coverage": 0.3},
            "compression: logdet only": {"coverage": 0.0},
            "compression: redundancy 0.05": {"kind": "redundancy", "diversity": 0.05},
            "compression: dispersion 0.05": {"kind": "dispersion", "diversity": 0.05},
            "compression: groups by title 0.3": {"kind": "groups", "groups": "title"},
        }.items():
            yield name, self._compressed(self.expanded, **options)

    def budgets(self) -> dict[int, dict[str, list[float]]]:
        """Return, for token budgets, whether all of a question's passages were within each."""
        found: dict[int, dict[str, list[float]]] = {}
        for budget in BUDGETS:
            chosen = {
                "hybrid": [_filled(ranking, budget) for ranking in self.pool],
                "compress": self._compressed(self.pool, top_k=POOL, budget_tokens=budget),
                "graph": [_filled(ranking, budget) for ranking in self.expanded],
                "graph-compress": self._compressed(self.expanded, top_k=POOL, budget_tokens=budget),
            }
            found[budget] = {name: self._complete(passages) for name, passages in chosen.items()}
        return found

    def coverage(self, systems: dict[str, Rankings]) -> dict[str, float]:
        """Return how much of the pool the first five of each system cover, C(S) / C(V)."""
        ratios: dict[str, list[float]] = {name: [] for name in systems}
        for row, pool in enumerate(self.pool):
            vectors = self.index.dense.vectors([passage.id for passage in pool])
            weights = scaled(np.array([passage.score for passage in pool]))
            coverage = Coverage(vectors.astype(np.float64), weights)
            places = {passage.id: place for place, passage in enumerate(pool)}
            for name, rankings in systems.items():
                chosen = [places[p.id] for p in rankings[row][:5] if p.id in places]
                ratios[name].append(coverage.value(chosen) / coverage.whole)
        return {name: fmean(found) for name, found in ratios.items()}

    def metrics(self, rankings: Rankings) -> dict[str, list[float]]:
        """Return each metric, question by question."""
        relevant = {q.id: dict.fromkeys(q.gold_documents, 1) for q in self.questions}
        ids = {
            question.id: [passage.document for passage in ranking]
            for question, ranking in zip(self.questions, rankings, strict=True)
        }
        found = retrieval_metrics(ids, relevant)
        return {metric: [found[q.id][metric] for q in self.questions] for metric in METRICS}

    def _complete(self, chosen: Rankings) -> list[float]:
        return [
            float(question.gold_documents <= {passage.document for passage in passages})
            for question, passages in zip(self.questions, chosen, strict=True)
        ]

    def _ask(self, retriever: Callable[..., object]) -> Rankings:
        return retriever.batch(query=self.queries)  # type: ignore[attr-defined, no-any-return]

    def _after(self, operator: Callable[..., object], rankings: Rankings) -> Rankings:
        return operator.batch(query=self.queries, passages=rankings)  # type: ignore[attr-defined, no-any-return]

    def _compressed(self, rankings: Rankings, **options: object) -> Rankings:
        return self._after(compress(self.index, **{"top_k": 10, **options}), rankings)  # type: ignore[arg-type]

    def _changed(self, **options: object) -> Rankings:
        expansion = expand(self.index, top_k=POOL, **options)  # type: ignore[arg-type]
        return self._compressed(self._after(expansion, self.pool))

    def _on(self, graph: CorpusGraph) -> Rankings:
        expansion = GraphExpansion(graph, self.index.passages, top_k=POOL)
        return self._compressed(self._after(expansion, self.pool))

    def _bare_graph(self, *, titles: bool, lead: bool) -> CorpusGraph:
        """Return the graph of the corpus as if its passages had no titles, or defined no terms."""
        passages = [
            replace(
                passage,
                title=passage.title if titles else "",
                text=passage.text if lead else f"\u2014 {passage.text}",
            )
            for passage in self.index.passages.values()
        ]
        ids = [passage.id for passage in passages]
        return build_graph(passages, self.index.dense.vectors(ids))


def _only(kind: str) -> dict[str, float]:
    weights = EdgeWeights.only(kind)
    return {one: weights.of(one) for one in KINDS}


def _filled(ranking: Sequence[Passage], budget: int) -> list[Passage]:
    """Return the best passages until one does not fit the budget."""
    found, spent = [], 0
    for passage in ranking:
        spent += words_and_a_third(passage.searchable)
        if spent > budget:
            break
        found.append(passage)
    return found


def measured(data: Path, limit: int | None) -> Measured:
    """Return what a data set gives."""
    began = time.monotonic()
    with progress() as watched:
        path = data_index(
            data, encoder=LateEncoder("minilm"), sentences=False, graph=True, progress=watched
        )
        questions = sample([q for q in read_questions(data) if q.gold_documents], limit)
        index = OpenIndex(path)
        bench = Bench(index, questions)
        rankings = dict(bench.systems())
        systems = {name: bench.metrics(found) for name, found in rankings.items()}
        ablations = {}
        for name, found in bench.ablations():
            watched.stage(f"{data.name}: {name}", 1)
            ablations[name] = bench.metrics(found)
            watched.advance()
        budgets, coverage = bench.budgets(), bench.coverage(rankings)
        index.close()
    took = time.monotonic() - began
    return Measured(systems, ablations, budgets, coverage, len(questions), took)


def systems_table(found: Measured) -> str:
    """Return the systems, with their differences from `hybrid` and from `prf-both` in R@5."""
    differences = {
        (name, other): _difference(found.systems[other]["R@5"], metrics["R@5"])
        for name, metrics in found.systems.items()
        for other in ("hybrid", "prf-both")
        if name not in ("hybrid", "prf-both")
    }
    corrected = dict(zip(differences, holm([one.p for one in differences.values()]), strict=True))
    rows = []
    for name, metrics in found.systems.items():
        cells = [
            name,
            *(shown(metrics[metric]) for metric in METRICS),
            f"{found.coverage[name]:.3f}",
        ]
        for other in ("hybrid", "prf-both"):
            if (name, other) in differences:
                cells.append(_told(differences[name, other], corrected[name, other]))
            else:
                cells.append("")
        rows.append(cells)
    header = ["", *METRICS, "coverage", "R@5 - hybrid", "R@5 - prf-both"]
    return table(header, rows)


def ablations_table(found: Measured) -> str:
    """Return the ablations with their differences from `graph-compress` as it is."""
    whole = found.ablations["as it is"]["R@5"]
    rows = []
    for name, metrics in found.ablations.items():
        means = [f"{fmean(metrics[metric]):.3f}" for metric in METRICS]
        one = _difference(whole, metrics["R@5"])
        rows.append([name, *means, "" if name == "as it is" else _told(one, one.p)])
    return table(["", *METRICS, "R@5 - as it is"], rows)


def budgets_table(found: Measured) -> str:
    """Return how many questions have all their passages within each budget."""
    names = list(next(iter(found.budgets.values())))
    rows = [
        [str(budget), *(f"{fmean(of[name]):.3f}" for name in names)]
        for budget, of in found.budgets.items()
    ]
    return table(["tokens", *names], rows)


def _difference(a: Sequence[float], b: Sequence[float]) -> Difference:
    return difference_of(list(zip(a, b, strict=True)))


def _told(one: Difference, p: float) -> str:
    return f"{one.difference:+.3f} [{one.low:+.3f}, {one.high:+.3f}], p {p:.2g}"


def page(found: dict[str, Measured], command: str) -> Iterator[str]:
    """Yield the parts of the results page."""
    yield f"""# Results of graph expansion and compression

Made by `{command}`. MiniLM (all-MiniLM-L6-v2) vectors, BM25 with k1 0.9 and b 0.4, hybrid with
λ 0.5, {POOL} candidates, no language model anywhere. AllR@5 is the share of questions with every
supporting passage in the first five. Coverage is C(S) / C(V) of the first five over the {POOL}
candidates of `hybrid`, passages outside them left out. Intervals are 95 % bootstraps over
questions; differences are paired, p of paired randomisation tests (10,000), Holm's correction over
a set's systems; p of ablations is not corrected. The defaults were chosen on these four sets.
"""
    for name, one in found.items():
        yield f"\n## {name}: {one.questions:,} questions, {one.seconds:.0f} s\n\n"
        yield systems_table(one)
        yield "\nShare of questions with every supporting passage within a budget of tokens:\n\n"
        yield budgets_table(one)
        yield "\nChanges to `graph-compress`:\n\n"
        yield ablations_table(one)


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="+", type=Path, help="folders of evaluation data")
    parser.add_argument("-o", "--out", type=Path, help="folder of the page")
    parser.add_argument("--json", action="store_true", help="print a record a system instead")
    parser.add_argument("--limit", type=int, help="questions of a set that has more: a sample")
    parser.add_argument("--jobs", type=int, default=1, help="data sets measured at a time")
    args = parser.parse_args()
    if (args.out is None) is not args.json:
        parser.error("give either --out or --json")
    command = shlex.join(["python", "benchmarks/graph_quality.py", *sys.argv[1:]])
    with ProcessPoolExecutor(args.jobs) as pool:
        results = list(pool.map(measured, args.data, [args.limit] * len(args.data)))
    found = {data.name: result for data, result in zip(args.data, results, strict=True)}
    if args.json:
        for name, one in found.items():
            for part in ("systems", "ablations"):
                for system, metrics in getattr(one, part).items():
                    means = {metric: round(fmean(metrics[metric]), 4) for metric in METRICS}
                    print(json.dumps({"data": name, "part": part, "system": system, **means}))
        return
    content = "".join(page(found, command)).encode()
    out = args.out / "graph-results.md"
    write_atomically(out, lambda file: file.write(content), mode=0o644)
    print(out)


if __name__ == "__main__":
    main()
