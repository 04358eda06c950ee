"""Subtitles (.srt, .vtt): a transcript whose sentences run over cues, and when each cue is said."""

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

from rag.corpus.loaders.decoding import decode
from rag.errors import CorpusError
from rag.records import Cue, Document, Metadata, Span

_ROLLING_LINES = 4  # captions that roll up show at most four lines
_ROLLING_GAP_S = 1.0  # what is shown again after a longer gap is said again
_PAUSE_S = 1.0  # ends a sentence where the transcript has no punctuation
_PUNCTUATED = 0.05  # share of cues with a mark that ends sentences, from which on those decide

_TIME = r"(?:([0-9]{1,4}):)?([0-9]{1,2}):([0-9]{1,2})(?:[.,]([0-9]{1,3}))?"
_TIMING = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}(?!\S)")
_MISTIMED = re.compile(r"\s*-?[0-9]+:\S*\s*-->")
_COUNTER = re.compile(r"\s*[0-9]+\s*")
_ASIDE = re.compile(r"(?:NOTE|STYLE|REGION)(?!\S)")

_VOICE = re.compile(r"(<v(?:\.[^\s<>]*)?\s+[^<>]*>|</v>)", re.IGNORECASE)
_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_TAG = re.compile(
    r"</?(?:b|c|font|i|lang|rt|ruby|s|span|u|v)(?![\w-])[^<>]*>|<[0-9:.,]+>|\{\\[^{}]*\}",
    re.IGNORECASE,
)
_ENTITY = re.compile(r"&#?\w{1,32};")
_INVISIBLE = re.compile("[\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")

_CHANGE = re.compile(r">>+\s*")
_DIALOGUE = re.compile(r"-\s*[^\W\d]")
_NAMED = re.compile(r"([^\W\d_][\w.'’-]*(?: [\w.'’-]+){0,2}):(?!\S)")
_SOUND = re.compile(r"\[[^\[\]]*\]|\([^()]*\)|[♪♫#*][^♪♫]*[♪♫#*]|[♪♫\s]+")
_TERMINATED = re.compile("[.!?…。！？।؟][\"'”’»)\\]」』]*\\Z")
_MARK = re.compile(r"[.!?…](?!\S)|[。！？।؟]")
_UNSPACED = re.compile("[\u3001-\u30ff\u3400-\u9fff\uff00-\uffef]")


class _Line(NamedTuple):
    """A line of a cue: who says it where a tag tells, its words, and whether a turn begins."""

    voice: str
    words: str
    turn: bool


@dataclass(frozen=True, slots=True)
class _Caption:
    """What is shown at a time, before it has its place in a text as a `Cue`."""

    start_s: float
    end_s: float
    lines: tuple[_Line, ...]

    @property
    def words(self) -> tuple[str, ...]:
        """Its lines without their voices."""
        return tuple(line.words for line in self.lines)


@dataclass(frozen=True, slots=True)
class _Utterance:
    """A cue's text, whether a new speaker begins it, and whether it is a sound, not speech."""

    start_s: float
    end_s: float
    text: str
    turn: bool

    @property
    def sound(self) -> bool:
        """Whether all of it is in brackets or between notes."""
        return _SOUND.fullmatch(self.text) is not None


def load_srt(data: bytes, source: str, name: str) -> list[Document]:
    """Return the one document of a SubRip file; see `load_vtt` for what becomes of its cues.

    Counters may be missing, and blank lines may stand inside a cue. A file that begins with
    `WEBVTT` is read as WebVTT.

    Args:
        data: content of the file.
        source: id of the document.
        name: its title.

    Raises:
        CorpusError: for binary content, a file without cues, times that cannot be read, or a cue
            that ends before it starts; the message holds the line number.
    """
    text, encoding = decode(data)
    blank_ends = text.lstrip("\ufeff").startswith("WEBVTT")
    return _document(_captions(text, blank_ends=blank_ends), source, name, encoding)


def load_vtt(data: bytes, source: str, name: str) -> list[Document]:
    """Return the one document of a WebVTT file.

    The text is what is said, in order of time. A sentence that runs over cues is one sentence: cues
    are joined by a space, by a line feed after the end of a sentence, and by a blank line before
    another speaker and around sounds such as `[Music]` between sentences. In a transcript that has
    (next to) no punctuation, blank lines stand around sounds and at pauses of a second.

    Markup is dropped. A voice, `<v Ann>`, is written as `Ann: ` where her turn begins; `>>` begins
    a turn too. In captions that roll up, where cues begin with the line that ended the one before,
    every line is said once. Metadata: modality `video`, `duration_s` (end of the last cue), and
    the encoding.

    Source: WebVTT, W3C candidate recommendation of 4 April 2019. Comments that hold times are
    comments here, and the header may be missing.

    Args:
        data: content of the file.
        source: id of the document.
        name: its title.

    Raises:
        CorpusError: as `load_srt`.
    """
    text, encoding = decode(data)
    return _document(_captions(text, blank_ends=True), source, name, encoding)


def _captions(text: str, *, blank_ends: bool) -> list[_Caption]:
    """Return the cues of a file in its order, those without words too.

    Args:
        text: the file.
        blank_ends: whether an empty line ends a cue (WebVTT), or only the next cue's times do.
    """
    rows = text.split("\n")
    aside = _aside(rows) if blank_ends else frozenset()
    timed = {
        row: times
        for row, line in enumerate(rows)
        if row not in aside and (times := _times(line, row + 1))
    }
    captions = []
    for row, coming in pairwise([*timed, len(rows)]):
        payload = rows[row + 1 : coming]
        if blank_ends and "" in payload:
            payload = payload[: payload.index("")]
        else:
            _drop_counter(payload, before_times=coming < len(rows))
        captions.append(_Caption(*timed[row], tuple(_lines(payload))))
    return captions


def _times(line: str, number: int) -> tuple[float, float] | None:
    """Return start and end of a cue in seconds if a line tells them, else None."""
    timing = _TIMING.match(line)
    if timing is None:
        if _MISTIMED.match(line):
            raise CorpusError(
                f"line {number}: times must be like 00:01:02.500 --> 00:01:05.000, got "
                f"{line.strip()[:80]!r}"
            )
        return None
    start_s, end_s = _seconds(*timing.groups("")[:4]), _seconds(*timing.groups("")[4:])
    if end_s < start_s:
        raise CorpusError(
            f"line {number}: a cue must not end before it starts, got {line.strip()[:80]!r}"
        )
    return start_s, end_s


def _seconds(hours: str, minutes: str, seconds: str, fraction: str) -> float:
    """Return the seconds of a time; what it leaves out is empty."""
    whole = 3600 * int(hours or 0) + 60 * int(minutes) + int(seconds)
    return (1000 * whole + int(fraction.ljust(3, "0"))) / 1000


def _aside(rows: Sequence[str]) -> frozenset[int]:
    """Return the rows of comments, styles and regions, which run to an empty line."""
    found, inside = set(), False
    for row, line in enumerate(rows):
        begins = not (row and rows[row - 1]) and _ASIDE.match(line) is not None
        inside = bool(line) and (inside or begins)
        if inside:
            found.add(row)
    return frozenset(found)


def _drop_counter(payload: list[str], *, before_times: bool) -> None:
    """Take the number of the next cue off the end of a payload, and the blank lines around it.

    Args:
        payload: lines below a cue's times; changed.
        before_times: whether the next cue's times come right after them.
    """
    direct = before_times and bool(payload) and bool(payload[-1].strip())
    while payload and not payload[-1].strip():
        payload.pop()
    apart = len(payload) > 1 and not payload[-2].strip()
    if (direct or apart) and payload and _COUNTER.fullmatch(payload[-1]):
        payload.pop()


def _lines(payload: Sequence[str]) -> Iterator[_Line]:
    """Yield the lines of a cue that say something, one for each voice in them."""
    voice = ""
    for raw in _BREAK.sub("\n", "\n".join(payload)).split("\n"):
        for piece in _VOICE.split(raw):
            if _VOICE.fullmatch(piece):
                voice = _plain(piece.strip("<>")).partition(" ")[2]
                continue
            words = _plain(_TAG.sub("", piece))
            change = _CHANGE.match(words)
            if change:
                words = words[change.end() :]
            named = _NAMED.match(words)
            turn = change or _DIALOGUE.match(words) or (named and named[1].isupper())
            if words:
                yield _Line(voice, words, bool(turn))


def _plain(text: str) -> str:
    """Return a text with its entities decoded and its white space folded."""
    decoded = _ENTITY.sub(lambda entity: html.unescape(entity[0]), text)
    return " ".join(_INVISIBLE.sub("", decoded).split())


def _document(captions: list[_Caption], source: str, name: str, encoding: str) -> list[Document]:
    """Return the one document of cues in the order of a file."""
    shown = sorted((c for c in captions if c.lines), key=lambda caption: caption.start_s)
    if not shown:
        raise CorpusError(
            "holds no cue with words; a cue is a line `00:01:02.500 --> 00:01:05.000` and, below "
            "it, what is said"
        )
    said = list(_utterances(_said_once(shown)))
    marks = sum(_MARK.search(each.text) is not None for each in said)
    punctuated = marks >= _PUNCTUATED * len(said)
    parts: list[str] = []
    cues: list[Cue] = []
    length, unfinished = 0, False
    for row, each in enumerate(said):
        if row:
            parts.append(_between(said[row - 1], each, punctuated, unfinished))
            length += len(parts[-1])
        parts.append(each.text)
        cues.append(Cue(Span(length, length + len(each.text)), each.start_s, each.end_s))
        length += len(each.text)
        if not each.sound:
            unfinished = _TERMINATED.search(each.text) is None
    duration_s = max(caption.end_s for caption in shown)
    facts: Metadata = {"modality": "video", "duration_s": duration_s, "encoding": encoding}
    return [Document(source, "".join(parts), name, metadata=facts, cues=tuple(cues))]


def _said_once(captions: Sequence[_Caption]) -> list[_Caption]:
    """Return cues without the lines that only stay on the screen, where captions roll up.

    They do if at least half of the cues with several lines begin with what ended the one before.
    """
    repeats = [0, *(_repeated(*pair) for pair in pairwise(captions))]
    several = sum(len(caption.lines) > 1 for caption in captions)
    rolled = sum(
        0 < repeat < len(caption.lines) for caption, repeat in zip(captions, repeats, strict=True)
    )
    if not rolled or 2 * rolled < several:
        return list(captions)
    return [
        replace(caption, lines=caption.lines[repeat:])
        for caption, repeat in zip(captions, repeats, strict=True)
        if repeat < len(caption.lines)
    ]


def _repeated(before: _Caption, caption: _Caption) -> int:
    """Return how many lines at a cue's beginning are those that the one before ended with."""
    if caption.start_s - before.end_s > _ROLLING_GAP_S:
        return 0
    most = min(_ROLLING_LINES, len(before.lines), len(caption.lines))
    fitting = (n for n in range(most, 0, -1) if before.words[-n:] == caption.words[:n])
    return next(fitting, 0)


def _utterances(captions: Sequence[_Caption]) -> Iterator[_Utterance]:
    """Yield the text of each cue, with the name of a voice where its turn begins."""
    speaker = ""
    for caption in captions:
        text, begins = "", False
        for row, line in enumerate(caption.lines):
            turn = line.turn or bool(line.voice and line.voice != speaker)
            words = f"{line.voice}: {line.words}" if line.voice not in {"", speaker} else line.words
            speaker = line.voice or speaker
            begins = begins or (turn and not row)
            text += ("\n\n" if turn else _glue(text, words)) + words if row else words
        yield _Utterance(caption.start_s, caption.end_s, text, begins)


def _between(before: _Utterance, each: _Utterance, punctuated: bool, unfinished: bool) -> str:
    """Return what stands between two cues.

    Args:
        before: the cue before.
        each: the cue after it.
        punctuated: whether punctuation tells where sentences end.
        unfinished: whether the last speech before broke off inside a sentence.
    """
    sound = before.sound or each.sound
    apart = sound or each.start_s - before.end_s >= _PAUSE_S
    ends = not unfinished if punctuated else apart
    if each.turn or (ends and (sound or not punctuated)):
        return "\n\n"
    return "\n" if ends else _glue(before.text, each.text)


def _glue(left: str, right: str) -> str:
    """Return what joins two pieces of a sentence: nothing in scripts without spaces."""
    unspaced = _UNSPACED.fullmatch(left[-1]) and _UNSPACED.fullmatch(right[0])
    return "" if unspaced else " "
