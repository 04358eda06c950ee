"""Prompts as pieces that are tokenised apart: a shared prefix, passages sentence by sentence."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, chain, pairwise
from typing import TYPE_CHECKING, Any

from rag.generation.chat_template import ChatPieces, chat_pieces
from rag.generation.context_plan import kept_pieces
from rag.generation.plan import EncodingPlan
from rag.generation.refusal import SPELLINGS
from rag.generation.templates import PromptTemplate, sentence_piece
from rag.records import ModelIdentity, Passage, Query, Segment, Span

if TYPE_CHECKING:
    from collections.abc import Sequence

REMEMBERED = 65_536


@dataclass(frozen=True)
class PromptEncoder:
    """Tokenises the pieces of a prompt; joins happen on token level, so caches fit any prompt.

    Text of documents and questions never becomes a control token; those of a chat come from the
    tokenizer's chat template alone, and are where it puts them.

    Attributes:
        tokenizer: a Hugging Face tokenizer; for a chat, one with a chat template.
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
    def _chat(self) -> ChatPieces | None:
        """What the tokenizer's chat template puts around a chat; None for a raw completion."""
        return chat_pieces(self.tokenizer, self.template) if self.template.chat else None

    @cached_property
    def _prefix(self) -> Segment:
        ids = self._chat.before if self._chat else self.whole(self.template.prefix)
        return Segment(self.identity, "prefix", ids, name="prefix")

    @cached_property
    def _beginning(self) -> tuple[int, ...]:
        """The beginning-of-sequence token, if the tokenizer adds one."""
        bos = self.tokenizer.bos_token_id
        adds_bos = bos is not None and self.tokenizer("a")["input_ids"][:1] == [bos]
        return (bos,) if adds_bos else ()

    def prefix(self) -> Segment:
        """Return the shared prefix; it starts with the beginning-of-sequence token, if any.

        Raises:
            UnsupportedModelError: for a chat if the tokenizer's chat template is missing, or
                cannot be cut where the passages stand.
        """
        return self._prefix

    def passage(self, passage: Passage, prefix: Segment) -> Segment:
        """Return a passage's segment: header, every sentence with its row range, closing."""
        key = passage.id, passage.title, passage.text, passage.sentences, prefix
        if key in self._passages:
            return self._passages[key]
        pieces = [sentence_piece(span.of(passage.text)) for span in passage.sentences]
        segment = self._segment(passage, pieces, prefix)
        if len(self._passages) >= REMEMBERED:
            self._passages.clear()
        self._passages[key] = segment
        return segment

    def kept_text(self, passage: Passage, prefix: Segment) -> Segment:
        """Return the tokens of what is kept of a passage, as if that were all of its text.

        Its rows are those of the passage's sentences, none for a sentence that is gone. Of a
        selection that was made on another text nothing is left out.
        """
        pieces = [sentence_piece(piece) if piece else "" for piece in kept_pieces(passage)]
        return self._segment(passage, pieces, prefix)

    def rows_of_spans(
        self, passage: Passage, segment: Segment, spans: Sequence[Span]
    ) -> tuple[int, ...] | None:
        """Return the rows whose tokens end in some spans of a passage, with header and closing.

        A token belongs to where its last character is, since many begin with the space before a
        word. White space belongs to the word after it.

        Args:
            passage: the passage.
            segment: of the passage, whole.
            spans: ranges of its text, ascending.

        Returns:
            Rows, ascending; None if the tokenizer does not tell where its tokens are, or no token
            of a letter ends in a span.
        """
        ends = self._last_characters(passage, segment)
        if ends is None:
            return None
        inside = {at for span in spans for at in range(span.start, span.end)}
        first, last = segment.sentence_rows[0][0], segment.sentence_rows[-1][1]
        kept = [row for row, end in enumerate(ends, first) if end in inside]
        if not self.text(tuple(segment.token_ids[row] for row in kept)).strip():
            return None
        return (*range(first), *kept, *range(last, len(segment)))

    def _last_characters(self, passage: Passage, segment: Segment) -> list[int] | None:
        """Return for each token of a passage's sentences where in its text it ends."""
        if not getattr(self.tokenizer, "is_fast", False) or not passage.sentences:
            return None
        pieces = [sentence_piece(span.of(passage.text)) for span in passage.sentences]
        sources = [
            _sources(piece, span, passage.text)
            for piece, span in zip(pieces, passage.sentences, strict=True)
        ]
        encoded = self.tokenizer(
            pieces,
            add_special_tokens=False,
            split_special_tokens=True,
            return_offsets_mapping=True,
        )
        first, last = segment.sentence_rows[0][0], segment.sentence_rows[-1][1]
        # The marker of a turn within a text is tokenised in parts, and then these do not agree.
        if tuple(chain(*encoded["input_ids"])) != segment.token_ids[first:last]:
            return None
        return [
            source[max(start, end - 1)]
            for source, of_piece in zip(sources, encoded["offset_mapping"], strict=True)
            for start, end in of_piece
        ]

    def _segment(self, passage: Passage, pieces: Sequence[str], prefix: Segment) -> Segment:
        """Return header, pieces with their row ranges, and closing; an empty piece has no row."""
        encoded = self._encode([self.template.header_of(passage), *pieces, self.template.closing])
        ids = [token for piece in encoded for token in piece]
        ends = list(accumulate(len(piece) for piece in encoded))
        return Segment(
            self.identity,
            "passage",
            tuple(ids),
            (prefix,),
            tuple(pairwise(ends[:-1])),
            name=passage.id,
            document=passage.document,
        )

    @property
    def stop_ids(self) -> frozenset[int]:
        """Tokens that end an answer: end of sequence, and of a chat the end of the turn."""
        eos = self.tokenizer.eos_token_id
        ends = frozenset() if eos is None else frozenset({eos})
        return ends | self._chat.stop_ids if self._chat else ends

    def question(self, query: Query) -> tuple[int, ...]:
        """Return the question's tokens; of a chat also those that begin the answer."""
        after = self._chat.after if self._chat else ()
        return (*self.ids(self.template.question_of(query)), *after)

    def answer(self, text: str) -> tuple[int, ...]:
        """Return the tokens of an answer as a model should generate it, and then end it.

        After a raw prompt that is the text with a space before it, unless the prompt ends with one,
        and the template's stop text; after a chat the text and the token that ends a turn. The text
        is put on one line.
        """
        said = " ".join(text.split())
        if self._chat:
            eos = self.tokenizer.eos_token_id
            ends = sorted(self.stop_ids - {eos}) or sorted(self.stop_ids)
            return (*self.ids(said), *(ends[:1] or self.ids(self.template.stop)))
        space = "" if self.template.question[-1:].isspace() else " "
        return (*self.ids(space + said), *self.ids(self.template.stop))

    @cached_property
    def refusals(self) -> list[tuple[int, ...]]:
        """The tokens of each spelling of a refusal, as an answer."""
        return [self.answer(spelling) for spelling in SPELLINGS]

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
        ids = self._plain(texts)
        if self._chat is None or not self._chat.markers:
            return ids
        # Some tokenizers do not say that the markers of their turns are special tokens.
        marker = re.compile(
            "|".join(f"(?<={re.escape(m[0])})(?={re.escape(m[1:])})" for m in self._chat.markers)
        )
        return [
            [token for part in self._plain(marker.split(text)) for token in part]
            if marker.search(text)
            else of_text
            for text, of_text in zip(texts, ids, strict=True)
        ]

    def _plain(self, texts: list[str]) -> list[list[int]]:
        encoded = self.tokenizer(texts, add_special_tokens=False, split_special_tokens=True)
        ids: list[list[int]] = encoded["input_ids"]
        return ids


def _sources(piece: str, sentence: Span, text: str) -> list[int]:
    """Return for each character of a sentence's piece the place in the text that it stands for.

    A piece differs from its sentence in white space alone, which stands for the letter after it.
    One place past the end is added, for tokens without a character.
    """
    inside = range(sentence.start, sentence.end)
    letters = [at for at in inside if not text[at].isspace()] or [sentence.start]
    before = accumulate((not character.isspace() for character in piece), initial=0)
    return [letters[min(count, len(letters) - 1)] for count in before]


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
