"""Citations that the framework attributes: each answer sentence to the kept sentence behind it.

A passage that is cached on its own cannot know its number in this prompt, so the model is never
asked to write `[1]`. What it said is matched to what it read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rag.generation.refusal import is_refusal
from rag.records import Answer, Attention, Citation, Passage, Query, Span
from rag.text.sentences import split_sentences
from rag.text.terms import query_terms, terms

if TYPE_CHECKING:
    from rag.protocols import Encoder

NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


AttentionOf = Callable[[Span], Sequence[Attention]]
"""From a span of the answer to each passage's share of the attention of its tokens."""


@dataclass(frozen=True, slots=True)
class Attribution:
    """Where each sentence of an answer comes from.

    Attributes:
        citations: at most one a sentence, in the answer's order.
        unsupported: sentences that no kept sentence supports.
    """

    citations: tuple[Citation, ...]
    unsupported: tuple[Span, ...]

    @property
    def abstained(self) -> bool:
        """Whether nothing supports any sentence."""
        return not self.citations

    def attached_to(self, answer: Answer) -> Answer:
        """Return the answer with this evidence; unsupported, it abstains.

        A refusal abstains whatever its word is found in: it claims nothing that could be cited.
        """
        if is_refusal(answer.text):
            return replace(answer, citations=(), unsupported=(), abstained=True)
        return replace(
            answer,
            citations=self.citations,
            unsupported=self.unsupported,
            abstained=self.abstained,
        )


@dataclass(frozen=True, slots=True)
class SupportMatcher:
    """Finds the kept sentence that supports an answer sentence best.

    Support is `lexical_weight * covered + (1 - lexical_weight) * cosine`, in [0, 1]. `covered` is
    the smaller of two shares that the passage sentence (with its passage's title) holds: of the
    answer sentence's terms, and of those that the question does not have already. `cosine` compares
    embeddings of "question answer" with the passage sentence. A sentence that lacks a number of the
    answer supports nothing.

    Attributes:
        encoder: for the cosine; None matches by terms alone.
        threshold: least support that counts, in [0, 1].
        lexical_weight: in [0, 1].
        attention_weight: how much a passage's share of the model's attention counts beside support,
            to choose among sentences that support enough; at least 0. From 0 to 2 it was measured
            to change `CiteP` by less than 0.01.

    Raises:
        ValueError: if a number is out of range.
    """

    encoder: Encoder | None = None
    threshold: float = 0.5
    lexical_weight: float = 0.6
    attention_weight: float = 0.25

    def __post_init__(self) -> None:
        for name in ("threshold", "lexical_weight"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if not self.attention_weight >= 0:
            raise ValueError(f"attention_weight must be at least 0, got {self.attention_weight}")

    def __call__(
        self,
        query: Query,
        answer: str,
        passages: Sequence[Passage],
        attention: AttentionOf | None = None,
    ) -> Attribution:
        """Attribute every sentence of the answer.

        Args:
            query: the question.
            answer: the answer, without marks.
            passages: what the generator read, best first; only kept sentences count.
            attention: the shares of attention of a span of the answer, if they are known.
        """
        evidence = evidence_of(passages)
        sentences = [span.stripped(answer) for span in split_sentences(answer)]
        if not evidence or not sentences:
            return Attribution((), tuple(sentences))
        texts = [passage.sentences[row].of(passage.text) for passage, row in evidence]
        support = self._support(query, [s.of(answer) for s in sentences], evidence, texts)
        citations: list[Citation] = []
        unsupported = []
        numbers: dict[str, int] = {}
        for sentence, scores in zip(sentences, support, strict=True):
            looked = self._looked(attention, sentence, evidence)
            best = max(
                range(len(scores)),
                key=lambda row: (
                    scores[row] >= self.threshold,
                    scores[row] + self.attention_weight * looked[row],
                    -row,
                ),
            )
            if scores[best] < self.threshold or not scores[best]:
                unsupported.append(sentence)
                continue
            passage, row = evidence[best]
            number = numbers.setdefault(passage.id, len(numbers) + 1)
            citations.append(citation_of(passage, row, sentence, number, scores[best]))
        return Attribution(tuple(citations), tuple(unsupported))

    def _looked(
        self, attention: AttentionOf | None, sentence: Span, evidence: Sequence[tuple[Passage, int]]
    ) -> list[float]:
        """Return the share of attention of each piece of evidence's passage."""
        if attention is None:
            return [0.0] * len(evidence)
        shares = {one.passage_id: one.share for one in attention(sentence)}
        return [shares.get(passage.id, 0.0) for passage, _ in evidence]

    def _support(
        self,
        query: Query,
        sentences: Sequence[str],
        evidence: Sequence[tuple[Passage, int]],
        texts: Sequence[str],
    ) -> list[list[float]]:
        bags = [
            set(terms(text)) | set(terms(passage.title))
            for (passage, _), text in zip(evidence, texts, strict=True)
        ]
        asked = set(terms(query.text))
        cosine = self._cosines(query, sentences, texts)
        table = []
        for row, sentence in enumerate(sentences):
            words = set(query_terms(sentence))
            fresh = words - asked or words
            figures = set(NUMBER.findall(sentence)) - set(NUMBER.findall(query.text))
            scores = []
            for column, bag in enumerate(bags):
                if not words or not figures <= set(NUMBER.findall(texts[column])):
                    scores.append(0.0)
                    continue
                covered = min(len(part & bag) / len(part) for part in (words, fresh))
                if cosine is None:
                    scores.append(covered)
                else:
                    lexical = self.lexical_weight
                    scores.append(lexical * covered + (1 - lexical) * cosine[row][column])
            table.append(scores)
        return table

    def _cosines(
        self, query: Query, sentences: Sequence[str], texts: Sequence[str]
    ) -> list[list[float]] | None:
        if self.encoder is None:
            return None
        vectors = self.encoder.encode([*(f"{query.text} {s}" for s in sentences), *texts])
        cosine = vectors[: len(sentences)] @ vectors[len(sentences) :].T
        table: list[list[float]] = cosine.clip(0.0, 1.0).tolist()
        return table


def marked(answer: str, citations: Sequence[Citation], unsupported: Sequence[Span]) -> str:
    """Return the answer with `[n]` after each cited sentence and `[unsupported]` after the rest."""
    marks = [(c.answer_end, f" [{c.number}]") for c in citations]
    marks += [(span.end, " [unsupported]") for span in unsupported]
    for end, mark in sorted(marks, reverse=True):
        answer = answer[:end] + mark + answer[end:]
    return answer


def evidence_of(passages: Sequence[Passage]) -> list[tuple[Passage, int]]:
    """Return what can be cited: each kept sentence that is not empty, as its passage and row."""
    return [
        (passage, row)
        for passage in passages
        for row in passage.kept_rows
        if passage.sentences[row].of(passage.text).strip()
    ]


def citation_of(passage: Passage, row: int, sentence: Span, number: int, score: float) -> Citation:
    """Return the citation of a sentence of a passage by a sentence of an answer.

    Args:
        passage: what is cited.
        row: of its sentence.
        sentence: where the answer's sentence stands in the answer.
        number: of the passage, from 1.
        score: how sure it is, in [0, 1].
    """
    quoted = passage.sentences[row].stripped(passage.text)
    return Citation(
        number=number,
        passage_id=passage.id,
        document=passage.document,
        start=passage.span.start + quoted.start,
        end=passage.span.start + quoted.end,
        quote=quoted.of(passage.text),
        answer_start=sentence.start,
        answer_end=sentence.end,
        score=round(score, 4),
        page=passage.page,
    )
