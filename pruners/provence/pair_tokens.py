"""Query and passage as token ids, made sentence by sentence, so that ranges are exact."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from rag.records import Passage

WINDOW = 256
QUERY_TOKENS = 48
TITLE_TOKENS = 32


@dataclass(frozen=True, slots=True)
class Block:
    """One input of the model: `[CLS] query [SEP] title sentence … sentence [SEP]`.

    Attributes:
        ids: token ids.
        types: token type of each id; all 0 where the tokenizer knows no types.
        rows: for each id the row of its sentence in the passage, or -1 for query, title and
            control tokens.
        query_dropped: tokens of the query that did not fit under its cap.
    """

    ids: tuple[int, ...]
    types: tuple[int, ...]
    rows: tuple[int, ...]
    query_dropped: int = 0

    def __len__(self) -> int:
        return len(self.ids)


def pair_blocks(
    tokenizer: Any,
    query: str,
    passage: Passage,
    window: int = WINDOW,
    query_tokens: int = QUERY_TOKENS,
    *,
    title_tokens: int = TITLE_TOKENS,
    verbatim: bool = False,
) -> list[Block]:
    """Return a passage as blocks of whole sentences, each with the query and the title in front.

    Each piece is tokenised on its own, stripped, and with one leading space unless it is the first
    of the passage's side: tokenizers that mark spaces see a running text, and a sentence's token
    range is exact. With `verbatim` each sentence is read as it stands instead, the white space that
    it ends in included, and the title with a line break. A control token that a text spells out,
    such as `[SEP]`, is read as the unknown token: no text can end the passage's side.

    The passage's title is the first piece of every block. It belongs to no sentence, so it is read
    and never scored: the sentences of an encyclopedia seldom name their subject, and second hops
    hang on it.

    A block takes sentences while they fit. A sentence longer than a block stands alone, cut into
    fragments of about equal length. So a block depends on nothing after it. A sentence without
    tokens is in no block.

    Args:
        tokenizer: a fast tokenizer of transformers with a template for pairs.
        query: the question.
        passage: its sentences partition its text.
        window: most tokens of a block, control tokens included.
        query_tokens: most tokens of the query; the rest is dropped and counted in the blocks.
        title_tokens: most tokens of the title; 0 leaves it out.
        verbatim: whether sentences are read with their own white space, as OpenProvence does.

    Raises:
        ValueError: if a cap is negative, or the caps leave no room for the passage.
    """
    if query_tokens < 0 or title_tokens < 0:
        got = f"{query_tokens} and {title_tokens}"
        raise ValueError(f"query_tokens and title_tokens must be at least 0, got {got}")
    template = _Template.of(tokenizer)
    least = template.controls + query_tokens + title_tokens + 1
    if window < least:
        raise ValueError(
            f"window must be at least {least}: {template.controls} control tokens, query_tokens "
            f"{query_tokens}, title_tokens {title_tokens} and one of the passage, got {window}"
        )
    asked = _ids(tokenizer, [query.strip()])[0]
    title = [passage.title.strip()] if title_tokens and passage.title.strip() else []
    sentences = [span.of(passage.text) for span in passage.sentences]
    if verbatim:
        texts = [f"{text}\n" for text in title] + sentences
    else:
        texts = _spaced(title + [text.strip() for text in sentences])
    pieces = _ids(tokenizer, texts)
    lead = pieces[0][:title_tokens] if title else []
    kept = asked[:query_tokens]
    room = window - template.controls - len(kept) - len(lead)
    return [
        template.block(kept, lead, content, len(asked) - len(kept))
        for content in _packed(pieces[len(title) :], room)
    ]


def _spaced(texts: list[str]) -> list[str]:
    """Return texts with one leading space each, the first that is not empty excepted."""
    first = next((place for place, text in enumerate(texts) if text), 0)
    return [f" {t}" if t and place != first else t for place, t in enumerate(texts)]


def _packed(pieces: Sequence[list[int]], room: int) -> Iterator[list[tuple[int, list[int]]]]:
    """Yield the contents of each block as (row, ids), of at most `room` ids together."""
    block: list[tuple[int, list[int]]] = []
    free = room
    for row, ids in enumerate(pieces):
        if not ids:
            continue
        if len(ids) > free and block:
            yield block
            block, free = [], room
        if len(ids) > room:
            parts = -(-len(ids) // room)
            cuts = [len(ids) * part // parts for part in range(parts + 1)]
            for start, end in pairwise(cuts):
                yield [(row, ids[start:end])]
            continue
        block.append((row, ids))
        free -= len(ids)
    if block:
        yield block


def _ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """Return the ids of each text; lone surrogates are read as `?`."""
    clean = [text.encode("utf-8", "replace").decode() for text in texts]
    if not clean:
        return []
    read = tokenizer(
        clean,
        add_special_tokens=False,
        truncation=False,
        padding=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    unknown = tokenizer.unk_token_id
    controls = set(tokenizer.all_special_ids) - {unknown}
    instead = [] if unknown is None else [unknown]
    return [
        [id_ for found in ids for id_ in (instead if found in controls else [found])]
        for ids in read["input_ids"]
    ]


@dataclass(frozen=True, slots=True)
class _Template:
    """Control tokens around a pair, as (id, type) before, between and after, and the sides' types.

    Read off an encoded pair, as tokenizers do not tell their template.
    """

    before: tuple[tuple[int, int], ...]
    between: tuple[tuple[int, int], ...]
    after: tuple[tuple[int, int], ...]
    query_type: int
    passage_type: int

    @property
    def controls(self) -> int:
        return len(self.before) + len(self.between) + len(self.after)

    @classmethod
    def of(cls, tokenizer: Any) -> _Template:
        read = tokenizer("a", "a", return_token_type_ids=True)
        sides = read.sequence_ids(0)
        tokens = list(zip(read["input_ids"], read["token_type_ids"], strict=True))
        if 0 not in sides or 1 not in sides:
            raise ValueError("tokenizer must read 'a' on both sides of a pair, got no token of it")
        start, middle = sides.index(0), sides.index(1)
        after_query = len(sides) - sides[::-1].index(0)
        end = len(sides) - sides[::-1].index(1)
        return cls(
            tuple(tokens[:start]),
            tuple(tokens[after_query:middle]),
            tuple(tokens[end:]),
            tokens[start][1],
            tokens[middle][1],
        )

    def block(
        self, query: list[int], title: list[int], content: list[tuple[int, list[int]]], dropped: int
    ) -> Block:
        sentences = [(id_, self.passage_type, row) for row, ids in content for id_ in ids]
        tokens = [
            *((*token, -1) for token in self.before),
            *((id_, self.query_type, -1) for id_ in query),
            *((*token, -1) for token in self.between),
            *((id_, self.passage_type, -1) for id_ in title),
            *sentences,
            *((*token, -1) for token in self.after),
        ]
        ids, types, rows = zip(*tokens, strict=True)
        return Block(ids, types, rows, dropped)
