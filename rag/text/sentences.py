"""Sentence splitting by rules, with exact spans that partition the text."""

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

from rag.records import Span

LONGEST = 1200  # code points of one sentence, its trailing white space not counted
CODE_GROUP = 600  # code points of code after which the next line begins a new sentence

# Never the end of a sentence: what they announce follows.
_ANNOUNCING = frozenset(
    """
    approx bankr ca capt cf cir cmdr col cpl dr e.g eg fed fr gen gov hon i.e ie incl lt messrs mlle
    mme mr mrs ms mt prof rep resp rev sen sgt st v viz vs
    """.split()  # noqa: SIM905 (a table of words reads better)
)
# Abbreviations before a number or a single letter only.
_NUMBERED = frozenset(
    """
    abs art ch chap eq eqs ex fig figs no nos nr p par pp pt sec sect sp tab vol
    """.split()  # noqa: SIM905 (a table of words reads better)
)
# Abbreviations that may end a sentence: the next word decides.
_EITHER = frozenset(
    """
    al apr assn aug ave blvd bros co corp dec dept ed eds esq etc feb ft hwy inc jan jr jul jun lb
    lbs llc ltd mon nov oct oz ph.d plc rd repr sept sr thurs tues univ
    """.split()  # noqa: SIM905 (a table of words reads better)
)
# Words that begin a sentence more often than they follow an abbreviation.
_STARTERS = frozenset(
    """
    a all although an and as at because before both but by during each for from he her here his how
    however i if in it its many most my no not on or our she since so some that the their then there
    these they this those thus to under we what when where which while who why with you your
    """.split()  # noqa: SIM905 (a table of words reads better)
)
_QUOTATIVES = frozenset("とっはがをのもでにへ、，,")

_CLOSERS = "\"'”’»)\\]}*_`」』）】〉》"
_END = re.compile(
    rf"(?P<mark>[.!?…‼⁇⁈⁉。！？｡]+)(?P<close>[{_CLOSERS}]*(?:\[[^\[\]\s]{{1,12}}\])*)(?P<gap>\s*)"
)
_TOKEN = re.compile(r"[^\s\"'“”‘’(\[{—–/*_`]*\Z")
_ACRONYM = re.compile(r"[^\W\d_]{1,3}(?:\.[^\W\d_]{1,3})+")
_ENUMERATOR = re.compile(r"\d{1,3}(?:\.\d{1,3})*|[^\W\d_]|[ivxlcIVXLC]{1,5}")
_SAYS = re.compile(r"\w")
_VISIBLE = re.compile(r"\S")
_NEXT_WORD = re.compile(r"\W{0,8}(\w+)\.?")
_BULLET = re.compile(r"[-*+•◦▪‣·●○■]\s")
_ORDERED = re.compile(r"\(?(?P<label>\d{1,3}|[a-zA-Z]|[ivxIVX]{1,4})[.)]\s")
_TERMINATED = re.compile(r"[.:;!?。：；！？][\"'”’)\]*_]*\Z")
_ALONE = re.compile(r"#{1,6}\s|\||.{0,200}? \| ")  # a Markdown heading, a row of a table
_UNDERLINE = re.compile(r"([=\-~*^\"#])\1{2,}")
_FIELD = re.compile(r"[^:.;!?]{1,60}: ")
_GRID = re.compile(r"\+[-=+]{3,}")
_FENCE = re.compile(r"```+|~~~+")
_WORD = re.compile(r"[\"'“‘(*_`]*[^\W\d_][^\W\d_'’-]*[\"'”’)*_`.,;:!?]*")
_CJK_STOP = re.compile(r"[。！？｡]")


class _Line(NamedTuple):
    """A line that is not blank: where its visible characters run, and how far it is indented."""

    start: int
    end: int
    indent: int
    body: str


Prose = Callable[[str], Iterable[int]]
"""Gives the code points at which the sentences of running prose begin, ascending."""


def split_sentences(text: str, prose: Prose | None = None) -> tuple[Span, ...]:
    """Return the sentences of a text: spans that partition it, in order.

    White space belongs to the sentence before it, leading white space to the first one, so every
    later span begins with a visible character. Blank lines, list items, headings, table rows and
    (indented or fenced) code are boundaries; the single line breaks of wrapped text are not. Code
    is cut between lines, never at dots. A sentence of more than 1,200 code points is cut at white
    space, or hard where there is none. Rules fit English best; CJK full stops need no space after
    them. Takes time linear in the text.

    Args:
        text: any text; empty or white space alone has no sentences.
        prose: finds sentences inside paragraphs in place of our rules; see `rag.text.splitters`.
    """
    starts = list(_starts(text, prose))
    if not starts:
        return ()
    cuts = [0]
    for start, end in pairwise([*starts, len(text)]):
        cuts.extend(_capped(text, start, end))
    return tuple(Span(start, end) for start, end in pairwise([*cuts, len(text)]))


def _starts(text: str, prose: Prose | None) -> Iterator[int]:
    """Yield where each sentence's first visible character stands, long sentences uncut."""
    empty = True
    for lines, fenced in _paragraphs(text):
        code = fenced or _is_code(lines)
        for piece in _code_groups(lines) if code else _blocks(lines):
            start, end = piece[0].start, piece[-1].end
            # Rules and underlines say nothing alone: they stay with the text before them.
            if empty or _SAYS.search(text, start, end):
                yield start
            empty = False
            if not code and not _ALONE.match(piece[0].body) and not _GRID.match(piece[0].body):
                if prose is None:
                    yield from _inner_starts(text, start, end)
                else:
                    yield from _told_starts(text, start, end, prose)


def _lines(text: str) -> list[_Line | None]:
    """Return the lines of a text; None stands for a blank line or another hard boundary."""
    lines: list[_Line | None] = []
    begin = 0
    for raw in text.splitlines(keepends=True):
        if body := raw.strip():
            start = begin + raw.index(body[0])
            indent = len(text[begin:start].expandtabs(4))
            lines.append(_Line(start, start + len(body), indent, body))
        if not body or raw[-1] in "\f\u2029":
            lines.append(None)
        begin += len(raw)
    return lines


def _paragraphs(text: str) -> Iterator[tuple[list[_Line], bool]]:
    """Yield runs of lines between blank lines, and whether the run is fenced code."""
    lines = _lines(text)
    fences = _fences(lines)
    run: list[_Line] = []
    row = 0
    while row < len(lines):
        line = lines[row]
        closing = fences.get(row)
        if run and (line is None or closing):
            yield run, False
            run = []
        if closing:
            yield [code for code in lines[row : closing + 1] if code], True
            row = closing
        elif line:
            run.append(line)
        row += 1
    if run:
        yield run, False


def _fences(lines: list[_Line | None]) -> dict[int, int]:
    """Return the rows where fenced code opens, each with the row where it closes."""
    fences: dict[int, int] = {}
    opened: tuple[int, str] | None = None
    for row, line in enumerate(lines):
        if line is None or not (fence := _FENCE.match(line.body)):
            continue
        bare = fence.end() == len(line.body)
        if opened is None:
            # A row of tildes below a line is a heading's underline.
            if "`" not in line.body[fence.end() :] and not (
                fence[0][0] == "~" and row and lines[row - 1]
            ):
                opened = (row, fence[0])
        elif bare and fence[0].startswith(opened[1]):
            fences[opened[0]] = row
            opened = None
    return fences


def _is_code(lines: list[_Line]) -> bool:
    """Tell indented code from indented prose: most tokens of prose are plain words."""
    if any(line.body.startswith(">>> ") for line in lines):
        return True
    body = " ".join(line.body for line in lines)
    if min(line.indent for line in lines) < 2 or _marker(lines[0]) or _CJK_STOP.search(body):
        return False
    tokens = body.split()
    plain = sum(_WORD.fullmatch(token) is not None for token in tokens)
    reads = body.lstrip("\"'“‘(*_`")[:1].isupper() or body[-1] in ".!?:;…"
    return not (reads and plain >= 0.65 * len(tokens) and (len(tokens) > 3 or body[-1] in ".!?"))


def _code_groups(lines: list[_Line]) -> Iterator[list[_Line]]:
    """Yield whole lines of code in groups of about `CODE_GROUP` code points."""
    group: list[_Line] = []
    for line in lines:
        if group and line.end - group[0].start > CODE_GROUP:
            yield group
            group = []
        group.append(line)
    yield group


def _marker(line: _Line) -> re.Match[str] | None:
    """Match a list marker at the beginning of a line."""
    return _BULLET.match(line.body) or _ORDERED.match(line.body)


def _blocks(lines: list[_Line]) -> Iterator[list[_Line]]:
    """Yield the runs of a paragraph's lines that a sentence can span."""
    width = min(100, max(len(line.body) for line in lines))
    fresh = sum(line.body[0].isupper() or line.body[0].isdigit() for line in lines)
    terminated = sum(_TERMINATED.search(line.body) is not None for line in lines)
    if len(lines) >= 4 and fresh >= 0.75 * len(lines) and terminated <= 0.1 * len(lines):
        width = 1000  # a listing: no line is full
    block = [lines[0]]
    for row, line in enumerate(lines[1:], 1):
        following = lines[row + 1] if row + 1 < len(lines) else None
        if _breaks(block, line, following, width):
            yield block
            block = []
        block.append(line)
    yield block


def _breaks(block: list[_Line], line: _Line, following: _Line | None, width: int) -> bool:
    """Tell whether a line begins something new rather than going on with its block.

    Args:
        block: the lines before it that belong together.
        line: the line in question.
        following: the line after it.
        width: columns that the paragraph is wrapped at.
    """
    last = block[-1]
    if _GRID.match(block[0].body) or _GRID.match(line.body):
        # A grid table: each border goes with the row below it, the last with the row above.
        border = _GRID.match(line.body) is not None
        return border and following is not None and following.body[0] == "|"
    if _UNDERLINE.fullmatch(line.body):
        return False
    if any(_ALONE.match(row.body) for row in (last, line)) or _UNDERLINE.fullmatch(last.body):
        return True
    terminated = _TERMINATED.search(last.body) is not None
    if item := _ORDERED.match(line.body):
        numbered = item["label"].isdigit() and (item["label"] == "1" or _marker(block[0]))
        return terminated or bool(numbered)
    if line.indent > last.indent + 1 and not _marker(last):
        return terminated or len(last.body) < 50
    record = terminated and _FIELD.match(last.body) and _FIELD.match(line.body)
    # A wrapped line is full; a much shorter one was ended on purpose.
    ended = width >= 60 and len(last.body) < 0.6 * width and last.body[-1] not in ",-"
    fresh = line.body[0].isupper() or line.body[0].isdigit()
    return bool(_BULLET.match(line.body) or record or (ended and fresh))


def _inner_starts(text: str, start: int, end: int) -> Iterator[int]:
    """Yield where sentences begin inside `text[start:end]`, its own beginning left out."""
    begin = start
    for match in _END.finditer(text, start, end):
        after = match.end()
        if after < end and _ends(text, begin, match):
            yield after
            begin = after


def _told_starts(text: str, start: int, end: int, prose: Prose) -> Iterator[int]:
    """Yield where another splitter lets sentences begin inside `text[start:end]`."""
    begin = start
    for offset in prose(text[start:end]):
        # What a library calls a sentence may begin with white space, or hold nothing else.
        visible = _VISIBLE.search(text, start + offset, end)
        if visible and visible.start() > begin:
            begin = visible.start()
            yield begin


def _ends(text: str, begin: int, match: re.Match[str]) -> bool:
    """Tell whether a sentence that began at `begin` ends at a match of `_END`."""
    mark, close, gap = match["mark"], match["close"], match["gap"]
    following = text[match.end()]
    if mark[-1] in "。！？｡":
        return not (close and following in _QUOTATIVES)
    if not gap or following in ",;:)]}?!.…%":
        return False
    token = _TOKEN.search(text, max(begin, match.start() - 30), match.start())
    assert token is not None  # it matches the empty string too
    if following.islower():
        # A new line after a full stop is a boundary; anywhere else a small letter goes on.
        ended = mark == "." and not close and gap.strip(" \t\xa0") != ""
        return ended and len(token[0]) > 1 and not _abbreviates(token[0])
    if mark != ".":
        return True
    enumerates = token.start() == begin and _ENUMERATOR.fullmatch(token[0]) is not None
    return not enumerates and _ends_before(token[0], _NEXT_WORD.match(text, match.end()))


def _ends_before(token: str, coming: re.Match[str] | None) -> bool:
    """Tell whether a word and its full stop end a sentence, given the word that comes after."""
    word = token.lower()
    if word in _ANNOUNCING:
        return False
    if word in _NUMBERED:
        return coming is None or not (coming[1].isdigit() or len(coming[1]) == 1)
    if _abbreviates(token):
        return coming is not None and coming[1].lower() in _STARTERS and coming[0][-1] != "."
    return True


def _abbreviates(token: str) -> bool:
    """Tell whether a word before a full stop looks like an abbreviation or an initial."""
    word = token.lower()
    known = word in _ANNOUNCING or word in _NUMBERED or word in _EITHER
    initial = len(token) == 1 and token.isupper()
    return known or initial or _ACRONYM.fullmatch(token) is not None


def _capped(text: str, start: int, end: int) -> Iterator[int]:
    """Yield where the later pieces of a sentence begin, then where the next sentence does.

    Each piece has at most `LONGEST` code points before its trailing white space.
    """
    stop = start + len(text[start:end].rstrip())
    while stop - start > LONGEST:
        cut = start + LONGEST
        while cut > start and not text[cut].isspace():
            cut -= 1
        if cut == start:
            cut = start + LONGEST
        while text[cut].isspace():
            cut += 1
        yield cut
        start = cut
    if end < len(text):
        yield end
