"""A run as one HTML page that needs no network, as a piece of a notebook, or beside another run."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag.tracing.compare import Change, Difference, Timing, compare, ms_of
from rag.tracing.describe import events_of
from rag.tracing.markup import Markup, Part, el, joined
from rag.tracing.nesting import Node, events, nested
from rag.tracing.sections import Sections, row_of, table, timeline
from rag.tracing.trace import Trace
from rag.tracing.wording import byte_size, milliseconds, score

if TYPE_CHECKING:
    from rag.records import Answer

Section = tuple[str, str, Markup | None]
"""Id, heading and content; without content it is left out."""


def page(trace: Trace, other: Trace | None = None) -> str:
    """Return a run as one self-contained HTML page, or what differs between two.

    Everything that the run holds is escaped, the page's own script and style are the only ones that
    its policy lets act, and nothing is ever fetched.

    Args:
        trace: the run.
        other: a second run; the page then shows the differences from `trace` to `other`.
    """
    if other is not None:
        return html_page(f"{_title(trace)} and {_title(other)}", _both(trace, other))
    root = nested(trace)
    sections = Sections(root)
    notes = [el("p", note, class_="chip error") for note in trace.notes]
    shown = [
        ("answer", "Answer", sections.answer()),
        ("steps", "Steps", joined([_opener(), sections.steps()])),
        ("passages", "Passages", sections.passages()),
        ("kv", "KV cache", sections.kv()),
        ("context", "Context", sections.context()),
        ("prompt", "Prompt", sections.prompts()),
        ("records", "Records", _records(trace)),
    ]
    head = el("header", *_head(trace.run, root), *notes)
    return html_page(_title(trace), joined([head, *_sections(shown)]))


def fragment(trace: Trace) -> str:
    """Return a run as a piece of HTML for a notebook: it brings its style and needs no script."""
    root = nested(trace)
    sections = Sections(root, prefix=f"r{str(trace.run.get('id', ''))[:8]}-")
    parts = [el("header", *_head(trace.run, root)), sections.answer(), sections.steps()]
    parts += [_folded("Passages", sections.passages()), _folded("KV cache", sections.kv())]
    parts += [_folded("Context", sections.context()), _folded("Prompt", sections.prompts())]
    return _fragment(parts)


def answer_html(answer: Answer) -> str:
    """Return an answer with its evidence as a piece of HTML for a notebook."""
    root = Node("run", "")
    for name, data in [*events_of(list(answer.passages)), *events_of(answer)]:
        root.events.append({"kind": "event", "name": name, "at_ms": 0.0, **data})
    digest = hashlib.sha256(repr((answer.text, answer.prompt)).encode("utf-8", "replace"))
    sections = Sections(root, prefix=f"a{digest.hexdigest()[:8]}-")
    times = [f"{name} {milliseconds(ms)}" for name, ms in answer.timings_ms.items()]
    parts: list[Part] = [sections.answer()]
    if times:
        parts.append(el("p", ", ".join(times), class_="quiet"))
    parts += [_folded("Passages", sections.passages()), _folded("KV cache", sections.kv())]
    parts += [_folded("Context", sections.context()), _folded("Prompt", sections.prompts())]
    return _fragment(parts)


@cache
def _file(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def html_page(title: str, body: Markup, styles: Sequence[str] = ()) -> str:
    """Return a self-contained HTML page, with a policy under which only its own parts act.

    Args:
        title: of the window.
        body: what it shows.
        styles: contents of the `style` elements in the body, which the policy lets act too.
    """
    style, script = _file("page.css"), _file("page.js")
    allowed = " ".join(f"'{_hash(one)}'" for one in (style, *styles))
    policy = (
        f"default-src 'none'; style-src {allowed}; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="referrer", content="no-referrer"),
        el("title", title),
        el("style", Markup(style)),
    )
    main = el(
        "body", el("main", body, class_="page"), el("script", Markup(script)), class_="dovetail"
    )
    return f"<!DOCTYPE html>\n{el('html', head, main, lang='en')}\n"


def _fragment(parts: Sequence[Part]) -> str:
    return el("div", el("style", Markup(_file("page.css"))), *parts, class_="dovetail fragment")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def _sections(sections: Sequence[Section]) -> list[Part]:
    present = [(name, heading, body) for name, heading, body in sections if body is not None]
    links = [el("a", heading, href=f"#{name}") for name, heading, _ in present]
    shown = [el("section", el("h2", heading, id=name), body) for name, heading, body in present]
    return [el("nav", *links, aria_label="Sections"), *shown]


def _folded(heading: str, body: Markup | None) -> Markup | None:
    return None if body is None else el("details", el("summary", heading), body)


def _opener() -> Markup:
    return el(
        "p",
        el("button", "Open all steps", id="all", type="button", aria_expanded="false", hidden=True),
        el("span", " A step opens to what happened in it.", class_="quiet"),
    )


def _title(trace: Trace) -> str:
    return str(trace.run.get("pipeline") or "run")


def _head(run: Mapping[str, Any], root: Node) -> list[Part]:
    started = str(run.get("started", "")).replace("T", " ")[:19]
    parts: list[Part] = [el("h1", str(run.get("pipeline") or "run"))]
    parts += [el("p", text, class_="question") for text in _given(run)]
    chips = [started and f"{started} UTC", *_totals(root), *_about(run)]
    overrides = [f"--set {one}" for one in run.get("overrides") or ()]
    shown = [el("span", chip, class_="chip") for chip in [*chips, *overrides] if chip]
    return [*parts, el("div", *shown, class_="chips")]


def _given(run: Mapping[str, Any]) -> list[str]:
    given = [run["question"]] if isinstance(run.get("question"), str) else []
    inputs = run.get("inputs")
    for name, value in inputs.items() if isinstance(inputs, Mapping) else ():
        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        given.append(shown if name == "query" else f"{name}: {shown}")
    return given


def _totals(root: Node) -> list[str]:
    kv = [event for _, event in events(root, "kv")]
    first = [event.get("ttft_ms") for _, event in events(root, "generated")]
    hits, misses, size = (_sum(kv, key) for key in ("hits", "misses", "bytes"))
    times = [f"{ms:,.0f} ms to the first token" for ms in first if isinstance(ms, (int, float))]
    stored = f"KV: {hits:,.0f} hits, {misses:,.0f} misses, {byte_size(size)}"
    return [f"{milliseconds(root.ended_ms)} in all", *times[-1:], *([stored] if kv else [])]


def _sum(rows: list[Mapping[str, Any]], key: str) -> float:
    return sum(float(row[key]) for row in rows if isinstance(row.get(key), (int, float)))


def _about(run: Mapping[str, Any]) -> list[str]:
    shown = {"overrides", "inputs", "question", "versions", "pipeline", "started"}
    shown |= {"kind", "name", "at_ms", "content"}
    facts = [
        f"{key} {str(value)[:12] if key in ('id', 'pipeline_sha') else value}"
        for key, value in run.items()
        if key not in shown and isinstance(value, (str, int, float))
    ]
    versions = run.get("versions")
    if isinstance(versions, Mapping):
        facts += [f"{name} {version}" for name, version in versions.items()]
    return [*facts, *(["texts not kept"] if run.get("content") is False else [])]


def _records(trace: Trace) -> Markup:
    count = len(trace.records)
    return el(
        "details", el("summary", f"{count:,} records as JSON lines"), el("pre", trace.lines())
    )


def _both(old: Trace, new: Trace) -> Markup:
    difference = compare(old, new)
    runs = [
        el("div", el("p", word, class_="quiet"), *_head(trace.run, nested(trace)), class_="card")
        for word, trace in (("first run", old), ("second run", new))
    ]
    head = el("header", el("h1", "Two runs"), *runs)
    sections = [
        ("answers", "Answers", _texts(difference.answers)),
        ("settings", "Settings", _settings(difference)),
        ("steps", "Steps", _timings(difference)),
        ("passages", "Passages in one run only", _passages(difference)),
        ("sentences", "Sentences kept in one run only", _sentences(difference)),
        ("prompts", "Prompts", _texts(difference.prompts)),
        ("first", "Records of the first run", _records(old)),
        ("second", "Records of the second run", _records(new)),
    ]
    return joined([head, *_sections(sections)])


def _same(what: str) -> Markup:
    return el("p", f"no difference in {what}", class_="same")


def _settings(difference: Difference) -> Markup:
    rows = [row_of(name, old, new) for name, old, new in difference.settings]
    return table(("setting", "first", "second"), rows) if rows else _same("settings")


def _timings(difference: Difference) -> Markup:
    longest = max(
        (ms for timing in difference.timings for ms in (timing.old_ms, timing.new_ms) if ms),
        default=0.0,
    )
    rows = [_timing(timing, longest) for timing in difference.timings]
    return table(("step", "first", "second", "ratio", ""), rows)


def _timing(timing: Timing, longest: float) -> Markup:
    bars = [
        None if ms is None else timeline(0.0, ms, longest, kind)
        for ms, kind in ((timing.old_ms, "block"), (timing.new_ms, "bar"))
    ]
    ratio = "–" if timing.ratio is None else f"{timing.ratio:.2f}×"
    cells = [
        el("td", text, class_="ms") for text in (*map(ms_of, (timing.old_ms, timing.new_ms)), ratio)
    ]
    return el("tr", el("td", timing.path), *cells, el("td", *bars))


def _passages(difference: Difference) -> Markup:
    rows = [row_of(el("del", id_), "first run only") for id_ in difference.only_old]
    rows += [row_of(el("ins", id_), "second run only") for id_ in difference.only_new]
    if not rows:
        return _same("passages")
    return el("div", table(("passage", "seen in"), rows), class_="changes")


def _sentences(difference: Difference) -> Markup:
    rows = [
        row_of(
            one.path,
            one.passage,
            el("del" if one.old_kept else "ins", one.text),
            "first" if one.old_kept else "second",
            f"{score(one.old_score)} → {score(one.new_score)}",
        )
        for one in difference.sentences
    ]
    if not rows:
        return _same("what both runs decided on")
    heads = ("step", "passage", "sentence", "kept in", "score")
    return el("div", table(heads, rows), class_="changes")


def _texts(texts: tuple[tuple[str, tuple[Change, ...]], ...]) -> Markup:
    shown = [
        joined([el("p", path, class_="quiet mono"), el("pre", *map(_change, pieces))])
        for path, pieces in texts
    ]
    return el("div", *shown, class_="changes") if shown else _same("texts")


def _change(change: Change) -> Part:
    kind, text = change
    return text if kind == "same" else el("del" if kind == "old" else "ins", text)
