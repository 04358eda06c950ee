"""Records: the plain, immutable data that operators hand to each other. No heavy imports."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Metadata = Mapping[str, str | int | float | bool]
HEADINGS = " > "
"""What stands between the document's title and the headings in `Passage.title`."""


def text_sha(text: str) -> str:
    """Return the SHA-256 of a text's UTF-8 bytes in hex; lone surrogates count too."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A half-open range of code points, `text[start:end]`.

    Raises:
        ValueError: if start is negative or past end.
    """

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end:
            raise ValueError(f"Span needs 0 <= start <= end, got {self.start} and {self.end}")

    def __len__(self) -> int:
        return self.end - self.start

    def of(self, text: str) -> str:
        """Return the characters of `text` that the span covers."""
        return text[self.start : self.end]

    def shifted(self, by: int) -> Span:
        """Return the same range counted from `by` code points earlier."""
        return Span(self.start + by, self.end + by)

    def stripped(self, text: str) -> Span:
        """Return the range without the white space at its ends."""
        inside = self.of(text)
        start = self.start + len(inside) - len(inside.lstrip())
        return Span(start, max(start, self.end - len(inside) + len(inside.rstrip())))


@dataclass(frozen=True, slots=True)
class Section:
    """A heading of a document and where its text begins.

    Attributes:
        start: code point where the heading begins; the section runs to the next heading.
        level: 1 for the outermost.
        title: the heading's text without its markup.
    """

    start: int
    level: int
    title: str


@dataclass(frozen=True, slots=True)
class Link:
    """A place in a document that points to another document.

    Attributes:
        start: code point of the last character of the link's text.
        target: as the source writes it: a path relative to the document, perhaps with an anchor.
    """

    start: int
    target: str


@dataclass(frozen=True, slots=True)
class Cue:
    """A piece of a transcript and when it is spoken.

    Attributes:
        span: where it stands in the document's text.
        start_s: seconds from the beginning of the recording.
        end_s: when it ends, not before `start_s`.
    """

    span: Span
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Document:
    """A source with an id and the text extracted from it.

    Attributes:
        id: unique in an index: the path below the indexed folder, with `/` separators.
        text: the extracted text that every offset counts in.
        title: what a person would call it.
        sections: headings in order of `start`; may be empty.
        pages: code point where each page begins, page 1 first; empty where there are no pages.
        metadata: facts about the source, for filters and display.
        links: what the text points to, in order of `start`.
        tables: where a table stands, its caption and header line included, in order.
        cues: pieces of a transcript, in order of `start_s`; empty for what is not spoken.
    """

    id: str
    text: str
    title: str
    sections: tuple[Section, ...] = ()
    pages: tuple[int, ...] = ()
    metadata: Metadata = field(default_factory=dict)
    links: tuple[Link, ...] = ()
    tables: tuple[Span, ...] = ()
    cues: tuple[Cue, ...] = ()


@dataclass(frozen=True, slots=True)
class SentenceScore:
    """What a pruner thought of one sentence.

    Attributes:
        span: the sentence in the passage's text; white space belongs to the sentence before it.
        score: higher is more useful for the query.
        kept: whether the sentence stays.
        forced: why a rule overruled the score, or None.
    """

    span: Span
    score: float
    kept: bool
    forced: Literal["title", "budget", "protect", "min_keep", "short", "error"] | None = None


@dataclass(frozen=True, slots=True)
class PassageScores:
    """What a scorer found of one passage, before anything is decided.

    Attributes:
        sentences: score of each unit in order, in [0, 1]; higher is more useful for the query. The
            units are the passage's sentences, or `spans`.
        rerank_score: the passage's own score, where the scorer reranks too.
        spans: units other than sentences, such as words; they partition the text.
    """

    sentences: tuple[float, ...]
    rerank_score: float | None = None
    spans: tuple[Span, ...] | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """A pruner's decision on one passage: pure data, the passage itself is never edited.

    Attributes:
        passage_id: the passage decided on.
        text_sha: `text_sha` of the passage's text; a consumer that reads cached rows compares it.
        sentences: every sentence in order, or every word if `unit` says so; they partition the
            text.
        method: the pruner's short name.
        threshold: the score above which a sentence was kept, or None.
        rerank_score: the passage's own score, where the pruner reranks too.
        unit: what `sentences` are; only sentences are rows of the passage's `sentences`.
    """

    passage_id: str
    text_sha: str
    sentences: tuple[SentenceScore, ...]
    method: str
    threshold: float | None = None
    rerank_score: float | None = None
    unit: Literal["sentence", "word"] = "sentence"

    @property
    def kept_rows(self) -> tuple[int, ...]:
        """Rows of what is kept in `sentences`, ascending."""
        return tuple(row for row, s in enumerate(self.sentences) if s.kept)

    @property
    def spans(self) -> tuple[Span, ...]:
        """Kept character ranges in document order, touching neighbours joined."""
        joined: list[Span] = []
        for sentence in self.sentences:
            if not sentence.kept:
                continue
            if joined and joined[-1].end == sentence.span.start:
                joined[-1] = Span(joined[-1].start, sentence.span.end)
            else:
                joined.append(sentence.span)
        return tuple(joined)

    def text(self, original: str) -> str:
        """Return the kept sentences of `original`, each with its own trailing white space.

        Raises:
            ValueError: if `original` is not the text that was decided on.
        """
        if text_sha(original) != self.text_sha:
            raise ValueError(f"selection of {self.passage_id!r} was made on another text")
        return "".join(span.of(original) for span in self.spans)

    @property
    def keep_ratio(self) -> float:
        """Kept code points over all, in [0, 1]; 1 for an empty passage."""
        total = sum(len(s.span) for s in self.sentences)
        return sum(len(s.span) for s in self.sentences if s.kept) / total if total else 1.0


@dataclass(frozen=True, slots=True)
class Edge:
    """An edge of the corpus graph: why one passage leads to another.

    Attributes:
        source: id of the passage that says so: the one that mentions, cites, or comes before.
        target: id of the other.
        kind: of edge, such as `mention` or `seq`.
        weight: above 0, at most 1; comparable within a kind.
    """

    source: str
    target: str
    kind: str
    weight: float


@dataclass(frozen=True, slots=True)
class Passage:
    """A span of a document: the unit that is retrieved, pruned, cached and cited.

    Attributes:
        id: unique in an index.
        document: id of its document.
        text: the characters of `span` in the document's text.
        span: where it stands in the document's text.
        sentences: spans in `text` that partition it; white space belongs to the sentence before.
        title: document title and heading path, searched and shown with the text.
        page: page number from 1 where the source has pages.
        modality: what the text stands for: `text`, `table`, `image` or `video`.
        previous: id of the passage before it in the document, or None.
        next: id of the passage after it, or None.
        parent: id of the section or document it belongs to.
        metadata: its document's metadata.
        links: targets of the links in it, in order.
        score: the retriever's score, once retrieved; higher is better.
        kept: the pruner's decision, once pruned; None means every sentence.
        edges: what starts here and ends in another passage of the same result, once a step has
            looked at the corpus graph.
    """

    id: str
    document: str
    text: str
    span: Span
    sentences: tuple[Span, ...]
    title: str = ""
    page: int | None = None
    modality: str = "text"
    previous: str | None = None
    next: str | None = None
    parent: str | None = None
    metadata: Metadata = field(default_factory=dict)
    links: tuple[str, ...] = ()
    score: float | None = None
    kept: Selection | None = None
    edges: tuple[Edge, ...] = ()

    @property
    def kept_rows(self) -> tuple[int, ...]:
        """Rows of the sentences that stay, or of which a word does; all before any pruning."""
        if self.kept is None:
            return tuple(range(len(self.sentences)))
        if self.kept.unit == "sentence":
            return self.kept.kept_rows
        kept = self.kept.spans
        return tuple(
            row
            for row, sentence in enumerate(self.sentences)
            if any(span.start < sentence.end and sentence.start < span.end for span in kept)
        )

    @property
    def searchable(self) -> str:
        """Title and text together, as retrievers index them."""
        return f"{self.title}\n{self.text}" if self.title else self.text


@dataclass(frozen=True, slots=True)
class Query:
    """A question.

    Raises:
        ValueError: if the text is empty or white space.
    """

    text: str

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise ValueError("the question must not be empty, got only white space")


@dataclass(frozen=True, slots=True)
class Hit:
    """One entry of a ranking: an id and its score; higher is better, ties break by id."""

    id: str
    score: float


@dataclass(frozen=True, slots=True)
class Budget:
    """How much context a pruner may leave.

    Attributes:
        tokens: the most to keep, counted by the consumer's tokenizer.
        per_passage_min: sentences to keep of each passage, whatever their score.
        scope: whether `tokens` holds for each passage or for the whole query.

    Raises:
        ValueError: if a number is negative.
    """

    tokens: int
    per_passage_min: int = 0
    scope: Literal["passage", "query"] = "query"

    def __post_init__(self) -> None:
        if self.tokens < 0 or self.per_passage_min < 0:
            got = f"{self.tokens} and {self.per_passage_min}"
            raise ValueError(f"tokens and per_passage_min must be at least 0, got {got}")


@dataclass(frozen=True, slots=True)
class Citation:
    """A sentence of the answer and the passage sentence that supports it.

    Attributes:
        number: the `[n]` a person sees, from 1 in order of first use.
        passage_id: the supporting passage.
        document: its document's id.
        start: where the quote begins in the document's text.
        end: where it ends.
        quote: the supporting sentence, stripped.
        answer_start: where the supported sentence begins in the answer.
        answer_end: where it ends.
        score: strength of support, in [0, 1].
        page: page of the passage, where there is one.
    """

    number: int
    passage_id: str
    document: str
    start: int
    end: int
    quote: str
    answer_start: int
    answer_end: int
    score: float
    page: int | None = None


@dataclass(frozen=True, slots=True)
class CacheUse:
    """What one answer read from the KV store.

    Attributes:
        hits: segments that were found.
        misses: segments that had to be encoded.
        bytes: bytes of KV read, as stored.
        reasons: segment name to `hit (ram)`, `hit (disk)`, `absent`, `corrupt: …`.
    """

    hits: int = 0
    misses: int = 0
    bytes: int = 0
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TokenUse:
    """Tokens of one answer; `prompt` is `cached` plus `prefilled`.

    What missed the cache and was encoded for this answer counts as prefilled.
    """

    prompt: int
    cached: int
    prefilled: int
    generated: int


@dataclass(frozen=True, slots=True)
class Attention:
    """How much of the model's attention to passages went to one of them while it answered.

    Attributes:
        passage_id: the passage.
        share: of the attention to all passages, in [0, 1].
        sentences: the share of each of its sentences; header and closing belong to none.
    """

    passage_id: str
    share: float
    sentences: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class ContextStep:
    """How one passage was read: what was chosen for it, and why.

    Attributes:
        passage_id: the passage.
        step: `drop`, nothing of it; `text`, what is kept was run through the model for this answer,
            seeing what stands before it; `rows`, the cached rows of what is kept; `full`, all of
            its cached rows; `blend`, cached rows, a share of which was computed anew.
        reason: why, in one line.
        tokens: of the whole passage, with what the prompt puts around it.
        kept_tokens: how many of them were read.
        load_ratio: time to load a cached token over time to prefill one; from 1 on, loading does
            not pay. None where nothing was measured.
        seconds: predicted cost of every way in which it could have been read, by the name of the
            step; empty where nothing was measured.
    """

    passage_id: str
    step: Literal["drop", "text", "rows", "full", "blend"]
    reason: str
    tokens: int = 0
    kept_tokens: int = 0
    load_ratio: float | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """A generated answer with its evidence.

    Attributes:
        text: the answer, without citation marks.
        passages: what the generator read, best first, with `kept` attached.
        citations: by position in the answer.
        unsupported: spans of answer sentences that no kept sentence supports.
        abstained: whether nothing supports any sentence of it.
        cache: KV hits, misses and bytes.
        tokens: token counts.
        timings_ms: `kv`, `ttft`, `decode`; the pipeline adds `retrieve`, `prune`, `total`.
        mode: how passages were read: `sequential`, `ape`, or `ensemble`, each in its own prompt.
        model: name of the language model.
        prompt: the exact text of the prompt, passages as the model read them.
        finish: why generation ended.
        attention: where the model looked while it answered, one a passage; empty if nobody asked.
        context: how each passage was read, in their order; empty where the generator does not tell.
        adapter: hash of the adapter that is merged into the model, as `ModelIdentity.adapter`;
            empty without one, and where the generator does not tell.
    """

    text: str
    passages: tuple[Passage, ...] = ()
    citations: tuple[Citation, ...] = ()
    unsupported: tuple[Span, ...] = ()
    abstained: bool = False
    cache: CacheUse = field(default_factory=CacheUse)
    tokens: TokenUse = field(default_factory=lambda: TokenUse(0, 0, 0, 0))
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    mode: str = ""
    model: str = ""
    prompt: str = ""
    finish: Literal["stop", "length", ""] = ""
    attention: tuple[Attention, ...] = ()
    context: tuple[ContextStep, ...] = ()
    adapter: str = ""

    def _repr_html_(self) -> str:
        from rag.tracing.html import answer_html

        return answer_html(self)


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation.

    Attributes:
        role: who said it.
        text: what was said.
    """

    role: Literal["user", "assistant"]
    text: str


@dataclass(frozen=True, slots=True)
class Completion:
    """What a language model wrote after a prompt.

    Attributes:
        text: the continuation without the stop text, stripped.
        tokens: the text of each generated token; empty where the model does not tell.
        logprobs: natural log-probability of each token under the model (temperature 1), as many as
            `tokens`.
        finish: why generation ended; empty if it is known to go on, or nothing is known.
    """

    text: str
    tokens: tuple[str, ...] = ()
    logprobs: tuple[float, ...] = ()
    finish: Literal["stop", "length", ""] = ""

    def __post_init__(self) -> None:
        if len(self.tokens) != len(self.logprobs):
            raise ValueError(
                f"logprobs must be one a token, got {len(self.logprobs)} for {len(self.tokens)}"
            )


@dataclass(frozen=True, slots=True)
class Route:
    """A router's decision: one label, several, or none.

    Attributes:
        labels: chosen labels, best first; empty for "none of them".
        probs: probability of every label the router knows, in [0, 1].
        source: the router's short name.
        fallback: whether the router was not sure and fell back.
        reason: one line for a person on what was changed after the router, or empty.
    """

    labels: tuple[str, ...]
    probs: Mapping[str, float] = field(default_factory=dict)
    source: str = ""
    fallback: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Judgement:
    """A judge's verdict.

    Attributes:
        passed: whether what was judged is good enough; a condition reads it.
        score: what the verdict rests on; higher is better.
        reason: one line for a person.
    """

    passed: bool
    score: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Everything about a language model that its KV depends on.

    Attributes:
        name: what the user called it.
        weights: SHA-256 over the weight files' content.
        config: canonical text of the configuration: shape, rotary parameters, activation.
        dtype: dtype of the forward pass and of the stored tensors.
        tokenizer: SHA-256 of the tokenizer's definition.
        adapter: SHA-256 of an adapter's weights; empty without one.
    """

    name: str
    weights: str
    config: str
    dtype: str
    tokenizer: str
    adapter: str = ""


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens whose KV can be kept: the shared prefix, or a passage that follows it.

    Its KV is a function of exactly these fields, `sentence_rows` and `name` apart. A passage is
    encoded at positions that start after its parents, so no position is part of it.

    Attributes:
        model: who computes the KV.
        role: what the tokens are.
        token_ids: the tokens, at least one.
        parents: segments that were visible while encoding, in order.
        sentence_rows: for each sentence of a passage its half-open token rows.
        name: passage id or `prefix`, for messages only.
        document: the document whose deletion makes the KV worthless; empty for a prefix.
    """

    model: ModelIdentity
    role: Literal["prefix", "passage"]
    token_ids: tuple[int, ...]
    parents: tuple[Segment, ...] = ()
    sentence_rows: tuple[tuple[int, int], ...] = ()
    name: str = ""
    document: str = ""

    def __post_init__(self) -> None:
        if not self.token_ids:
            raise ValueError(f"segment {self.name!r} needs at least one token, got none")

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def start(self) -> int:
        """Position of its first token when it was encoded: the length of its parents."""
        return sum(len(parent) for parent in self.parents)
