"""Corpus graphs on disk: flat arrays that are mapped, not read, and a file about them."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from rag.errors import IndexFolderError
from rag.files import sync_folder, write_atomically
from retrievers.arrays import write_array
from retrievers.graph.corpus_graph import CorpusGraph, Facts
from retrievers.graph.lists import Lists
from retrievers.graph.settings import KINDS, GraphSettings
from retrievers.sorted_strings import SortedStrings

ABOUT = "graph.json"
_FORMAT = 1


def save_graph(graph: CorpusGraph, folder: Path) -> None:
    """Write a graph into a new or empty folder; `graph.json` comes last.

    Args:
        graph: what to write.
        folder: made if need be.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    arrays: dict[str, np.ndarray] = {"digests": graph.facts.digests, "initial": graph.facts.initial}
    for name, strings in _strings(graph).items():
        arrays |= {f"{name}.blob": strings.blob, f"{name}.starts": strings.starts}
    for name, lists in _lists(graph).items():
        arrays |= {f"{name}.values": lists.values, f"{name}.starts": lists.starts}
    for kind, matrix in graph.edges.items():
        arrays |= {
            f"{kind}.targets": matrix.indices,
            f"{kind}.weights": matrix.data,
            f"{kind}.starts": matrix.indptr,
        }
    for name, array in arrays.items():
        write_array(folder / f"{name}.npy", array)
    about = {
        "format": _FORMAT,
        "rules": graph.rules,
        "passages": len(graph),
        "language": graph.language,
        "settings": asdict(graph.settings),
        "edges": graph.counts,
        "unplaced": graph.unplaced,
        "lengths": {name: len(array) for name, array in arrays.items()},
    }
    text = json.dumps(about, indent=1).encode()
    write_atomically(folder / ABOUT, lambda file: file.write(text))
    sync_folder(folder)


def open_graph(folder: Path) -> CorpusGraph:
    """Open a graph.

    Raises:
        IndexFolderError: if a file is missing, damaged, or of another format.
    """
    try:
        about = json.loads((folder / ABOUT).read_bytes())
        if about["format"] != _FORMAT:
            raise IndexFolderError(
                f"{folder} holds a corpus graph of format {about['format']!r}, this version reads "
                f"{_FORMAT}; index again with --graph"
            )
        graph = _opened(folder, about)
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise IndexFolderError(f"{folder} holds no readable corpus graph: {error!r}") from error
    sizes = {len(graph.ids), *(len(lists) for name, lists in _lists(graph).items())}
    if sizes != {about["passages"]} or graph.counts != about["edges"]:
        raise IndexFolderError(f"{folder} holds parts of several corpus graphs; index again")
    return graph


def _opened(folder: Path, about: Mapping[str, Any]) -> CorpusGraph:
    def array(name: str) -> np.ndarray:
        found: np.ndarray = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        if len(found) != about["lengths"][name]:
            raise IndexFolderError(
                f"{folder} holds parts of several corpus graphs: {name} must have "
                f"{about['lengths'][name]} entries, got {len(found)}; index again"
            )
        return found

    def strings(name: str) -> SortedStrings:
        return SortedStrings(array(f"{name}.blob"), array(f"{name}.starts"))

    def lists(name: str) -> Lists:
        return Lists(array(f"{name}.starts"), array(f"{name}.values"))

    settings = GraphSettings(**{**about["settings"], "fields": tuple(about["settings"]["fields"])})
    nodes = int(about["passages"])
    edges = {
        kind: sp.csr_array(
            (array(f"{kind}.weights"), array(f"{kind}.targets"), array(f"{kind}.starts")),
            shape=(nodes, nodes),
        )
        for kind in KINDS
        if kind in about["edges"]
    }
    facts = Facts(
        array("digests"),
        strings("names"),
        lists("named"),
        lists("mentions"),
        strings("phrases"),
        lists("phrased"),
        array("initial"),
    )
    language, unplaced = str(about["language"]), about["unplaced"]
    rules = int(about["rules"])
    return CorpusGraph(settings, strings("ids"), edges, facts, language, unplaced, rules)


def _strings(graph: CorpusGraph) -> dict[str, SortedStrings]:
    return {"ids": graph.ids, "names": graph.facts.names, "phrases": graph.facts.phrases}


def _lists(graph: CorpusGraph) -> dict[str, Lists]:
    facts = graph.facts
    return {"named": facts.named, "mentions": facts.mentions, "phrased": facts.phrased}
