"""Retrieval: sparse search, adding passages, feedback, dense indexes, side by side in one run.

Texts are the sentences and passages of a folder of evaluation data sets, drawn with a seed. Every
engine gets the same terms or vectors, one thread each; results are compared after they are timed.

    OMP_NUM_THREADS=1 python benchmarks/retrieval.py ../shared/data
    OMP_NUM_THREADS=1 python benchmarks/retrieval.py ../shared/data --json --only sparse,add

Vectors are those of the data sets' indexes in the user's cache, which `dovetail eval` makes;
missing ones are made first.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from measuring import machine, milliseconds, times

from pipelines.cli.index import LateEncoder
from pipelines.cli.terminal import progress
from pipelines.evaluating.data_index import data_index
from pipelines.index_folder import open_index
from rag.evaluation.data import has_corpus, read_corpus, read_questions, sample
from rag.models.encoder import load_encoder
from rag.text.analyser import Analyser
from retrievers.dense.hnsw import HNSW
from retrievers.dense.index import DenseIndex
from retrievers.dense.ivfpq import IVFPQ
from retrievers.feedback.vector import VectorFeedback
from retrievers.sparse.index import SparseIndex
from retrievers.sparse.weighting import BM25

PASSAGES = 100_000
ADDED = 1_000
QUERIES = 200
TOP_K = 100
SECTIONS = ("sparse", "add", "feedback", "dense")


def resident_mb() -> float:
    """Return the memory of this process in megabytes."""
    with Path("/proc/self/statm").open() as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def data_sets(folder: Path) -> list[Path]:
    """Return the data sets with a corpus and questions below a folder, by name."""
    found = [p for p in sorted(folder.iterdir()) if p.is_dir() and has_corpus(p)]
    return [p for p in found if any(p.glob("queries.jsonl*"))]


def drawn_texts(folder: Path, seed: int) -> tuple[list[str], list[list[str]]]:
    """Return 101,000 sentences drawn from all data sets, and the terms of questions."""
    analyser = Analyser()
    rng = random.Random(seed)  # noqa: S311 (a sample, no secret)
    sentences = [
        span.of(passage.text).strip()
        for data in data_sets(folder)
        for passage in read_corpus(data)
        for span in passage.sentences
    ]
    # There may be fewer sentences than passages wanted: some are then two that were drawn.
    short = max(0, PASSAGES + ADDED - len(sentences))
    joined = [" ".join(rng.sample(sentences, 2)) for _ in range(short)]
    texts = [*rng.sample(sentences, min(len(sentences), PASSAGES + ADDED)), *joined]
    asked = [q.text for data in data_sets(folder) for q in sample(read_questions(data), 40, seed)]
    questions = rng.sample(asked, min(QUERIES, len(asked)))
    return texts, [found for text in questions if (found := analyser.query_terms(text))]


def weights(terms: Sequence[str]) -> dict[str, float]:
    """Return how often each term is asked for."""
    return {term: float(terms.count(term)) for term in terms}


def sparse(folder: Path, seed: int) -> Iterator[dict[str, Any]]:
    """Yield the cost of a query on 100,000 passages, ours and others."""
    import bm25s
    from rank_bm25 import BM25Okapi

    drawn, queries = drawn_texts(folder, seed)
    analyser = Analyser()
    texts = [analyser.terms(text) for text in drawn[:PASSAGES]]
    gc.collect()
    gc.freeze()  # the texts of the benchmark itself are nothing to look through for garbage
    ids = [f"p{row:06}" for row in range(PASSAGES)]
    shape = {
        "passages": PASSAGES,
        "terms_a_passage": round(statistics.fmean(map(len, texts)), 1),
        "queries": len(queries),
        "terms_a_query": round(statistics.fmean(map(len, queries)), 1),
        "top_k": TOP_K,
    }
    before = resident_mb()
    index = SparseIndex(BM25(variant="okapi", k1=1.5, b=0.75))
    build = milliseconds(lambda: index.add_terms(ids, texts))
    index.search_terms(weights(queries[0]), TOP_K)
    ours_mb = resident_mb() - before
    for query in queries:  # both sides warm
        index.search_terms(weights(query), TOP_K)
    cold = index.with_weighting(BM25(variant="okapi", k1=1.5, b=0.75))
    first = times([lambda q=q: cold.search_terms(weights(q), TOP_K) for q in queries])
    ours = times([lambda q=q: index.search_terms(weights(q), TOP_K) for q in queries])
    yield (
        {
            "engine": f"SparseIndex, {index.weighting}",
            "build_ms": round(build),
            "memory_mb": round(ours_mb),
        }
        | shape
        | {
            **ours,
            "first_time_median_ms": first["median_ms"],
        }
    )
    before = resident_mb()
    tokens = bm25s.tokenization.Tokenized(*_vocabulary(texts))
    retriever = bm25s.BM25(method="atire", idf_method="robertson", k1=1.5, b=0.75, backend="numpy")
    build = milliseconds(lambda: retriever.index(tokens, show_progress=False))

    def by_bm25s(terms: Sequence[str]) -> np.ndarray:
        known = [term for term in terms if term in tokens.vocab]
        found = retriever.get_scores(known)
        best = np.argpartition(-found, TOP_K)[:TOP_K]
        return best[np.argsort(-found[best])]

    def retrieved(terms: Sequence[str]) -> object:
        known = [term for term in terms if term in tokens.vocab]
        return retriever.retrieve([known], k=TOP_K, show_progress=False, backend_selection="numpy")

    memory = round(resident_mb() - before)
    for way, search in (
        ("retrieve, as its users call it", retrieved),
        ("score array and argpartition by hand: rows, no ids", by_bm25s),
    ):
        other = times([partial(search, q) for q in queries])
        yield {
            "engine": f"bm25s {bm25s.__version__} numpy: {way}",
            "build_ms": round(build),
            "memory_mb": memory,
            **shape,
            **other,
            "ratio_to_ours": round(other["median_ms"] / ours["median_ms"], 1),
            "ratio_to_ours_first_time": round(other["median_ms"] / first["median_ms"], 1),
        }
    before = resident_mb()
    okapi = BM25Okapi(texts)

    def by_rank_bm25(terms: Sequence[str]) -> np.ndarray:
        found = okapi.get_scores(terms)
        best = np.argpartition(-found, TOP_K)[:TOP_K]
        return best[np.argsort(-found[best])]

    slow = times([lambda q=q: by_rank_bm25(q) for q in queries[:20]])
    worst = 0.0
    for query in queries[:20]:
        hits = index.search_terms(weights(query), TOP_K)
        truth = np.sort(okapi.get_scores(query))[::-1][: len(hits)]
        mine = np.array([hit.score for hit in hits])
        worst = max(worst, float(np.max(np.abs(mine - truth) / np.maximum(np.abs(truth), 1e-12))))
    yield (
        {"engine": "rank-bm25 BM25Okapi"}
        | shape
        | slow
        | {
            "memory_mb": round(resident_mb() - before),
            "ratio_to_ours": round(slow["median_ms"] / ours["median_ms"], 1),
            "ratio_to_ours_first_time": round(slow["median_ms"] / first["median_ms"], 1),
            "largest_relative_difference": worst,
        }
    )


def _vocabulary(texts: Sequence[Sequence[str]]) -> tuple[list[list[int]], dict[str, int]]:
    vocabulary: dict[str, int] = {}
    rows = [[vocabulary.setdefault(t, len(vocabulary)) for t in terms] for terms in texts]
    return rows, vocabulary


def add(folder: Path, seed: int) -> Iterator[dict[str, Any]]:
    """Yield what adding 1,000 passages to 100,000 costs, until the first answer, and a rebuild."""
    texts, queries = drawn_texts(folder, seed)
    analyser = Analyser()
    terms = [analyser.terms(text) for text in texts]
    ids = [f"p{row:06}" for row in range(PASSAGES + ADDED)]
    asked = weights(queries[0])
    gc.collect()
    gc.freeze()  # the texts of the benchmark itself are nothing to look through for garbage
    for given, what in ((terms, "from terms"), (texts, "from texts")):
        rebuild, added = [], []
        for _ in range(5):
            fresh = SparseIndex()
            put = fresh.add_terms if given is terms else fresh.add
            rebuild.append(milliseconds(partial(_put_and_search, put, fresh, ids, given, asked)))
            index = SparseIndex()
            index.add_terms(ids[:PASSAGES], terms[:PASSAGES])
            index.search_terms(asked, TOP_K)
            put = index.add_terms if given is terms else index.add
            more = partial(_put_and_search, put, index, ids[PASSAGES:], given[PASSAGES:], asked)
            added.append(milliseconds(more))
        ratios = sorted(slow / quick for slow, quick in zip(rebuild, added, strict=True))
        yield {
            "operation": f"add {ADDED:,} passages to {PASSAGES:,} and search, {what}",
            "add_ms": round(statistics.median(added), 2),
            "rebuild_ms": round(statistics.median(rebuild), 1),
            "ratio_rebuild": round(statistics.median(ratios), 1),
            "ratio_rebuild_worst": round(ratios[0], 1),
        }


def _put_and_search(
    put: Callable[[Sequence[str], Any], None],
    index: SparseIndex,
    ids: Sequence[str],
    given: Sequence[Any],
    asked: dict[str, float],
) -> None:
    put(ids, given)
    index.search_terms(asked, TOP_K)


def vectors_of(folder: Path) -> tuple[list[str], np.ndarray, list[str]]:
    """Return ids and vectors of the passages of all data sets, and texts of questions."""
    ids: list[str] = []
    rows: list[np.ndarray] = []
    asked: list[str] = []
    encoder = LateEncoder("minilm")
    with progress() as watched:
        for data in data_sets(folder):
            path = data_index(data, encoder=encoder, sentences=False, progress=watched)
            dense = open_index(path).dense
            ids += [f"{data.name}/{id_}" for id_ in dense.ids]
            rows.append(dense.vectors(dense.ids))
            asked += [q.text for q in sample(read_questions(data), 40)]
    some = random.Random(0).sample(asked, min(QUERIES, len(asked)))  # noqa: S311
    return ids, np.concatenate(rows), some


def feedback(folder: Path, seed: int) -> Iterator[dict[str, Any]]:
    """Yield what vector feedback costs, in dense searches, encoding left out."""
    del seed
    ids, vectors, asked = vectors_of(folder)
    dense = DenseIndex.build(ids, vectors)
    encoder = load_encoder()
    known = dict(zip(asked, encoder.encode_queries(asked), strict=True))

    for depth in (100, 1000):
        plain = times([partial(dense.search_vectors, known[q][None], depth) for q in asked])
        fed = times([partial(_fed, dense, known[q], depth) for q in asked])
        yield {
            "operation": "vector feedback, k=3",
            "passages": len(ids),
            "depth": depth,
            "dense_search_ms": plain["median_ms"],
            "feedback_search_ms": fed["median_ms"],
            "ratio_one_search": round(fed["median_ms"] / plain["median_ms"], 2),
        }


def _fed(dense: DenseIndex, vector: np.ndarray, depth: int) -> object:
    first = dense.search_vectors(vector[None], depth)[0]
    moved = VectorFeedback(k=3).refine(vector, first, dense.vectors, dense.__contains__)
    return dense.search_vectors(moved[None], depth)


def dense(folder: Path, seed: int) -> Iterator[dict[str, Any]]:
    """Yield recall@100 against latency and size for each kind of dense index."""
    del seed
    ids, vectors, asked = vectors_of(folder)
    encoder = load_encoder()
    queries = encoder.encode_queries(asked)
    truth = None
    kinds = [
        ("numpy", {"backend": "numpy"}),
        ("faiss flat", {"backend": "faiss"}),
        *((repr(k), {"kind": k}) for k in (HNSW(ef_search=64), HNSW(), HNSW(ef_search=256))),
        *((repr(k), {"kind": k}) for k in (IVFPQ(), IVFPQ(probes=64))),
    ]
    flat_ms = None
    for name, options in kinds:
        began = time.perf_counter()
        index = DenseIndex.build(ids, vectors, **options)
        index.search_vectors(queries[:1], TOP_K)
        build = time.perf_counter() - began
        taken = times([partial(index.search_vectors, q[None], TOP_K) for q in queries])
        found = [{hit.id for hit in hits} for hits in index.search_vectors(queries, TOP_K)]
        truth = found if truth is None else truth
        shares = [len(a & b) / TOP_K for a, b in zip(found, truth, strict=True)]
        flat_ms = taken["median_ms"] if name == "faiss flat" else flat_ms
        yield {
            "index": name,
            "passages": len(ids),
            "dim": vectors.shape[1],
            "recall@100": round(statistics.fmean(shares), 4),
            **taken,
            "speed_to_flat": round(flat_ms / taken["median_ms"], 2) if flat_ms else None,
            "build_s": round(build, 1),
            "saved_mb": round(_saved_mb(index)),
        }


def _saved_mb(index: DenseIndex) -> float:
    with tempfile.TemporaryDirectory() as folder:
        index.save(Path(folder) / "index")
        return sum(p.stat().st_size for p in Path(folder).rglob("*") if p.is_file()) / 1e6


def main() -> None:
    """Measure and print one JSON record a setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder of evaluation data sets")
    parser.add_argument("--only", default=",".join(SECTIONS), help=f"of {', '.join(SECTIONS)}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="the only form there is")
    args = parser.parse_args()
    sections = {"sparse": sparse, "add": add, "feedback": feedback, "dense": dense}
    about = {
        **machine(),
        "seed": args.seed,
    }
    for name in args.only.split(","):
        if name not in sections:
            parser.error(f"--only takes {', '.join(SECTIONS)}, got {name!r}")
        for record in sections[name](args.data, args.seed):
            print(json.dumps({"section": name, **record, **about}), flush=True)


if __name__ == "__main__":
    main()
