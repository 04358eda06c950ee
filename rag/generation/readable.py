"""The ways in which a passage can be read: what a prompt and a KV store have of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rag.generation.context_plan import Readable, Rows, by_sentence, foreign, keeps
from rag.generation.prompt import rows_of_sentences

if TYPE_CHECKING:
    from rag.generation.prompt import PromptEncoder
    from rag.protocols import PassageCache
    from rag.records import Passage, Segment


def readable(
    prompt: PromptEncoder,
    passage: Passage,
    prefix: Segment,
    *,
    see_prefix: bool = True,
    anew: str = "",
) -> Readable:
    """Return how a passage can be read; `absent` is left empty.

    Of a selection of words a token is kept if its last character is. What was selected on another
    text than the passage has is not known of this one: all of it can be read, as text.

    Args:
        prompt: tokenises the passage.
        passage: with its selection, if it has one.
        prefix: of the prompt.
        see_prefix: whether the passage is encoded after the prefix.
        anew: why the mode computes the passage in any case.
    """
    segment = prompt.passage(passage, prefix)
    if not see_prefix:
        segment = replace(segment, parents=())
    every: Rows = segment, None
    if not keeps(passage) or passage.kept is None:
        return Readable(passage, every, every, anew=anew)
    if foreign(passage):
        why = "the selection was made on another text; all of this one is read"
        return Readable(passage, every, every, why, anew=anew)
    if by_sentence(passage):
        rows = segment, rows_of_sentences(segment, passage.kept_rows)
        return Readable(passage, rows, rows, anew=anew)
    text: Rows = prompt.kept_text(passage, prefix), None
    found = prompt.rows_of_spans(passage, segment, passage.kept.spans)
    if found is None:
        return Readable(passage, every, text, "no token tells which words it holds", anew=anew)
    cached = segment, None if len(found) == len(segment) else found
    return Readable(passage, cached, text, anew=anew)


def absent(cache: PassageCache | None, segment: Segment) -> str:
    """Return what a store says if it does not have a segment; empty if it has.

    A store that can `contains`, as `kvstore.store.KVStore`, loads nothing for that.
    """
    if cache is None:
        return "no store"
    contains = getattr(cache, "contains", None)
    if contains is not None:
        return "" if contains(segment) else "absent"
    found = cache.get(segment)
    return found.reason if found.kv is None else ""
