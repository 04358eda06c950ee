"""From probabilities of labels to the labels of a route: modality first, granularity second."""

from collections.abc import Mapping, Sequence

from rag.routing.labels import modality_of

NONE = "none"
"""The label of queries that need no corpus."""


def chosen_labels(
    probs: Mapping[str, float],
    modalities: Mapping[str, str],
    *,
    threshold: float | None = None,
) -> tuple[str, ...]:
    """Return the labels of a route, best first; ties go to the label that comes first.

    One label: the modality whose labels are the most probable together, and in it the most
    probable label, so that doubt between paragraph and document does not send a question to
    images. Several: the best label of each modality, if it reaches the threshold; `none` only goes
    alone; and if nothing reaches it, the most probable label.
    Source: Yeo et al. 2026 (UniversalRAG, version 3), arXiv:2504.20734, for several.

    Args:
        probs: of every label, at least one.
        modalities: of labels; one that is not there is a modality of its own.
        threshold: least probability of one of several labels; None chooses one label.

    Raises:
        ValueError: if there is no label.
    """
    if not probs:
        raise ValueError("probs must hold at least one label, got none")
    groups: dict[str, list[str]] = {}
    for label in probs:
        groups.setdefault(modality_of(label, modalities), []).append(label)
    if threshold is None:
        group = max(groups.values(), key=lambda labels: sum(probs[label] for label in labels))
        return (_best(group, probs),)
    best = [_best(group, probs) for group in groups.values()]
    over = [label for label in best if probs[label] >= threshold]
    several = [label for label in over if label != NONE] or over or [_best(list(probs), probs)]
    return tuple(sorted(several, key=lambda label: -probs[label]))


def _best(labels: Sequence[str], probs: Mapping[str, float]) -> str:
    return max(labels, key=lambda label: probs[label])
