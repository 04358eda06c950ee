"""Sections of the HTML page of a run: its steps, passages, KV, prompts and answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from rag.tracing.markup import Markup, Part, el, joined
from rag.tracing.nesting import Node, Seen, events, is_span, passages, sentences_of
from rag.tracing.wording import byte_size, line_of, milliseconds, score, segment_state

_SCALE = 1000
Looked = tuple[str, float, Sequence[Any]]
"""A step, its share of attention to a passage, and those to the passage's sentences."""


@dataclass(frozen=True)
class Sections:
    """Draws the parts of one run.

    Attributes:
        root: the run, nested.
        prefix: begins every id in the page, so that several runs fit into one notebook.
    """

    root: Node
    prefix: str = ""

    def steps(self) -> Markup:
        """Return the waterfall; a step opens to what happened in it."""
        rows = [self._step(depth, node) for depth, node in self.root.walk()]
        outside = [el("p", line_of(event)) for event in self.root.events]
        if outside:
            rows.insert(0, el("div", *outside, class_="told"))
        return el("div", *rows, class_="steps")

    def _step(self, depth: int, node: Node) -> Markup:
        span = node.span or {}
        marks = _marks(span)
        use = span.get("use")
        label = el(
            "span",
            el("b", node.name),
            el("span", f" {use}", class_="quiet mono") if use else None,
            *marks,
            class_="label",
        )
        kind = "failed" if span.get("error") else "stored" if span.get("cached") else "bar"
        cells = (
            label,
            el("span", milliseconds(node.wall_ms), class_="ms"),
            timeline(node.began_ms, node.ended_ms, self.root.ended_ms, kind if span else "block"),
        )
        row = f"row d{min(depth, 4)}"
        if not span and not node.events:
            return el("div", *cells, class_=row)
        told = [el("p", line_of(event)) for event in node.events]
        facts = _facts(node)
        return el(
            "details",
            el("summary", *cells, class_=row),
            el("div", el("p", facts, class_="quiet mono"), *told, class_="told"),
            class_="step",
        )

    def passages(self) -> Markup | None:
        """Return every passage with its sentences, the pruned ones struck through."""
        seen = passages(self.root)
        if not seen:
            return None
        switch = f"{self.prefix}scores"
        return joined(
            [
                el("input", type="checkbox", class_="switch", id=switch),
                el("label", " show the score of each sentence", for_=switch),
                _legend() if any(one.decisions for one in seen) else None,
                *(self._passage(place, one) for place, one in enumerate(seen)),
            ]
        )

    def _passage(self, place: int, seen: Seen) -> Markup:
        states = _kv_states(self.root).get(seen.id, [])
        looked = _attention(self.root).get(seen.id, [])
        chips = [el("span", f"{node.path}: {s}", class_="chip") for node, s in _scores(seen)]
        chips += [_state_chip(f"{where}: KV {reason}", reason) for where, reason in states]
        chips += [
            el("span", f"{where}: attention {share:.0%}", class_="chip")
            for where, share, _ in looked
        ]
        chips += [
            el("span", f"{where}: read as {step}", class_="chip", title=reason or None)
            for where, step, reason in _read(self.root).get(seen.id, [])
        ]
        title = [seen.title and el("span", f" {seen.title}", class_="quiet")]
        bodies = [
            self._decision(place, number, seen, one) for number, one in enumerate(seen.decisions)
        ]
        if not bodies:
            text = el("div", el("span", seen.text), class_="sentences") if seen.text else None
            bodies = [text or el("p", "no text was kept in this trace", class_="quiet")]
        heading = el("h3", seen.id, *(part or None for part in title))
        name = f"{self.prefix}p{place}"
        return el(
            "article", heading, el("div", *chips, class_="chips"), *bodies, class_="card", id=name
        )

    def _decision(
        self, place: int, number: int, seen: Seen, decision: tuple[Node, Mapping[str, Any]]
    ) -> Markup:
        node, event = decision
        # Attention is told of sentences, which words have other rows than.
        looked = [] if event.get("unit") == "word" else _attention(self.root).get(seen.id, [])
        sentences = sentences_of(event)
        scores = [s["score"] for s in sentences if isinstance(s.get("score"), (int, float))]
        shown = []
        for row, sentence in enumerate(sentences):
            start, end = sentence["span"]
            name = f"{self.prefix}p{place}d{number}s{row}"
            text = seen.text[start:end] if seen.text else f"[{start}:{end}] "
            shown.append(_sentence(text, sentence, scores, name, _at_row(looked, row)))
        facts = [event.get("method"), _threshold(event)]
        told = f"{node.path or 'run'}, {', '.join(str(f) for f in facts if f)}"
        kept = line_of(event).removeprefix(f"{seen.id}: ")
        return el(
            "div",
            el("p", f"{told}: {kept}", class_="quiet mono"),
            el("div", *shown, class_="sentences"),
            class_="decision",
        )

    def kv(self) -> Markup | None:
        """Return what every answer read from the KV store."""
        rows = []
        for node, event in events(self.root, "kv"):
            segments = event.get("segments")
            named = segments.items() if isinstance(segments, Mapping) else ()
            chips = [_state_chip(f"{name}: {reason}", str(reason)) for name, reason in named]
            size = event.get("bytes")
            read = byte_size(size) if isinstance(size, (int, float)) else ""
            counts = [_counted(event, key) for key in ("hits", "misses")]
            shown = el("div", *chips, class_="chips")
            rows.append(row_of(node.path or "run", *counts, read, shown))
        return table(("step", "hits", "misses", "read", "segments"), rows) if rows else None

    def context(self) -> Markup | None:
        """Return how every passage was read, and what each way would have cost."""
        rows = []
        for node, event in events(self.root, "context"):
            for one in _steps_of(event):
                share = f"{one.get('kept_tokens', '')} of {one.get('tokens', '')}"
                ratio, seconds = one.get("load_ratio"), one.get("seconds")
                named = seconds.items() if isinstance(seconds, Mapping) else ()
                times = ", ".join(
                    f"{name} {milliseconds(s * 1e3)}"
                    for name, s in named
                    if isinstance(s, (int, float))
                )
                beta = f"{ratio:.3g}" if isinstance(ratio, (int, float)) else ""
                where = node.path or "run"
                told = (str(one.get(key, "")) for key in ("passage_id", "step"))
                rows.append(row_of(where, *told, share, beta, times, str(one.get("reason", ""))))
        heads = ("step", "passage", "read as", "tokens", "β", "predicted", "reason")
        return table(heads, rows) if rows else None

    def prompts(self) -> Markup | None:
        """Return the exact prompts; the last one is open."""
        found = [one for one in events(self.root, "prompt") if isinstance(one[1].get("text"), str)]
        shown = [
            el(
                "details",
                el("summary", f"{node.path or 'run'}: {line_of(event).removeprefix('prompt: ')}"),
                el("pre", event["text"]),
                open=place == len(found) - 1,
            )
            for place, (node, event) in enumerate(found)
        ]
        return joined(shown) if shown else None

    def answer(self) -> Markup | None:
        """Return the last generated text, its sentences linked to those that support them."""
        found = [
            one for one in events(self.root, "generated") if isinstance(one[1].get("text"), str)
        ]
        if not found:
            return None
        node, event = found[-1]
        cited = [data for home, data in events(self.root, "citations") if home is node]
        marks = self._citation_marks(cited[-1], event["text"]) if cited else []
        facts = line_of({key: value for key, value in event.items() if key != "text"})
        facts = facts.removeprefix("generated: text not kept").strip(" ()")
        model = f"{event['model']}: " if event.get("model") else ""
        return el(
            "div",
            el("div", *_marked(event["text"], marks, cited), class_="answer"),
            el("p", model + facts, class_="quiet") if model or facts else None,
            class_="card",
        )

    def _citation_marks(self, event: Mapping[str, Any], text: str) -> list[tuple[int, Markup]]:
        marks = []
        for citation in event.get("citations") or ():
            end = citation.get("answer_end") if isinstance(citation, Mapping) else None
            if isinstance(end, int) and 0 <= end <= len(text):
                where = self._target(citation)
                shown, quote = f"[{citation.get('number')}]", citation.get("quote")
                title = f"{citation.get('passage_id')}: {quote}" if quote else None
                link = el("a", shown, href=f"#{where}", title=title) if where else el("span", shown)
                marks.append((len(text[:end].rstrip()), link))
        return sorted(marks, key=lambda mark: mark[0])

    def _target(self, citation: Mapping[str, Any]) -> str | None:
        """Return the id of the sentence that a citation names, of the last decision on it."""
        for place, seen in enumerate(passages(self.root)):
            if seen.id != citation.get("passage_id"):
                continue
            start = citation.get("start")
            if seen.decisions and isinstance(start, int):
                last = len(seen.decisions) - 1
                for row, sentence in enumerate(sentences_of(seen.decisions[last][1])):
                    begin, end = sentence["span"]
                    if begin <= start - seen.start < end:
                        return f"{self.prefix}p{place}d{last}s{row}"
            return f"{self.prefix}p{place}"
        return None


def timeline(began_ms: float, ended_ms: float, total_ms: float, kind: str) -> Markup:
    """Return a bar that shows where in the run a step ran, at least a sliver wide."""
    scale = _SCALE / total_ms if total_ms > 0 else 0.0
    x = min(began_ms * scale, _SCALE - 4)
    width = min(max((ended_ms - began_ms) * scale, 4), _SCALE - x)
    return el(
        "svg",
        el("rect", class_="track", x=0, y=3, width=_SCALE, height=4),
        el("rect", class_=kind, x=f"{x:.1f}", y=0, width=f"{width:.1f}", height=10),
        viewBox=f"0 0 {_SCALE} 10",
        preserveAspectRatio="none",
        aria_hidden="true",
    )


def table(heads: tuple[str, ...], rows: list[Markup]) -> Markup:
    """Return a table that scrolls on a narrow screen."""
    head = el("thead", el("tr", *(el("th", name, scope="col") for name in heads)))
    return el("div", el("table", head, el("tbody", *rows)), class_="wide")


def row_of(*cells: Part, kind: str | None = None) -> Markup:
    """Return a row of a table."""
    return el("tr", *(el("td", cell) for cell in cells), class_=kind)


def _counted(event: Mapping[str, Any], key: str) -> Part:
    return str(event.get(key, ""))


def _marks(span: Mapping[str, Any]) -> list[Part]:
    marks: list[Part] = [
        joined([" ", el("span", word, class_="chip hit" if word == "cached" else "chip")])
        for word in ("cached", "skipped")
        if span.get(word)
    ]
    if span.get("error"):
        marks.append(joined([" ", el("span", "failed", class_="chip error")]))
    return marks


def _facts(node: Node) -> str:
    span = node.span or {}
    facts = [f"at {milliseconds(node.began_ms)}"]
    if isinstance(span.get("cpu_ms"), (int, float)):
        facts.append(f"CPU {milliseconds(span['cpu_ms'])}")
    if isinstance(span.get("peak_mb"), (int, float)):
        facts.append(f"peak memory so far {span['peak_mb']:,.0f} MB")
    if span.get("batch", 1) != 1:
        facts.append(f"batch of {span['batch']}")
    return f"{node.path}: {', '.join(facts)}" + (f"; {span['error']}" if span.get("error") else "")


def _legend() -> Markup:
    tints = (el("span", "  ", class_=f"s{level}") for level in range(1, 5))
    words = " sentences that were pruned; darker is a higher score among the passage's: "
    return el("p", el("del", "struck through"), words, *tints, class_="legend")


def _scores(seen: Seen) -> list[tuple[Node, str]]:
    found = []
    for node, row in seen.hits:
        rank = f"#{row['rank']} " if isinstance(row.get("rank"), int) else ""
        value = row.get("score")
        if isinstance(value, (int, float)):
            found.append((node, f"{rank}{score(value)}"))
    return found


def _kv_states(root: Node) -> dict[str, list[tuple[str, str]]]:
    states: dict[str, list[tuple[str, str]]] = {}
    for node, event in events(root, "kv"):
        segments = event.get("segments")
        if isinstance(segments, Mapping):
            for name, reason in segments.items():
                states.setdefault(name, []).append((node.path or "run", str(reason)))
    return states


def _attention(root: Node) -> dict[str, list[Looked]]:
    """Return for each passage the steps that answered from it, and their attention to it."""
    found: dict[str, list[Looked]] = {}
    for node, event in events(root, "attention"):
        told = event.get("passages")
        for one in told if isinstance(told, (list, tuple)) else ():
            share = one.get("share") if isinstance(one, Mapping) else None
            if isinstance(share, (int, float)):
                rows = one.get("sentences")
                looked = (
                    node.path or "run",
                    share,
                    rows if isinstance(rows, (list, tuple)) else (),
                )
                found.setdefault(str(one.get("passage_id")), []).append(looked)
    return found


def _steps_of(event: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return how passages were read, as an event tells it."""
    told = event.get("passages")
    return [one for one in told if isinstance(one, Mapping)] if isinstance(told, list) else []


def _read(root: Node) -> dict[str, list[tuple[str, str, str]]]:
    """Return for each passage the steps that read it, in which way, and why."""
    found: dict[str, list[tuple[str, str, str]]] = {}
    for node, event in events(root, "context"):
        for one in _steps_of(event):
            told = node.path or "run", str(one.get("step", "")), str(one.get("reason", ""))
            found.setdefault(str(one.get("passage_id")), []).append(told)
    return found


def _at_row(looked: list[Looked], row: int) -> list[str]:
    """Return what each step's attention to a sentence is."""
    shares = [(where, rows[row]) for where, _, rows in looked if row < len(rows)]
    return [
        f"{where}: attention {share:.0%}"
        for where, share in shares
        if isinstance(share, (int, float))
    ]


def _state_chip(text: str, reason: str) -> Markup:
    return el("span", text, class_=f"chip {segment_state(reason)}")


def _threshold(event: Mapping[str, Any]) -> str:
    value = event.get("threshold")
    return f"threshold {value:g}" if isinstance(value, (int, float)) else ""


def _sentence(
    text: str, sentence: Mapping[str, Any], scores: list[float], name: str, looked: list[str]
) -> Markup:
    value = sentence.get("score")
    told = score(value) if isinstance(value, (int, float)) else "no score"
    if sentence.get("forced"):
        told += f", forced: {sentence['forced']}"
    body = text.rstrip()
    parts = (body, el("sup", told))
    title = ", ".join(("kept" if sentence.get("kept") else "pruned", told, *looked))
    if sentence.get("kept"):
        shown = el("span", *parts, class_=_tint(value, scores), title=title, id=name)
    else:
        shown = el("del", *parts, title=title, id=name)
    return joined([shown, text[len(body) :]])


def _tint(value: Any, scores: list[float]) -> str:
    low, high = min(scores, default=0.0), max(scores, default=0.0)
    if not isinstance(value, (int, float)) or high <= low:
        return "s2"
    return f"s{1 + min(3, int(4 * (value - low) / (high - low)))}"


def _marked(
    text: str, marks: list[tuple[int, Markup]], cited: list[Mapping[str, Any]]
) -> list[Part]:
    """Return the answer with its marks, its unsupported sentences underlined."""
    bare = [span for span in (cited[-1].get("unsupported") or () if cited else ()) if is_span(span)]
    cuts = sorted({0, len(text), *(at for at, _ in marks), *(end for span in bare for end in span)})
    parts: list[Part] = []
    for start, end in pairwise(cuts):
        inside = any(span[0] <= start and end <= span[1] for span in bare)
        piece = text[start:end]
        title = "no kept sentence supports this"
        parts.append(el("span", piece, class_="unsupported", title=title) if inside else piece)
        parts += [joined([" ", mark]) for at, mark in marks if at == end]
    return parts
