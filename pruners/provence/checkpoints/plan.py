"""A layout: how one project's checkpoints are recognised and what their tensors are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pruners.provence.checkpoints.contents import Contents
from pruners.provence.checkpoints.families import Family
from pruners.provence.checkpoints.published import Published


@dataclass(frozen=True, slots=True)
class Plan:
    """How the tensors of one checkpoint become a model.

    Attributes:
        family: of the trunk, with the names of its rerank head.
        config: configuration of the trunk.
        token_head: name of the token head.
        published: recommended settings.
        prefix: of the names of trunk and rerank head.
        ignored: starts of names that no output depends on.
        query_text: changes a query before it is read; None reads it as it is.
        single_separator: whether one separator stands between query and passage, whatever the
            tokenizer's own template for pairs.
    """

    family: Family
    config: Mapping[str, Any]
    token_head: str
    published: Published
    prefix: str = ""
    ignored: tuple[str, ...] = ()
    query_text: Callable[[str], str] | None = None
    single_separator: bool = False


@dataclass(frozen=True, slots=True)
class Layout:
    """One project's way to store a checkpoint.

    Attributes:
        name: of the project, as a person knows it.
        looks_for: what it is recognised by, in words.
        plan: gives the plan for a folder, or None if the folder is in another layout.
    """

    name: str
    looks_for: str
    plan: Callable[[Contents], Plan | None]
