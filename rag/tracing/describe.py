"""What a step's output puts into the trace: its value as events of plain JSON."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from rag.records import (
    Answer,
    Completion,
    Judgement,
    Passage,
    Query,
    Route,
    SentenceScore,
    Span,
    text_sha,
)

Event = tuple[str, dict[str, Any]]
Described = set[tuple[str, str]]

_SHOWN = 200
_HASH = 12


def events_of(value: Any, described: Described | None = None) -> list[Event]:
    """Return the events, each a name and its data, that tell of a value.

    Passages are `retrieved`; those that a pruner decided on are `pruned`, one event each. An answer
    gives `kv`, `prompt`, `generated`, `citations`, `attention` and `context`, as far as it has
    them; the other records one event each: `query`, `queries`, `route`, `judge`, `answers`,
    `rankings`. Anything else is a `value`, shortened.

    Args:
        value: what a step gave.
        described: passages, by id and hash of the text, whose text the trace holds already; it is
            left out of the event, and new ones are added. By default every text is written.
    """
    for kind, describe in _RECORDS.items():
        if isinstance(value, kind):
            return describe(value)
    if isinstance(value, Passage):
        value = [value]
    if isinstance(value, Sequence) and not isinstance(value, str) and value:
        if _all(value, Passage):
            return _passages(value, described)
        if _all(value, Query):
            return [("queries", {"queries": [{"text": query.text} for query in value]})]
        if _all(value, Answer):
            return [("answers", {"answers": [_short_answer(answer) for answer in value]})]
        if all(isinstance(one, Sequence) and _all(one, Passage) for one in value):
            return [("rankings", {"rankings": [_hits(ranking) for ranking in value]})]
    return [("value", {"type": type(value).__name__, "value": _short(value)})]


def _all(values: Sequence[Any], kind: type) -> bool:
    return not isinstance(values, str) and all(isinstance(value, kind) for value in values)


def _passages(passages: Sequence[Passage], described: Described | None) -> list[Event]:
    events: list[Event] = []
    whole = [(rank, p) for rank, p in enumerate(passages, 1) if p.kept is None]
    if whole:
        rows = [_whole(passage, rank, described) for rank, passage in whole]
        events.append(("retrieved", {"passages": rows}))
    events += [("pruned", _pruned(p, described)) for p in passages if p.kept is not None]
    return events


def _whole(passage: Passage, rank: int, described: Described | None) -> dict[str, Any]:
    return {
        "id": passage.id,
        "document": passage.document,
        **({"title": passage.title} if passage.title else {}),
        "score": _number(passage.score),
        "rank": rank,
        "span": _span(passage.span),
        **({"edges": edges_json(passage)} if passage.edges else {}),
        **_text(passage, described),
    }


def edges_json(passage: Passage) -> list[dict[str, Any]]:
    """Return the edges that leave a passage, as plain JSON."""
    return [
        {"target": edge.target, "kind": edge.kind, "weight": _number(edge.weight)}
        for edge in passage.edges
    ]


def _pruned(passage: Passage, described: Described | None) -> dict[str, Any]:
    kept = passage.kept
    assert kept is not None, "only pruned passages come here"
    return {
        "passage": passage.id,
        "method": kept.method,
        "threshold": _number(kept.threshold),
        "keep_ratio": _number(kept.keep_ratio),
        **({} if kept.unit == "sentence" else {"unit": kept.unit}),
        "sentences": [_sentence(sentence) for sentence in kept.sentences],
        **({} if kept.rerank_score is None else {"rerank_score": _number(kept.rerank_score)}),
        **_placed_text(passage, described),
    }


def _sentence(sentence: SentenceScore) -> dict[str, Any]:
    return {
        "span": _span(sentence.span),
        "score": _number(sentence.score),
        "kept": sentence.kept,
        "forced": sentence.forced,
    }


def _text(passage: Passage, described: Described | None) -> dict[str, Any]:
    if described is None:
        return {"text": passage.text}
    key = (passage.id, text_sha(passage.text))
    if key in described:
        return {}
    described.add(key)
    return {"text": passage.text}


def _placed_text(passage: Passage, described: Described | None) -> dict[str, Any]:
    """Return a passage's text and where it stands, unless the trace holds it already."""
    text = _text(passage, described)
    if not text:
        return {}
    title = {"title": passage.title} if passage.title else {}
    return {"document": passage.document, **title, "span": _span(passage.span), **text}


def _hits(ranking: Sequence[Passage]) -> list[dict[str, Any]]:
    return [
        {"id": passage.id, "score": _number(passage.score), "rank": rank}
        for rank, passage in enumerate(ranking, 1)
    ]


def _answer(answer: Answer) -> list[Event]:
    events: list[Event] = []
    use, tokens = answer.cache, answer.tokens
    if use.reasons or use.hits or use.misses:
        kv = {"hits": use.hits, "misses": use.misses, "bytes": use.bytes}
        events.append(("kv", kv | {"segments": dict(use.reasons)}))
    if answer.prompt:
        prompt = {"text": answer.prompt, "tokens": tokens.prompt, "mode": answer.mode}
        events.append(("prompt", prompt | {"cached": tokens.cached, "prefilled": tokens.prefilled}))
    events.append(("generated", _generated(answer)))
    if answer.citations or answer.unsupported:
        events.append(("citations", _citations(answer)))
    if answer.attention:
        events.append(("attention", {"passages": attention_json(answer)}))
    if answer.context:
        events.append(("context", {"passages": context_json(answer)}))
    return events


def attention_json(answer: Answer) -> list[dict[str, Any]]:
    """Return where the model looked while it answered, as plain JSON."""
    return [
        {
            "passage_id": one.passage_id,
            "share": _number(one.share),
            "sentences": [_number(share) for share in one.sentences],
        }
        for one in answer.attention
    ]


def context_json(answer: Answer) -> list[dict[str, Any]]:
    """Return how each passage was read and why, as plain JSON, without what was not measured."""
    return [
        {
            "passage_id": one.passage_id,
            "step": one.step,
            "reason": one.reason,
            "tokens": one.tokens,
            "kept_tokens": one.kept_tokens,
            **({} if one.load_ratio is None else {"load_ratio": _number(one.load_ratio)}),
            **({"seconds": {k: _number(s) for k, s in one.seconds.items()}} if one.seconds else {}),
        }
        for one in answer.context
    ]


def _generated(answer: Answer) -> dict[str, Any]:
    timings = answer.timings_ms
    return {
        "text": answer.text,
        "model": answer.model,
        **({"adapter": answer.adapter[:_HASH]} if answer.adapter else {}),
        "tokens": answer.tokens.generated,
        "ttft_ms": _number(timings.get("ttft")),
        "tokens_per_s": _rate(answer.tokens.generated, timings.get("decode", 0.0)),
        "finish": answer.finish,
        "abstained": answer.abstained,
    }


def _rate(generated: int, decode_ms: float) -> float:
    """Return decoded tokens a second, the first not counted."""
    return round((generated - 1) / decode_ms * 1e3, 1) if generated > 1 and decode_ms > 0 else 0.0


def _citations(answer: Answer) -> dict[str, Any]:
    citations = [
        {
            "number": c.number,
            "passage_id": c.passage_id,
            "document": c.document,
            "start": c.start,
            "end": c.end,
            "quote": c.quote,
            "answer_start": c.answer_start,
            "answer_end": c.answer_end,
            "score": _number(c.score),
            **({} if c.page is None else {"page": c.page}),
        }
        for c in answer.citations
    ]
    return {"citations": citations, "unsupported": [_span(span) for span in answer.unsupported]}


def _short_answer(answer: Answer) -> dict[str, Any]:
    return {"text": answer.text, "model": answer.model, "abstained": answer.abstained}


def _completion(completion: Completion) -> list[Event]:
    data: dict[str, Any] = {"text": completion.text, "finish": completion.finish}
    if completion.logprobs:
        data["tokens"] = len(completion.logprobs)
        data["logprob_min"] = _number(min(completion.logprobs))
        data["logprob_mean"] = _number(sum(completion.logprobs) / len(completion.logprobs))
    return [("generated", data)]


def _route(route: Route) -> list[Event]:
    data = {
        "labels": list(route.labels),
        "probs": {label: _number(prob) for label, prob in route.probs.items()},
        "source": route.source,
        "fallback": route.fallback,
        **({"reason": route.reason} if route.reason else {}),
    }
    return [("route", data)]


def _judgement(judgement: Judgement) -> list[Event]:
    score = _number(judgement.score)
    return [("judge", {"passed": judgement.passed, "score": score, "reason": judgement.reason})]


_RECORDS: dict[type, Callable[[Any], list[Event]]] = {
    Answer: _answer,
    Completion: _completion,
    Route: _route,
    Judgement: _judgement,
    Query: lambda query: [("query", {"text": query.text})],
}


def _span(span: Span) -> list[int]:
    return [span.start, span.end]


def _number(value: float | None) -> float | None:
    """Return a number as JSON can hold it, to six digits after the point."""
    return None if value is None or not math.isfinite(value) else round(float(value), 6)


def _short(value: Any) -> str:
    shown = value if isinstance(value, str) else repr(value)
    return shown if len(shown) <= _SHOWN else shown[: _SHOWN - 1] + "…"
