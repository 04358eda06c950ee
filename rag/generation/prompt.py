"""Prompts as pieces that are tokenised apart: a shared prefix, passages sentence by sentence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

from rag.generation.plan import EncodingPlan
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

THOUGHT_PREFIX = """\
Title: Queensland
Text: Queensland is a state in the northeast of Australia. Its capital is Brisbane.

Title: Great Barrier Reef
Text: The Great Barrier Reef lies in the Coral Sea, off the coast of Queensland. \
It stretches for over 2,300 kilometres.

Question: What is the capital of the state where the Great Barrier Reef lies?
Answer: The Great Barrier Reef lies off the coast of Queensland. \
The capital of Queensland is Brisbane. So the answer is: Brisbane.

Title: Tower Bridge
Text: Tower Bridge crosses the River Thames in London. It was opened in 1894.

Title: Eiffel Tower
Text: The Eiffel Tower was completed in 1889. It is 330 metres tall.

Question: Which is older, the Eiffel Tower or Tower Bridge?
Answer: The Eiffel Tower was completed in 1889. Tower Bridge was opened in 1894. \
So the answer is: the Eiffel Tower.

"""
ANSWER_MARK = re.compile(r"\b(?:so,? the answer is\b:?|the answer is:)\s*", re.IGNORECASE)
"""Where a chain of thought that follows `THOUGHT_PREFIX` comes to its answer: small models forget
the first word, or the colon, but not both."""


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

    def header_of(self, passage: Passage) -> str:
        """Return what opens a passage."""
        return self.header.format(title=passage.title)

    def question_of(self, query: Query) -> str:
        """Return the question on one line, ready to be answered."""
        return self.question.format(question=" ".join(query.text.split()))

    def render(self, query: Query, passages: Sequence[Passage], begun: str = "") -> str:
        """Return the prompt as one text, for models that take nothing else.

        It is what the sequential mode reads: only kept sentences, the best passage last.

        Args:
            query: the question.
            passages: best first; one of which no sentence is kept is left out.
            begun: the answer so far; the model goes on after it.
        """
        read = [self._text_of(passage) for passage in reversed(passages) if passage.kept_rows]
        begun = f" {begun.strip()}" if begun.strip() else ""
        return "".join([self.prefix, *read, self.question_of(query), begun])

    def _text_of(self, passage: Passage) -> str:
        spans = (passage.sentences[row] for row in passage.kept_rows)
        pieces = [sentence_piece(span.of(passage.text)) for span in spans]
        return "".join([self.header_of(passage), *pieces, self.closing])


THOUGHT = PromptTemplate(prefix=THOUGHT_PREFIX)


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
        return Segment(self.identity, "prefix", self.whole(self.template.prefix), name="prefix")

    @cached_property
    def _beginning(self) -> tuple[int, ...]:
        """The beginning-of-sequence token, if the tokenizer adds one."""
        bos = self.tokenizer.bos_token_id
        adds_bos = bos is not None and self.tokenizer("a")["input_ids"][:1] == [bos]
        return (bos,) if adds_bos else ()

    def prefix(self) -> Segment:
        """Return the shared prefix; it starts with the beginning-of-sequence token, if any."""
        return self._prefix

    def passage(self, passage: Passage, prefix: Segment) -> Segment:
        """Return a passage's segment: header, every sentence with its row range, closing."""
        key = passage.id, passage.title, passage.text, passage.sentences, prefix
        if key in self._passages:
            return self._passages[key]
        pieces = [sentence_piece(span.of(passage.text)) for span in passage.sentences]
        encoded = self._encode([self.template.header_of(passage), *pieces, self.template.closing])
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
        return self.ids(self.template.question_of(query))

    def whole(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a text that a prompt begins with."""
        return (*self._beginning, *self.ids(text))

    def ids(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a text that something precedes."""
        return tuple(self._encode([text])[0])

    def text(self, token_ids: tuple[int, ...]) -> str:
        """Return the text of tokens, exactly."""
        decoded: str = self.tokenizer.decode(
            list(token_ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return decoded

    def plan_text(self, plan: EncodingPlan) -> str:
        """Return the exact text that a plan reads: cached parts, targets, and what is prefilled."""
        cached = [plan.prefix, *plan.context] if plan.prefix else [*plan.context]
        placed = [*cached, *(target.placed for target in plan.targets)]
        parts = [part.token_ids for part in placed]
        return "".join(self.text(ids) for ids in (*parts, plan.prefill))

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
