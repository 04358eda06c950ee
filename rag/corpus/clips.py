"""Clips and videos: a transcript's whole cues as passages, by seconds or by words."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from rag.corpus.chunking import chained, count_words, passage_of
from rag.records import Cue, Document, Passage, Span
from rag.text.splitters import SentenceSplitter

_PIECE = 30  # words of a piece of a sentence that has more than twice as many
_ALGORITHM = 1  # raise it when clips or videos give other passages than before


@dataclass(frozen=True, slots=True)
class ClipChunker:
    """Makes clips: consecutive whole cues of at most `seconds`, cut rather where nobody speaks.

    A clip that does not reach the end of the transcript ends where the longest pause of at least
    `pause` seconds begins, else at the last end of a sentence, else at the last cue that fits; in
    each case not before half of `seconds`, and leaving at least a quarter of it. The later cut wins
    a tie. A cue that is longer than `seconds` is a clip of its own.

    A sentence is cut where a clip ends. One of more than 60 words, as transcripts without
    punctuation have them, counts as several: pieces of whole cues, of at most 30 words where cues
    allow it.

    UniversalRAG (arXiv 2504.20734) cuts clips at changes of scene in the picture; here the
    transcript alone decides, so that nothing of the video is decoded.

    Attributes:
        seconds: the most that a clip lasts, above 0.
        pause: silence that is worth a cut, at least 0.
        splitter: finds the sentences.

    Raises:
        ValueError: for a number out of its range.
    """

    seconds: float = 90.0
    pause: float = 2.0
    splitter: SentenceSplitter = SentenceSplitter()

    def __post_init__(self) -> None:
        if not 0 < self.seconds < math.inf:
            raise ValueError(f"seconds must be above 0 and finite, got {self.seconds}")
        if not 0 <= self.pause < math.inf:
            raise ValueError(f"pause must be at least 0 and finite, got {self.pause}")

    @property
    def fingerprint(self) -> str:
        """A name for what this chunker does: passages made under another one are out of date."""
        head = f"clips-{_ALGORITHM}-seconds-{self.seconds:g}-pause-{self.pause:g}"
        return f"{head}{self.splitter.suffix}"

    def __call__(self, document: Document) -> list[Passage]:
        """Return the clips in order, ids `<document id>:c<n>`; none without cues.

        Every cue is in exactly one of them. Their metadata holds `start_s` and `end_s`, in seconds
        from the beginning of the recording; their titles end with that span, as
        `00:01:30-00:03:00`.
        """
        if not document.cues:
            return []
        cues = document.cues
        sentences = _sentences(document, self.splitter)
        heard = list(accumulate((cue.end_s for cue in cues), max))
        opens = _opens_sentence(cues, sentences)

        def worth(cut: int) -> tuple[float, bool, int]:
            silence = cues[cut].start_s - heard[cut - 1]
            return silence if silence >= self.pause else -math.inf, opens[cut], cut

        begins = [*(cue.start_s for cue in cues), heard[-1]]
        runs = _runs(begins, [cue.end_s for cue in cues], self.seconds, worth)
        return _passages(document, list(runs), sentences, "c")


@dataclass(frozen=True, slots=True)
class VideoChunker:
    """Makes one passage of a whole transcript, or consecutive parts of at most `words` words.

    A part that does not reach the end is cut at the last end of a sentence that leaves it at least
    half of `words` and the rest a quarter, else at the last cue that fits. A cue of more words is a
    part of its own. Sentences are those of `ClipChunker`.

    Attributes:
        words: the most words of a part, at least 1.
        splitter: finds the sentences.

    Raises:
        ValueError: if `words` is below 1.
    """

    words: int = 600
    splitter: SentenceSplitter = SentenceSplitter()

    def __post_init__(self) -> None:
        if self.words < 1:
            raise ValueError(f"words must be at least 1, got {self.words}")

    @property
    def fingerprint(self) -> str:
        """A name for what this chunker does: passages made under another one are out of date."""
        return f"videos-{_ALGORITHM}-words-{self.words}{self.splitter.suffix}"

    def __call__(self, document: Document) -> list[Passage]:
        """Return the parts in order, ids `<document id>:v<n>`; else as `ClipChunker`."""
        if not document.cues:
            return []
        sentences = _sentences(document, self.splitter)
        opens = _opens_sentence(document.cues, sentences)
        counts = (count_words(cue.span.of(document.text)) for cue in document.cues)
        begins = [0, *accumulate(counts)]
        runs = _runs(begins, begins[1:], self.words, lambda cut: (opens[cut], cut))
        return _passages(document, list(runs), sentences, "v")


def clock(seconds: float) -> str:
    """Return a time as `hours:minutes:seconds`, rounded down: 90.5 is `00:01:30`."""
    whole = math.floor(seconds)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}"


def _sentences(document: Document, splitter: SentenceSplitter) -> list[Span]:
    """Return the sentences of a transcript, long ones cut between cues."""
    text, found = document.text, []
    starts = [cue.span.start for cue in document.cues]
    for sentence in splitter(text):
        cuts = [sentence.start]
        if count_words(sentence.of(text)) > 2 * _PIECE:
            inside = starts[
                bisect_right(starts, sentence.start) : bisect_left(starts, sentence.end)
            ]
            for start, end in pairwise([*inside, sentence.end]):
                if count_words(text[cuts[-1] : end]) > _PIECE:
                    cuts.append(start)
        found += [Span(start, end) for start, end in pairwise([*cuts, sentence.end])]
    return found


def _opens_sentence(cues: Sequence[Cue], sentences: Sequence[Span]) -> list[bool]:
    """Tell for each cue whether a sentence begins where it does."""
    begins = {sentence.start for sentence in sentences}
    return [cue.span.start in begins for cue in cues]


def _runs(
    begins: Sequence[float],
    ends: Sequence[float],
    limit: float,
    worth: Callable[[int], tuple[float, ...]],
) -> Iterator[tuple[int, int]]:
    """Yield runs of cues, as rows from and to, of at most `limit` or of one cue.

    Args:
        begins: where each cue begins, in seconds or words, and where the last thing ends.
        ends: where each cue ends.
        limit: the most from where a run begins to where it ends.
        worth: of a cut before a cue; the largest wins.
    """
    first = 0
    while first < len(ends):
        stop, end = first + 1, ends[first]
        while stop < len(ends) and (end := max(end, ends[stop])) - begins[first] <= limit:
            stop += 1
        if stop < len(ends):
            cuts = [
                cut
                for cut in range(first + 1, stop + 1)
                if begins[cut] - begins[first] >= limit / 2
                and begins[-1] - begins[cut] >= limit / 4
            ]
            stop = max(cuts, key=worth, default=stop)
        yield first, stop
        first = stop


def _passages(
    document: Document, runs: Sequence[tuple[int, int]], sentences: Sequence[Span], tag: str
) -> list[Passage]:
    """Return the passages of runs of cues.

    Args:
        document: whose cues they are.
        runs: rows from and to.
        sentences: of the document.
        tag: what stands before the number in an id.
    """
    starts = [sentence.start for sentence in sentences]
    passages = []
    for number, (first, stop) in enumerate(runs):
        cues = document.cues[first:stop]
        start, end = cues[0].span.start, cues[-1].span.end
        own = sentences[bisect_right(starts, start) - 1 : bisect_left(starts, end)]
        inside = [Span(max(start, each.start), min(end, each.end)) for each in own]
        start_s, end_s = cues[0].start_s, max(cue.end_s for cue in cues)
        times = f"{clock(start_s)}-{clock(math.ceil(end_s))}"
        made = passage_of(
            document, f"{document.id}:{tag}{number}", inside, first=start, path=(times,)
        )
        metadata = {**document.metadata, "start_s": start_s, "end_s": end_s}
        passages.append(replace(made, parent=document.id, modality="video", metadata=metadata))
    return chained(passages)
