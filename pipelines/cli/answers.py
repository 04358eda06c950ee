"""Answers as a person reads them on a terminal, and as programs read them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipelines.cli.terminal import remark, say
from rag.tracing.describe import attention_json, context_json, edges_json
from rag.tracing.wording import byte_size

if TYPE_CHECKING:
    from rag.records import Answer, Passage, Route

REFUSAL = "No passage supports an answer."


def as_json(answer: "Answer", route: "Route | None" = None) -> dict[str, Any]:
    """Return what programs may rely on: the keys that the documentation lists.

    Args:
        answer: of a pipeline.
        route: where the question was sent, if the pipeline routes.
    """
    return {
        "answer": REFUSAL if answer.abstained else answer.text,
        "abstained": answer.abstained,
        "citations": [
            {
                "passage_id": c.passage_id,
                "document": c.document,
                "start": c.start,
                "end": c.end,
                "quote": c.quote,
                "answer_start": c.answer_start,
                "answer_end": c.answer_end,
                "number": c.number,
                "score": c.score,
                **({} if c.page is None else {"page": c.page}),
            }
            for c in answer.citations
        ],
        "unsupported": [span.of(answer.text) for span in answer.unsupported],
        **({"attention": attention_json(answer)} if answer.attention else {}),
        **({"context": context_json(answer)} if answer.context else {}),
        "passages": [
            {
                "id": passage.id,
                "document": passage.document,
                "title": passage.title,
                "score": passage.score,
                "text": passage.text,
                "kept": [[span.start, span.end] for span in _kept(passage)],
                **({"edges": edges_json(passage)} if passage.edges else {}),
            }
            for passage in answer.passages
        ],
        "kv": {
            "hits": answer.cache.hits,
            "misses": answer.cache.misses,
            "bytes": answer.cache.bytes,
            "segments": dict(answer.cache.reasons),
        },
        "tokens": {
            "prompt": answer.tokens.prompt,
            "cached": answer.tokens.cached,
            "prefilled": answer.tokens.prefilled,
            "generated": answer.tokens.generated,
        },
        "timings_ms": dict(answer.timings_ms),
        "mode": answer.mode,
        "model": answer.model,
        **({"adapter": answer.adapter} if answer.adapter else {}),
        **({} if route is None else {"route": _route_json(route)}),
    }


def _route_json(route: "Route") -> dict[str, Any]:
    return {
        "labels": list(route.labels),
        "probs": dict(route.probs),
        "source": route.source,
        "fallback": route.fallback,
        "reason": route.reason,
    }


def draw(answer: "Answer") -> None:
    """Print the answer with its citations, and a line of numbers."""
    from rag.generation.citations import marked
    from rag.generation.refusal import is_refusal

    if answer.abstained:
        say(REFUSAL)
        if answer.text and not is_refusal(answer.text):
            say(f"  (what the model said, unsupported: {answer.text})")
    else:
        say(marked(answer.text, answer.citations, answer.unsupported))
    seen = set()
    for c in answer.citations:
        if (c.passage_id, c.start) in seen:
            continue
        seen.add((c.passage_id, c.start))
        page = "" if c.page is None else f", page {c.page}"
        say(f"  [{c.number}] {c.document}{page}, characters {c.start}-{c.end}:")
        say(f"      “{' '.join(c.quote.split())}”")
    use, tokens, ms = answer.cache, answer.tokens, answer.timings_ms
    remark(
        f"{answer.mode}, {answer.model}: {tokens.prompt} prompt tokens, {tokens.cached} from the "
        f"KV cache ({use.hits} hits, {use.misses} misses, {byte_size(use.bytes)}), "
        f"first token after {ms['ttft']:.0f} ms, all after {ms['total']:.0f} ms"
    )
    if any(step.seconds for step in answer.context):
        from rag.generation.context_plan import explained

        remark(explained(answer.context))


def routed(route: "Route") -> str:
    """Return where a question was sent, in one line, with what was changed after the router."""
    labels = [
        f"{label} ({route.probs[label]:.2f})" if label in route.probs else label
        for label in route.labels
    ]
    sent = f"routed to {', '.join(labels) or 'no label'}"
    return f"{sent}; {route.reason}" if route.reason else sent


def draw_passages(passages: "Sequence[Passage]") -> None:
    """Print every passage; once pruned, its kept sentences marked + and its dropped ones -.

    Kept words stand in one line.
    """
    for number, passage in enumerate(passages, 1):
        kept = set(passage.kept_rows)
        score = "" if passage.score is None else f", score {passage.score:.2f}"
        say(f"\n{number}. {passage.id}: {passage.title}{score}")
        pruned = passage.kept is not None
        if passage.kept is not None and passage.kept.unit == "word":
            words = passage.kept.sentences
            say(f"   {len(passage.kept.kept_rows)} of {len(words)} words kept")
            say(f"   + {' '.join(passage.kept.text(passage.text).split())}")
            continue
        if pruned:
            say(f"   {len(kept)} of {len(passage.sentences)} sentences kept")
        for row, span in enumerate(passage.sentences):
            mark = ("+ " if row in kept else "- ") if pruned else ""
            say(f"   {mark}{' '.join(span.of(passage.text).split())}")


def _kept(passage: "Passage") -> tuple[Any, ...]:
    return passage.sentences if passage.kept is None else passage.kept.spans
