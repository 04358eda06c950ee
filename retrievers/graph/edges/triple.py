"""Edges `triple`: what a user's own file says belongs together."""

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rag.errors import CorpusError
from rag.records import Passage
from retrievers.graph.edges.edge_list import EdgeList
from retrievers.graph.names import Names
from retrievers.graph.words import words

_FIELDS = frozenset({"subject", "relation", "object", "weight"})


@dataclass(frozen=True, slots=True)
class Triple:
    """A statement that joins passages.

    Attributes:
        subject: id of a passage or document, or a name: a title, heading, alias or defined term.
        object: the same.
        relation: what joins them, in the user's words.
        weight: above 0, at most 1.
    """

    subject: str
    object: str
    relation: str = ""
    weight: float = 1.0


def read_triples(path: Path) -> list[Triple]:
    """Return the triples of a file.

    A line is a JSON object with `subject`, `object`, and if wanted `relation` and `weight`, or
    three fields with tabs between: subject, relation, object. Empty lines are passed over.

    Raises:
        CorpusError: naming the file and line that is neither, or the file that cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"the triples in {path} cannot be read: {error}") from error
    found = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                found.append(_triple(line))
            except ValueError as error:
                raise CorpusError(f"{path}:{number}: {error}") from None
    return found


def _triple(line: str) -> Triple:
    if not line.lstrip().startswith("{"):
        fields = [field.strip() for field in line.split("\t")]
        if len(fields) != 3 or not (fields[0] and fields[2]):
            raise ValueError(
                "a triple must be a JSON object, or subject, relation and object with tabs "
                f"between, got {line!r}"
            )
        return Triple(fields[0], fields[2], fields[1])
    data: Any = json.loads(line)
    unknown = sorted(set(data) - _FIELDS)
    if unknown:
        raise ValueError(f"a triple has {', '.join(sorted(_FIELDS))}, got {', '.join(unknown)}")
    texts = {name: data.get(name, "") for name in ("subject", "object", "relation")}
    for name, text in texts.items():
        if not isinstance(text, str) or (name != "relation" and not text.strip()):
            raise ValueError(f"{name} must be a text, got {text!r}")
    weight = data.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight <= 1:
        raise ValueError(f"weight must be above 0 and at most 1, got {weight!r}")
    return Triple(texts["subject"], texts["object"], texts["relation"], float(weight))


def triple_edges(
    triples: Sequence[Triple], passages: Sequence[Passage], names: Names
) -> tuple[EdgeList, list[str]]:
    """Return the edges of triples, and a line on each end that nothing in the corpus is called.

    An end that stands for several passages, as a document or a name can, joins each of them; the
    weight is divided by how many passages the two ends stand for.

    Args:
        triples: to join passages by.
        passages: in the order of their rows.
        names: of all rows.
    """
    places: dict[str, list[int]] = {}
    for row, passage in enumerate(passages):
        places.setdefault(passage.document, []).append(row)
    places |= {passage.id: [row] for row, passage in enumerate(passages)}
    edges, unknown = [], []
    for triple in triples:
        ends = [_rows(end, places, names) for end in (triple.subject, triple.object)]
        for end, rows in zip((triple.subject, triple.object), ends, strict=True):
            if not rows:
                near = difflib.get_close_matches(end, places, 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                unknown.append(f"no passage, document or name {end!r}{hint}")
        edges += [
            (source, target, triple.weight / (len(ends[0]) * len(ends[1])))
            for source in ends[0]
            for target in ends[1]
            if source != target
        ]
    return EdgeList.of(edges), sorted(set(unknown))


def _rows(end: str, places: Mapping[str, list[int]], names: Names) -> list[int]:
    if end in places:
        return places[end]
    name = " ".join(words(end).keys)
    return names.rows(name).tolist() if name in names else []
