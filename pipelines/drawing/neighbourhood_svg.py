"""A neighbourhood of the corpus graph as an SVG image: chosen passages left, neighbours right."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pipelines.drawing.neighbourhood import Neighbourhood
from pipelines.drawing.svg_text import escaped, fitted, text_at
from rag.records import Edge, Passage

STYLE = """\
.dovetail-graph { --ground: #fbfbfa; --card: #ffffff; --line: #c9ccd2; --text: #1d1f21;
  --quiet: #5b6067; --chosen: #2f5fb3; --mention: #2f5fb3; --phrase: #b45f06;
  --reference: #1f7a4d; --triple: #7b3fa0; --metadata: #8a6d1a; --seq: #5b6067;
  --parent: #9aa3af; --knn: #0f7c86; }
@media (prefers-color-scheme: dark) { .dovetail-graph { --ground: #16181b; --card: #23272d;
  --line: #4a515b; --text: #e4e5e7; --quiet: #a2a8b0; --chosen: #8fb4f5; --mention: #8fb4f5;
  --phrase: #f0a35e; --reference: #7fd3a5; --triple: #cf9df0; --metadata: #dcc06a;
  --seq: #a2a8b0; --parent: #6b7480; --knn: #6cd0d8; } }
.dovetail-graph text { font-family: system-ui, "Segoe UI", "Noto Sans", "Liberation Sans",
  "DejaVu Sans", sans-serif; font-size: 13px; fill: var(--text); white-space: pre; }
.dovetail-graph .heading { font-size: 15px; font-weight: 600; }
.dovetail-graph .title { font-weight: 600; }
.dovetail-graph .detail { font-size: 11.5px; fill: var(--quiet); }
.dovetail-graph .rank { font-weight: 600; fill: var(--card); text-anchor: middle; }
.dovetail-graph .ground { fill: var(--ground); }
.dovetail-graph .card { fill: var(--card); stroke: var(--line); }
.dovetail-graph .chosen { stroke: var(--chosen); stroke-width: 2; }
.dovetail-graph .badge { fill: var(--chosen); }
.dovetail-graph .edge { fill: none; stroke-opacity: .85; }
.dovetail-graph .head.mention { fill: var(--mention); }
.dovetail-graph .head.reference { fill: var(--reference); }
.dovetail-graph .head.triple { fill: var(--triple); }
.dovetail-graph .head.seq { fill: var(--seq); }
.dovetail-graph .edge.mention { stroke: var(--mention); }
.dovetail-graph .edge.phrase { stroke: var(--phrase); stroke-dasharray: 6 3; }
.dovetail-graph .edge.reference { stroke: var(--reference); }
.dovetail-graph .edge.triple { stroke: var(--triple); }
.dovetail-graph .edge.metadata { stroke: var(--metadata); stroke-dasharray: 2 3; }
.dovetail-graph .edge.seq { stroke: var(--seq); stroke-dasharray: 9 3; }
.dovetail-graph .edge.parent { stroke: var(--parent); stroke-dasharray: 1 3; }
.dovetail-graph .edge.knn { stroke: var(--knn); stroke-dasharray: 4 4; }
"""
_MEANING = {
    "mention": "mentions by name",
    "phrase": "shares a phrase",
    "reference": "links to",
    "triple": "joined by your triples",
    "metadata": "shares metadata",
    "seq": "is followed by",
    "parent": "same section",
    "knn": "near in vectors",
}
DIRECTED = frozenset({"mention", "reference", "triple", "seq"})
"""Kinds whose direction says something."""

_CARD, _HEIGHT, _GAP = 300.0, 62.0, 18.0
_PAD, _ARCS, _BETWEEN = 16.0, 90.0, 190.0
_HEADING = 16.0
_STEP = 8.0  # between edges that meet at one card


class _Joined(NamedTuple):
    """What is drawn between two cards: one line for each kind."""

    source: str
    target: str
    kind: str
    weight: float
    both: bool


def neighbourhood_svg(shown: Neighbourhood) -> str:
    """Return the image. Every text in it is escaped, and it refers to nothing outside.

    Chosen passages stand left by rank, their neighbours right, nearest to what they are joined to.
    Lines show edges by kind, wider the heavier; arrows point from the passage that mentions, links
    or comes before. Whoever hovers over a card or a line reads more.
    """
    links = _links(shown.edges)
    neighbours = _ordered(shown, links)
    left = _PAD + _ARCS
    right = left + _CARD + _BETWEEN
    width = right + _CARD + _PAD if neighbours else left + _CARD + _PAD
    heading = _wrapped(shown.heading, width - 2 * _PAD)
    top = 2 * _PAD + 20 * len(heading) + 18
    rows = max(len(shown.chosen), len(neighbours))
    below = top + rows * (_HEIGHT + _GAP)
    kinds = [kind for kind in _MEANING if any(link.kind == kind for link in links)]
    per_row = max(1, int((width - 2 * _PAD) // 190))
    height = below + 20 * -(-max(1, len(kinds)) // per_row) + _PAD
    places = {
        passage.id: (left, _y(top, place, len(shown.chosen), rows))
        for place, passage in enumerate(shown.chosen)
    } | {
        passage.id: (right, _y(top, place, len(neighbours), rows))
        for place, passage in enumerate(neighbours)
    }
    parts = [f'<rect class="ground" width="{width:.0f}" height="{height:.0f}"/>']
    parts += [
        text_at(_PAD, _PAD + 14 + 20 * row, line, "heading") for row, line in enumerate(heading)
    ]
    parts.append(text_at(left, top - 12, "chosen, best first", "detail"))
    if neighbours:
        parts.append(text_at(right, top - 12, "what they lead to", "detail"))
    parts += _lines(links, places, left)
    for rank, passage in enumerate(shown.chosen, 1):
        parts += _card(passage, *places[passage.id], rank)
    for passage in neighbours:
        parts += _card(passage, *places[passage.id], 0)
    parts += _legend(kinds, links, below, per_row)
    head = (
        f'<svg class="dovetail-graph" xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" '
        f'height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
        f'aria-label="{escaped("corpus graph around: " + shown.heading)}">'
    )
    return "\n".join([head, f"<style>{STYLE}</style>", *parts, "</svg>"]) + "\n"


def _wrapped(heading: str, width: float) -> list[str]:
    """Return a heading in at most two lines."""
    line = fitted(heading, _HEADING, width)
    if not line.endswith("…") or " " not in line:
        return [line]
    first = line.removesuffix("…").rpartition(" ")[0]
    return [first, fitted(" ".join(heading.split())[len(first) :], _HEADING, width)]


def _links(edges: Sequence[Edge]) -> list[_Joined]:
    """Return one line for each kind between two cards, whichever way its edges go."""
    found: dict[tuple[str, str, str], _Joined] = {}
    for edge in edges:
        back = found.get((edge.target, edge.source, edge.kind))
        if back is not None:
            weight = max(back.weight, edge.weight)
            found[edge.target, edge.source, edge.kind] = back._replace(weight=weight, both=True)
        else:
            key = (edge.source, edge.target, edge.kind)
            found[key] = _Joined(*key, edge.weight, both=edge.kind not in DIRECTED)
    return list(found.values())


def _ordered(shown: Neighbourhood, links: Sequence[_Joined]) -> list[Passage]:
    """Return the neighbours from top to bottom: by the mean rank of what they are joined to."""
    rank = {passage.id: place for place, passage in enumerate(shown.chosen)}
    joined: dict[str, list[int]] = {passage.id: [] for passage in shown.neighbours}
    for link in links:
        for one, other in ((link.source, link.target), (link.target, link.source)):
            if one in joined and other in rank:
                joined[one].append(rank[other])
    return sorted(
        shown.neighbours,
        key=lambda passage: sum(joined[passage.id]) / max(1, len(joined[passage.id])),
    )


def _y(top: float, place: int, count: int, rows: int) -> float:
    """Return the upper edge of a card; the shorter column stands in the middle of the longer."""
    return top + (place + (rows - count) / 2) * (_HEIGHT + _GAP)


def _card(passage: Passage, x: float, y: float, rank: int) -> list[str]:
    title = passage.title or passage.id
    lines = [
        f"<g><title>{escaped(f'{passage.id}: {title}')}\n{escaped(passage.text[:600])}</title>"
    ]
    kind = "card chosen" if rank else "card"
    lines.append(
        f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{_CARD:.0f}" '
        f'height="{_HEIGHT:.0f}" rx="7"/>'
    )
    begin = x + 12
    if rank:
        begin += 26
        lines.append(f'<circle class="badge" cx="{x + 20:.1f}" cy="{y + 19:.1f}" r="11"/>')
        lines.append(text_at(x + 20, y + 23.5, str(rank), "rank"))
    room = x + _CARD - 12
    lines.append(text_at(begin, y + 23, fitted(title, 13.6, room - begin), "title"))
    lines.append(text_at(x + 12, y + 47, fitted(passage.text, 11.5, _CARD - 24), "detail"))
    return [*lines, "</g>"]


def _lines(
    links: Sequence[_Joined], places: Mapping[str, tuple[float, float]], left: float
) -> list[str]:
    """Return the lines, each at a port of its own on the cards that it joins."""
    sides: dict[tuple[str, bool], list[tuple[float, int]]] = {}
    for row, link in enumerate(links):
        inner = places[link.source][0] == places[link.target][0]
        for one, other in ((link.source, link.target), (link.target, link.source)):
            sides.setdefault((one, inner), []).append((places[other][1], row))
    ports = {
        (card, inner, row): places[card][1]
        + _HEIGHT / 2
        + (place - (len(ends) - 1) / 2) * min(_STEP, (_HEIGHT - 12) / len(ends))
        for (card, inner), ends in sides.items()
        for place, (_, row) in enumerate(sorted(ends))
    }
    drawn = []
    for row, link in enumerate(links):
        inner = places[link.source][0] == places[link.target][0]
        begin, end = (ports[card, inner, row] for card in (link.source, link.target))
        tip = 0.0 if link.both else 7.0
        x, to, way = left, left, 1.0
        if inner:
            bow = left - min(_ARCS - 8, 16 + abs(end - begin) / 5)
        else:
            way = 1.0 if places[link.source][0] < places[link.target][0] else -1.0
            x, to = (
                places[id_][0] + (_CARD if side > 0 else 0)
                for id_, side in ((link.source, way), (link.target, -way))
            )
            bow = (x + to) / 2
        path = (
            f"M{x:.1f} {begin:.1f}C{bow:.1f} {begin:.1f} {bow:.1f} {end:.1f} "
            f"{to - way * tip:.1f} {end:.1f}"
        )
        about = f"{link.source} {_MEANING.get(link.kind, link.kind)} {link.target}"
        drawn.append(
            f'<g><title>{escaped(about)}, weight {link.weight:.2f}</title><path class="edge '
            f'{link.kind}" stroke-width="{1 + 2 * link.weight:.2f}" d="{path}"/>'
            f"{'' if link.both else _arrow(to, end, way, link.kind)}</g>"
        )
    return drawn


def _arrow(x: float, y: float, way: float, kind: str) -> str:
    return f'<path class="head {kind}" d="M{x:.1f} {y:.1f}l{-way * 8:.0f} -4v8z"/>'


def _legend(kinds: Sequence[str], links: Sequence[_Joined], y: float, per_row: int) -> list[str]:
    if not kinds:
        return [text_at(_PAD, y + 12, "no edges join these passages", "detail")]
    parts = []
    for place, kind in enumerate(kinds):
        x, line = _PAD + 190 * (place % per_row), y + 12 + 20 * (place // per_row)
        count = sum(link.kind == kind for link in links)
        parts.append(f'<path class="edge {kind}" stroke-width="2" d="M{x:.1f} {line - 4:.1f}h26"/>')
        parts.append(text_at(x + 32, line, f"{_MEANING[kind]} ({count})", "detail"))
    return parts
