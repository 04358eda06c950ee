"""Hops: scores that spread from seeds along the best path of a few edges."""

import numpy as np

from retrievers.graph.pagerank import Walk, check_seeds


def hops(
    walk: Walk, seeds: np.ndarray, *, steps: int = 2, decay: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows within a few edges of the seeds, and their scores.

    The score of v is the largest, over all seeds s and all paths of at most `steps` edges from s to
    v, of `seeds[s]` times `decay * w` for each edge, where w is the edge's weight divided by the
    heaviest of the whole graph. So w is in (0, 1], a seed keeps at least its own score, no score is
    above the best seed, and scaling all weights changes nothing. Paths do not add up, unlike in
    PageRank: many weak ways to a row are worth the best of them, and hubs gain nothing. Ours; it is
    spreading activation (Crestani 1997, doi:10.1023/A:1006569829653) with a maximum for the sum.

    Args:
        walk: the graph, of n rows; edges are followed from u to v.
        seeds: score of each seed, 0 for other rows, (n,), finite, at least 0, not all 0. They are
            not normalised.
        steps: most edges from a seed, at least 0.
        decay: factor of each edge, in [0, 1].

    Returns:
        The rows with a score, ascending, int64, (m,), and the scores, above 0, float64, (m,).

    Raises:
        ValueError: if an argument is not as said.
    """
    if steps < 0:
        raise ValueError(f"steps must be at least 0, got {steps}")
    if not 0 <= decay <= 1:
        raise ValueError(f"decay must be in [0, 1], got {decay}")
    check_seeds("seeds", seeds, len(walk))
    best = np.array(seeds, np.float64)
    raised = np.flatnonzero(best)
    for _ in range(steps):
        places, targets, chances = walk.edges(raised)
        # The weight again, up to rounding, and never above 1: s * (1 / s) rounds to at most 1.
        weights = walk.strengths[raised][places] * chances
        arriving = (decay * best[raised])[places] * weights
        better = arriving > best[targets]
        targets = targets[better]
        np.maximum.at(best, targets, arriving[better])
        raised = np.unique(targets)
    rows = np.flatnonzero(best)
    return rows, best[rows]
