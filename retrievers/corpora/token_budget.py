"""A token budget that modalities share: in proportion to their probabilities, none left out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate


def within_budget(
    tokens: Sequence[Sequence[int]], probs: Sequence[float], budget: int
) -> tuple[int, ...]:
    """Return how many passages of each modality are kept, the best ones.

    A passage has a price: the tokens of its modality up to and with it, over the modality's share
    of the probabilities. That is the budget at which the share alone would pay for it. The first
    passage of a modality costs at most twice its tokens, so that no modality is crowded out by
    passages as long as its own; the very first passage of all costs nothing. Passages are taken by
    price, ties to first passages and then in order of modalities, up to the one that does not fit
    any more. So what a modality does not use goes to the others, and a larger budget only adds. The
    budget is exceeded by the very first passage alone, where that is longer.
    Source: prices are the finishing times of weighted fair queueing, Demers et al. 1989,
    doi:10.1145/75246.75248; the two exceptions are ours.

    Args:
        tokens: of each modality's passages, best first, at least 0; the most probable comes first.
        probs: of the modalities, at least 0; if all are 0 they share alike.
        budget: tokens for all of them, at least 1.

    Raises:
        ValueError: if the lengths differ, or a number is outside its range.
    """
    if budget < 1:
        raise ValueError(f"budget must be at least 1, got {budget}")
    if len(tokens) != len(probs):
        raise ValueError(f"probs must be one a modality, {len(tokens)}, got {len(probs)}")
    if any(not prob >= 0 for prob in probs):
        raise ValueError(f"probs must be at least 0, got {min(probs)}")
    whole = sum(probs)
    shares = [prob / whole if whole else 1 / len(probs) for prob in probs]
    priced = sorted(
        (price, min(rank, 1), modality, rank)
        for modality, (lengths, share) in enumerate(zip(tokens, shares, strict=True))
        for rank, price in enumerate(_prices(lengths, share))
    )
    very_first = next((row for row, lengths in enumerate(tokens) if lengths), 0)
    order = [(very_first, 0), *((m, r) for *_, m, r in priced if (m, r) != (very_first, 0))]
    kept, spent = [0] * len(tokens), 0
    for modality, rank in order if priced else ():
        spent += tokens[modality][rank]
        if spent > budget and any(kept):
            break
        kept[modality] += 1
    return tuple(kept)


def _prices(lengths: Sequence[int], share: float) -> list[float]:
    prices = [total / share if share else float("inf") for total in accumulate(lengths)]
    if prices:
        prices[0] = min(prices[0], 2.0 * lengths[0])
    return prices
