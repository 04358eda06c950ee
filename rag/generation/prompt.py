"""Prompts as pieces that are tokenised apart: a shared prefix, passages sentence by sentence."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

from rag.records import ModelIdentity, Passage, Query, Segment

REMEMBERED = 65_536
INDENTED = re.compile(r"(^|\n)[ \t]+\S")

PREFIX = """\
Title: Great Barrier Reef
Text: The Great Barrier Reef lies in the Coral Sea, off the coast of Queensland, Australia. \
It stretches for over 2,300 kilometres and can be seen from outer space.

Question: How long is the Great Barrier Reef?
Answer: over 2,300 kilometres

Title: Bread > Leavening
Text: Yeast ferments some of the sugars in the dough and produces carbon dioxide. \
The gas forms bubbles, which make the dough rise.

Question: Why does dough rise?
Answer: yeast produces carbon dioxide

Title: Chess > Castling
Text: Castling moves the king two squares toward a rook. \
It is not allowed if the king is in check, or if either piece has moved before.

Question: When is castling not allowed?
Answer: if the king is in check, or if either piece has moved before

"""


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """The text around passages and question: `[prefix][passage]*[question]`.

    A raw completion with worked examples whose answers are short, since that is what small models
    do best: with answers in whole sentences the default model's F1 on SQuAD is half as high.

    Attributes:
        prefix: instructions and examples, shared by every request and visible to every passage.
        header: opens a passage; `{title}` is replaced. It ends without white space, since every
            sentence brings its own.
        closing: ends a passage.
        question: the question; `{question}` is replaced. Nothing else follows.
        stop: the answer ends where this text appears.
    """

    prefix: str = PREFIX
    header: str = "Title: {title}\nText:"
    closing: str = "\n\n"
    question: str = "Question: {question}\nAnswer:"
    stop: str = "\n"


def sentence_piece(sentence: str) -> str:
    """Return a sentence with the white space that joins it to whatever precedes it.

    Prose is put on one line after a space, indented text such as code keeps its lines and starts a
    new one. So any subset of a passage's sentences reads, and tokenises, as it would alone.
    """
    body = sentence.rstrip()
    if INDENTED.search(body):
        return "\n" + body.strip("\n")
    return " " + " ".join(body.split())


@dataclass(frozen=True)
class PromptEncoder:
    """Tokenises the pieces of a prompt; joins happen on token level, so caches fit any prompt.

    Text of documents and questions never becomes a control token.

    Attributes:
        tokenizer: a Hugging Face tokenizer.
        identity: the model the segments are for.
        template: the text around them.
    """

    tokenizer: Any
    identity: ModelIdentity
    template: PromptTemplate = PromptTemplate()
    _passages: dict[tuple[object, ...], Segment] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @cached_property
    def _prefix(self) -> Segment:
        ids = self._ids(self.template.prefix)
        bos = self.tokenizer.bos_token_id
        adds_bos = bos is not None and self.tokenizer("a")["input_ids"][:1] == [bos]
        return Segment(self.identity, "prefix", ((bos, *ids) if adds_bos else ids), name="prefix")

    def prefix(self) -> Segment:
        """Return the shared prefix; it starts with the beginning-of-sequence token, if any."""
        return self._prefix

    def passage(self, passage: Passage, prefix: Segment) -> Segment:
        """Return a passage's segment: header, every sentence with its row range, closing."""
        key = passage.id, passage.title, passage.text, passage.sentences, prefix
        if key in self._passages:
            return self._passages[key]
        pieces = [sentence_piece(span.of(passage.text)) for span in passage.sentences]
        header = self.template.header.format(title=passage.title)
        encoded = self._encode([header, *pieces, self.template.closing])
        ids = [token for piece in encoded for token in piece]
        ends = list(accumulate(len(piece) for piece in encoded))
        rows = pairwise(ends[:-1])
        segment = Segment(
            self.identity,
            "passage",
            tuple(ids),
            (prefix,),
            tuple(rows),
            name=passage.id,
            document=passage.document,
        )
        if len(self._passages) >= REMEMBERED:
            self._passages.clear()
        self._passages[key] = segment
        return segment

    @property
    def stop_ids(self) -> frozenset[int]:
        """Tokens that end an answer: end of sequence."""
        eos = self.tokenizer.eos_token_id
        return frozenset() if eos is None else frozenset({eos})

    def question(self, query: Query) -> tuple[int, ...]:
        """Return the question's tokens."""
        return self._ids(self.template.question.format(question=" ".join(query.text.split())))

    def text(self, token_ids: tuple[int, ...]) -> str:
        """Return the text of tokens, exactly."""
        decoded: str = self.tokenizer.decode(
            list(token_ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return decoded

    def _ids(self, text: str) -> tuple[int, ...]:
        return tuple(self._encode([text])[0])

    def _encode(self, texts: list[str]) -> list[list[int]]:
        encoded = self.tokenizer(texts, add_special_tokens=False, split_special_tokens=True)
        ids: list[list[int]] = encoded["input_ids"]
        return ids


def rows_of_sentences(segment: Segment, kept: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the token rows of some sentences with header and closing; None if that is all rows.

    Args:
        segment: a passage.
        kept: sentence rows, ascending; at least one.

    Raises:
        ValueError: if none is kept: a passage without a sentence is left out, not read.
    """
    if not kept:
        raise ValueError(f"no sentence of {segment.name!r} is kept; leave the passage out")
    if len(kept) == len(segment.sentence_rows):
        return None
    header = range(segment.sentence_rows[0][0])
    closing = range(segment.sentence_rows[-1][1], len(segment))
    sentences = [range(*segment.sentence_rows[sentence]) for sentence in kept]
    return tuple(row for part in (header, *sentences, closing) for row in part)
