"""Evidence of several answers as that of one: passages without repetition, counts added up."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from rag.records import Answer, CacheUse, Citation, Passage, TokenUse


def merged_passages(answers: Sequence[Answer]) -> tuple[Passage, ...]:
    """Return the passages of all answers, each id once, where it stands first."""
    found: dict[str, Passage] = {}
    for answer in answers:
        for passage in answer.passages:
            found.setdefault(passage.id, passage)
    return tuple(found.values())


def merged_citations(answers: Sequence[Answer]) -> tuple[Citation, ...]:
    """Return the citations of answers with one text, by position, each quote once a sentence.

    Passages are numbered anew, from 1 in order of first use.
    """
    found: dict[tuple[int, str, int, int], Citation] = {}
    for answer in answers:
        for one in answer.citations:
            found.setdefault((one.answer_start, one.passage_id, one.start, one.end), one)
    ordered = sorted(found.values(), key=lambda one: one.answer_start)
    numbers: dict[str, int] = {}
    return tuple(
        replace(one, number=numbers.setdefault(one.passage_id, len(numbers) + 1)) for one in ordered
    )


def with_costs(answer: Answer, parts: Sequence[Answer]) -> Answer:
    """Return the answer with the cache use, tokens and timings of all parts, added up.

    That is what they took one after the other; of a segment that several parts name, the last
    reason stays.
    """
    timings: defaultdict[str, float] = defaultdict(float)
    reasons: dict[str, str] = {}
    for part in parts:
        reasons |= part.cache.reasons
        for name, spent in part.timings_ms.items():
            timings[name] += spent
    caches, tokens = [part.cache for part in parts], [part.tokens for part in parts]
    return replace(
        answer,
        cache=CacheUse(
            sum(c.hits for c in caches),
            sum(c.misses for c in caches),
            sum(c.bytes for c in caches),
            reasons,
        ),
        tokens=TokenUse(
            sum(t.prompt for t in tokens),
            sum(t.cached for t in tokens),
            sum(t.prefilled for t in tokens),
            sum(t.generated for t in tokens),
        ),
        timings_ms=dict(timings),
    )
