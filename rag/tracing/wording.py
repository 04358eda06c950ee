"""Events of a trace in a line of words each, for the tree, the page and the differences."""

import json
from collections.abc import Callable, Mapping
from typing import Any

_LONGEST = 160


def line_of(event: Mapping[str, Any]) -> str:
    """Return what an event says, in one line.

    An event that `events_of` did not write, or that was changed since, is shown as its data.
    """
    say = _WORDS.get(event["name"])
    if say is not None:
        try:
            return say(event)
        except (KeyError, TypeError, ValueError, AttributeError):
            pass
    data = {key: value for key, value in event.items() if key not in _WHERE}
    shown = json.dumps(data, ensure_ascii=False) if data else ""
    return f"{event['name']}: {short(shown)}" if shown else event["name"]


def byte_size(count: float) -> str:
    """Return a number of bytes as a person reads it."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def milliseconds(ms: float) -> str:
    """Return a time with three digits that say something: `0.42 ms`, `12.3 ms`, `1,234 ms`."""
    return f"{ms:,.{2 if ms < 10 else 1 if ms < 100 else 0}f} ms"


def short(text: str, longest: int = _LONGEST) -> str:
    """Return a text as one line of at most `longest` characters."""
    line = " ".join(text.split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def score(value: Any) -> str:
    """Return a score as a person reads it; `–` for none."""
    return "–" if value is None else f"{value:.3f}"


def segment_state(reason: str) -> str:
    """Return `hit`, `miss` or `corrupt` for what a KV store said of a segment."""
    word = reason.partition(" ")[0].rstrip(":")
    return word if word in ("hit", "corrupt") else "miss"


_WHERE = ("kind", "name", "at_ms", "step", "path")


def _retrieved(event: Mapping[str, Any]) -> str:
    rows = event["passages"]
    shown = ", ".join(f"{row['id']} {score(row.get('score'))}" for row in rows[:5])
    more = f", and {len(rows) - 5} more" if len(rows) > 5 else ""
    return f"{_count(len(rows), 'passage')}{': ' if rows else ''}{shown}{more}"


def _pruned(event: Mapping[str, Any]) -> str:
    sentences = event["sentences"]
    kept = sum(bool(sentence["kept"]) for sentence in sentences)
    ratio = event.get("keep_ratio")
    part = "" if ratio is None else f", {ratio:.0%} of the text"
    unit = "word" if event.get("unit") == "word" else "sentence"
    return f"{event['passage']}: kept {kept} of {_count(len(sentences), unit)}{part}"


def _kv(event: Mapping[str, Any]) -> str:
    hits, misses = event["hits"], event["misses"]
    return f"KV: {_count(hits, 'hit')}, {_count(misses, 'miss')}, {byte_size(event['bytes'])} read"


def _prompt(event: Mapping[str, Any]) -> str:
    cached = event.get("cached")
    mode = f", {event['mode']}" if event.get("mode") else ""
    return f"prompt: {_count(event['tokens'], 'token')}{mode}" + (
        "" if cached is None else f", {cached:,} of them cached"
    )


def _generated(event: Mapping[str, Any]) -> str:
    facts = []
    if event.get("tokens") is not None:
        facts.append(_count(event["tokens"], "token"))
    if event.get("ttft_ms") is not None:
        facts.append(f"first after {milliseconds(event['ttft_ms'])}")
    if event.get("tokens_per_s"):
        facts.append(f"{event['tokens_per_s']:g} tokens/s")
    if event.get("logprob_mean") is not None:
        facts.append(
            f"log-probability {event['logprob_mean']:.2f}, least {event['logprob_min']:.2f}"
        )
    if event.get("adapter"):
        facts.append(f"adapter {event['adapter']}")
    if event.get("abstained"):
        facts.append("nothing supports it")
    said = f"“{short(event['text'], 100)}”" if "text" in event else "text not kept"
    return f"generated: {said}" + (f" ({', '.join(facts)})" if facts else "")


def _citations(event: Mapping[str, Any]) -> str:
    cited = [f"[{c['number']}] {c['passage_id']}" for c in event["citations"]]
    bare = len(event.get("unsupported") or ())
    without = f"{_count(bare, 'sentence')} without support" if bare else ""
    return "cites " + "; ".join(filter(None, [", ".join(cited) or "nothing", without]))


def _attention(event: Mapping[str, Any]) -> str:
    shares = [f"{one['passage_id']} {one['share']:.0%}" for one in event["passages"]]
    return f"looked at {', '.join(shares)}"


def _context(event: Mapping[str, Any]) -> str:
    steps = [f"{one['passage_id']} as {one['step']}" for one in event["passages"]]
    return f"read {', '.join(steps)}"


def _route(event: Mapping[str, Any]) -> str:
    labels = ", ".join(event["labels"]) or "none of them"
    probs = ", ".join(f"{label} {score(prob)}" for label, prob in event["probs"].items())
    fallback = ", not sure: fell back" if event.get("fallback") else ""
    return f"route: {labels}{f' ({probs})' if probs else ''}{fallback}"


def _judge(event: Mapping[str, Any]) -> str:
    reason = f": {short(event['reason'])}" if event.get("reason") else ""
    return f"judge: {'passed' if event['passed'] else 'not passed'} {score(event['score'])}{reason}"


def _query(event: Mapping[str, Any]) -> str:
    return f"query: “{short(event['text'])}”" if "text" in event else "query: text not kept"


def _queries(event: Mapping[str, Any]) -> str:
    texts = [f"“{short(query['text'], 60)}”" for query in event["queries"] if "text" in query]
    return f"{_count(len(event['queries']), 'query')}{': ' if texts else ''}{', '.join(texts)}"


def _answers(event: Mapping[str, Any]) -> str:
    texts = [f"“{short(one['text'], 60)}”" for one in event["answers"] if "text" in one]
    return f"{_count(len(event['answers']), 'answer')}{': ' if texts else ''}{', '.join(texts)}"


def _rankings(event: Mapping[str, Any]) -> str:
    sizes = [len(ranking) for ranking in event["rankings"]]
    return f"{_count(len(sizes), 'ranking')} of {', '.join(map(str, sizes))} passages"


def _carry(event: Mapping[str, Any]) -> str:
    values = [f"{name} = {short(value, 60)}" for name, value in event["values"].items()]
    return f"begins with {', '.join(values)}"


def _value(event: Mapping[str, Any]) -> str:
    if "value" not in event:
        return "value not kept"
    kind = f" ({event['type']})" if event.get("type") else ""
    return f"value: {short(event['value'])}{kind}"


def _count(count: int, noun: str) -> str:
    plural = {"miss": "misses", "query": "queries"}.get(noun, f"{noun}s")
    return f"{count:,} {noun if count == 1 else plural}"


_WORDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "answers": _answers,
    "attention": _attention,
    "carry": _carry,
    "citations": _citations,
    "context": _context,
    "generated": _generated,
    "judge": _judge,
    "kv": _kv,
    "prompt": _prompt,
    "pruned": _pruned,
    "queries": _queries,
    "query": _query,
    "rankings": _rankings,
    "retrieved": _retrieved,
    "route": _route,
    "value": _value,
}
