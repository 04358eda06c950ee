"""Rows of the benchmark of routed retrieval: what every strategy finds for every question."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from routing_routers import CLASSIFIER, ensembles, learned_routers
from routing_vectors import FILE, KeptVectors
from universal_data import CORPORA, WHOLE, Asked, folded, read_asked

from pipelines.catalogue.corpora import corpus_search
from pipelines.evaluating.data_index import data_index
from pipelines.open_index import OpenIndex
from pruners import estimated_tokens
from rag.evaluation.router_validation import BatchRouter
from rag.files import write_atomically
from rag.models.encoder import load_encoder
from rag.ranking import Ranking
from rag.records import Passage, Query, Route
from rag.routing.corpora import CorpusRouter
from rag.routing.evidence import EvidenceRouter
from rag.routing.labelled_queries import LabelledQuery, read_labelled_queries
from rag.routing.policies import Policy
from rag.training.watching import Watcher
from retrievers.corpora.routed import RoutedRetriever
from retrievers.corpora.token_budget import within_budget
from retrievers.fusion.interleave import Interleave
from retrievers.fusion.rrf import RRF
from retrievers.hybrid import Hybrid

ROWS = "rows.jsonl"
TOP_K = 5
BUDGETS = (1024, 2048, 4096)
MERGE = "merge of all, RRF"
TOGETHER = "one index of all"
POLICIES: Mapping[str, tuple[Policy, float]] = {
    "single": ("single", 0.5),
    "unsure 0.8": ("unsure", 0.8),
    "unsure 0.9": ("unsure", 0.9),
    "top_p 0.9": ("top_p", 0.9),
}
ORACLE, DESCRIPTIONS = "oracle", "descriptions"
Rankings = Sequence[Sequence[Passage]]


@dataclass(frozen=True)
class Remembered:
    """A retriever that gives again what a corpus was found to give.

    Attributes:
        rankings: by the text of the query.
    """

    rankings: Mapping[str, Sequence[Passage]]

    def __call__(self, query: Query) -> list[Passage]:
        """Return what was found."""
        return list(self.rankings[query.text])

    def vectors(self, ids: Sequence[str]) -> Any:
        """Nobody asks for vectors here."""
        raise NotImplementedError


def ask(folder: Path, routing: Path, out: Path, *, watcher: Watcher) -> None:
    """Write a row for each question, strategy and budget.

    Args:
        folder: that `prepare` wrote.
        routing: labelled queries; those that are asked here are not learned from.
        out: folder of the rows, and of the vectors of questions.
        watcher: sees the stages.
    """
    asked = read_asked(folder)
    encoder = kept_encoder(out)
    queries = [Query(one.text) for one in asked]
    found: dict[str, Rankings] = {}
    searches = {}
    for name in (*CORPORA, WHOLE):
        index = opened(folder, name, encoder, watcher)
        hybrid = Hybrid(index.sparse, index.dense, encoder, index.passages, top_k=TOP_K)
        watcher.stage(f"searching {name}", 1)
        found[name] = hybrid.batch(query=queries)
        watcher.advance()
        if name != WHOLE:
            searches[name] = corpus_search(index)
    routes = _routes(asked, queries, routing, encoder, watcher)
    evidence = EvidenceRouter(searches, encoder)
    for name in (CLASSIFIER, "ensemble", DESCRIPTIONS):
        routes[f"{name}, evidence"] = evidence.batch(query=queries, route=routes[name])
    nothing = [Route(())] * len(asked)
    routes["evidence alone"] = evidence.batch(query=queries, route=nothing)
    lines = [
        json.dumps(row)
        for budget in BUDGETS
        for strategy, rankings, labels in _strategies(asked, queries, found, routes, budget)
        for row in _rows(asked, strategy, budget, rankings, labels)
    ]
    content = "".join(line + "\n" for line in lines).encode()
    write_atomically(out / ROWS, lambda file: file.write(content), mode=0o644)


def kept_encoder(out: Path) -> KeptVectors:
    """Return the encoder whose vectors of questions lie in a folder, which is made."""
    out.mkdir(parents=True, exist_ok=True)
    return KeptVectors(out / FILE, lambda: load_encoder("minilm"))


def opened(folder: Path, name: str, encoder: KeptVectors, watcher: Watcher) -> OpenIndex:
    """Return the index of a corpus that `prepare` wrote; it is made if it is missing."""
    made = data_index(folder / name, encoder=encoder, sentences=False, progress=watcher)
    return OpenIndex(made, encoder=encoder)


def known_queries(routing: Path, asked: Sequence[Asked]) -> list[LabelledQuery]:
    """Return the labelled queries that are none of the questions asked."""
    texts = {folded(one.text) for one in asked}
    return [one for one in read_labelled_queries(routing) if folded(one.text) not in texts]


def read_rows(out: Path) -> list[dict[str, Any]]:
    """Return the rows that `ask` wrote."""
    return [json.loads(line) for line in (out / ROWS).read_text(encoding="utf-8").splitlines()]


def _routes(
    asked: Sequence[Asked],
    queries: Sequence[Query],
    routing: Path,
    encoder: KeptVectors,
    watcher: Watcher,
) -> dict[str, list[Route]]:
    """Return where each router sends the questions, none of which it has learned from."""
    known = known_queries(routing, asked)
    routers: dict[str, Any] = {}
    for name in (DESCRIPTIONS, CLASSIFIER):
        watcher.stage(f"training {name}", 1)
        routers[name] = _trained(name, known, encoder)
        watcher.advance()
    routers["ensemble"] = ensembles(routers)["ensemble"]
    found = {name: router.batch(list(queries)) for name, router in routers.items()}
    found[ORACLE] = [Route((one.label,), {one.label: 1.0}) for one in asked]
    return found


def _trained(name: str, known: Sequence[LabelledQuery], encoder: KeptVectors) -> BatchRouter:
    return learned_routers()[name](known, encoder)


def _strategies(
    asked: Sequence[Asked],
    queries: Sequence[Query],
    found: Mapping[str, Rankings],
    routes: Mapping[str, Sequence[Route]],
    budget: int,
) -> Iterator[tuple[str, Rankings, Sequence[Sequence[str]]]]:
    """Yield name, rankings under the budget, and the corpora asked."""
    for name in CORPORA:
        yield f"{name} alone", [_cut(of, budget) for of in found[name]], [(name,)] * len(asked)
    every = [CORPORA] * len(asked)
    together = [[of[row] for of in map(found.__getitem__, CORPORA)] for row in range(len(asked))]
    for name, fuse in ((MERGE, RRF()), ("merge of all, in turn", Interleave())):
        merged = [fuse([list(one) for one in of])[:TOP_K] for of in together]
        yield name, [_cut(of, budget) for of in merged], every
    yield TOGETHER, [_cut(of, budget) for of in found[WHOLE]], every
    retrievers = {
        name: Remembered({q.text: of for q, of in zip(queries, found[name], strict=True)})
        for name in CORPORA
    }
    routed = RoutedRetriever(retrievers, estimated_tokens, tokens=budget, top_k=TOP_K)
    for router, given in routes.items():
        for policy, (kind, threshold) in POLICIES.items():
            if router == ORACLE and policy != "single":
                continue
            chosen = CorpusRouter(CORPORA, policy=kind, threshold=threshold).batch(list(given))
            rankings = routed.batch(query=queries, route=chosen)
            name = router if router == ORACLE else f"{router}, {policy}"
            yield name, rankings, [one.labels for one in chosen]


def _cut(ranking: Sequence[Passage], budget: int) -> Sequence[Passage]:
    lengths = [estimated_tokens(one.searchable) for one in ranking]
    return ranking[: within_budget([lengths], [1.0], budget)[0]]


def _rows(
    asked: Sequence[Asked],
    strategy: str,
    budget: int,
    rankings: Rankings,
    labels: Sequence[Sequence[str]],
) -> Iterator[dict[str, Any]]:
    for one, ranking, taken in zip(asked, rankings, labels, strict=True):
        ids = list(dict.fromkeys(passage.document for passage in Ranking.of(ranking)))
        yield {
            "id": one.id,
            "label": one.label,
            "strategy": strategy,
            "budget": budget,
            "R@5": float(bool(one.gold & set(ids[:5]))),
            "R@1": float(bool(one.gold & set(ids[:1]))),
            "read": float(bool(one.gold & set(ids))),
            "tokens": sum(estimated_tokens(passage.searchable) for passage in ranking),
            "corpora": list(taken),
        }
