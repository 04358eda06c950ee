"""Budgets: the best sentences that fit into a number of tokens."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

from pruners.decide import Place, Verdicts, best_first
from rag.records import Budget, Passage, SentenceScore


def estimated_tokens(text: str) -> int:
    """Return a text's UTF-8 bytes over three, rounded up.

    English runs at four to five bytes a token and code near three, so this is rather too many.
    """
    return math.ceil(len(text.encode("utf-8", "surrogatepass")) / 3)


def within(
    budget: Budget,
    passages: Sequence[Passage],
    verdicts: Verdicts,
    *,
    count: Callable[[str], int] = estimated_tokens,
    held: Sequence[frozenset[int]] = (),
    titles: Sequence[frozenset[int]] = (),
) -> Verdicts:
    """Return the verdicts once the budget has had its say.

    Sentences are taken in one order: first `per_passage_min` of each passage, then what `protect`
    and `min_keep` hold, then all others that stay, each group best first. The first that does not
    fit ends it, in all passages or in its own as `scope` says: so a larger budget only adds. A
    greedy rule that went on to shorter sentences would not promise that, and there is none.

    Tokens of a passage are those of the text that is left of it, or those of its sentences one by
    one if they are more: many tokenizers give another number for a text than for its parts, and a
    reader may take either. Nothing left is 0 tokens.

    Args:
        budget: the most to keep.
        passages: what the verdicts are on.
        verdicts: before the title rule.
        count: tokens of a text.
        held: of each passage the rows that `protect` and `min_keep` hold; empty for none.
        titles: of each passage the rows that its first taken sentence brings along; empty for none.
    """
    taken: list[dict[int, str]] = [{} for _ in passages]
    spent = [0] * len(passages)
    full: set[int] = set()
    counted = cache(count)
    for (place, row), why in _in_order(budget, passages, verdicts, held):
        purse = place if budget.scope == "passage" else 0
        if purse in full or row in taken[place]:
            continue
        brought = titles[place] if titles else frozenset()
        more = taken[place] | dict.fromkeys(brought - taken[place].keys(), "title") | {row: why}
        parts = [verdicts[place][at].span.of(passages[place].text) for at in sorted(more)]
        tokens = max(count("".join(parts)), sum(map(counted, parts)))
        others = sum(spent) - spent[place] if budget.scope == "query" else 0
        if others + tokens > budget.tokens:
            full.add(purse)
            continue
        taken[place], spent[place] = more, tokens
    return [
        [_settled(verdict, of_passage.get(row)) for row, verdict in enumerate(found)]
        for found, of_passage in zip(verdicts, taken, strict=True)
    ]


def _in_order(
    budget: Budget,
    passages: Sequence[Passage],
    verdicts: Verdicts,
    held: Sequence[frozenset[int]],
) -> list[tuple[Place, str]]:
    """Return the places that may be taken, in the order in which they are, and why each is."""
    minimum: list[tuple[Place, str]] = []
    guarded: list[tuple[Place, str]] = []
    others: list[tuple[Place, str]] = []
    seen = [0] * len(passages)
    for place, row in best_first(passages, verdicts):
        verdict = verdicts[place][row]
        seen[place] += 1
        if seen[place] <= budget.per_passage_min:
            minimum.append(((place, row), "min_keep"))
        elif held and row in held[place]:
            guarded.append(((place, row), ""))
        elif verdict.kept:
            others.append(((place, row), ""))
    return [*minimum, *guarded, *others]


def _settled(verdict: SentenceScore, why: str | None) -> SentenceScore:
    if verdict.kept == (why is not None):
        return verdict
    if why is None:
        return replace(verdict, kept=False, forced="budget")
    return replace(verdict, kept=True, forced="title" if why == "title" else "min_keep")
