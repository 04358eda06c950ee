"""OpenProvence by hotchpotch: `hotchpotch/open-provence-reranker-*`, and what its code trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pruners.provence.checkpoints.contents import CONFIG, Contents
from pruners.provence.checkpoints.families import FAMILIES, Family
from pruners.provence.checkpoints.plan import Layout, Plan
from pruners.provence.checkpoints.published import Published

PUBLISHED = Published(
    threshold=0.1,
    rounding="mean",
    rerank="probability",
    languages=("en", "ja"),
    licence="mit",
    verbatim=True,
)
TOKEN_HEAD = "pruning_head.classifier"  # noqa: S105
_PREFIX = "ranking_model."


def plan(contents: Contents) -> Plan | None:
    """Return how to read a checkpoint with a `pruning_head` beside a sequence classifier.

    Checked against hotchpotch/open_provence: names, with the prefix `ranking_model.` or, in old
    files, without; the token head; the sigmoid of the rerank score and the best block; the mean of
    token probabilities; sentences read with their white space; a title followed by a line break;
    `max_length` and `default_threadshold` (so spelled) of the configuration.

    It differs in three points. A title stands in front of every block, not the first alone. A
    sentence longer than a block is read in full, where the original cuts it. A sentence without
    tokens scores 1, where the original gives 0.

    Raises:
        ValueError: if the trunk's family is unknown or a setting is not of its kind.
    """
    if not contents.has(f"{TOKEN_HEAD}."):
        return None
    prefix = _PREFIX if contents.has(_PREFIX) else ""
    base = contents.config.get("base_model_config") or contents.config
    return Plan(
        _family(contents, base, prefix),
        base,
        TOKEN_HEAD,
        _published(contents),
        prefix,
        ignored=("pruning_head.pooling_weights.",),
    )


def _published(contents: Contents) -> Published:
    config = contents.config
    stated = config.get("default_threadshold")
    if stated is None:
        stated = config.get("default_threshold")
    window = config.get("max_length", PUBLISHED.window)
    if not isinstance(window, int) or window < 16:
        raise ValueError(
            f"max_length in {contents.folder / CONFIG} must be at least 16, got {window!r}"
        )
    if stated is None:
        return replace(PUBLISHED, window=window)
    if not isinstance(stated, int | float) or not 0 <= stated <= 1:
        raise ValueError(
            f"default_threadshold in {contents.folder / CONFIG} must be in [0, 1], got {stated!r}"
        )
    return replace(PUBLISHED, window=window, threshold=float(stated))


def _family(contents: Contents, base: Mapping[str, Any], prefix: str) -> Family:
    """Return the family that the configuration states, or else the tensors' names suggest."""
    stated = base.get("model_type")
    if isinstance(stated, str) and stated in FAMILIES:
        return FAMILIES[stated]
    named = [family for family in FAMILIES.values() if contents.has(prefix + family.prefix)]
    if len(named) == 1 and base is contents.config:
        return named[0]
    raise ValueError(
        f"the trunk of {contents.folder} must be of a family in {sorted(FAMILIES)}, got "
        f"model_type {stated!r} in its {CONFIG}"
    )


LAYOUT = Layout("OpenProvence", "pruning_head.classifier.*", plan)
