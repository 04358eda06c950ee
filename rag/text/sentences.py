"""Sentence splitting by rules, with exact spans that partition the text."""

import re
from bisect import bisect_right
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from rag.records import Span

LONGEST = 1200  # code points of one sentence, its trailing white space not counted
CODE_GROUP = 600  # code points of code after which the next line begins a new sentence

# Never the end of a sentence: what they announce follows.
_ANNOUNCING = frozenset(
    "dr mr mrs ms prof st mt gen sen rep gov capt lt col sgt cpl cmdr rev hon messrs mme mlle fr "
    "e.g i.e eg ie cf viz vs v approx ca resp incl fed bankr cir".split()
)
# Abbreviations before a number or a letter only.
_NUMBERED = frozenset(
    "no nos nr art ch chap eq eqs ex fig figs p pp par pt sec sect tab vol abs sp".split()
)
# Abbreviations that may end a sentence: the next word decides.
_EITHER = frozenset(
    "etc al inc ltd co corp bros llc plc jr sr esq ph.d dept univ assn est ed eds repr trans "
    "jan feb mar apr jun jul aug sept sep oct nov dec mon tue tues wed thu thur thurs fri sat sun "
    "ave blvd rd hwy ft oz lb lbs min max avg misc op".split()
)
_STARTERS = frozenset(
    "a all although an and as at because before both but by during each for from he her here his "
    "how however i if in it its many most my no not on or our she since so some that the their "
    "then there these they this those thus to under we what when where which while who why with "
    "you your".split()
)
_QUOTATIVES = frozenset("とっはがをのもでにへ、，,")

_CLOSERS = "\"'”’»)\\]}*_`」』）】〉》"
_END = re.compile(
    rf"(?P<mark>[.!?…‼⁇⁈⁉。！？｡]+)(?P<close>[{_CLOSERS}]*(?:\[[^\[\]\s]{{1,12}}\])*)(?P<gap>\s*)"
)
_TOKEN = re.compile(r"[^\s\"'“”‘’(\[{—–/*_`]*\Z")
_ACRONYM = re.compile(r"[^\W\d_]{1,3}(?:\.[^\W\d_]{1,3})+")
_ENUMERATOR = re.compile(r"\d{1,3}(?:\.\d{1,3})*|[^\W\d_]|[ivxlcIVXLC]{1,5}")
_NEXT_SAYS = re.compile(r"\w")
_WORD = re.compile(r"\W{0,8}(\w+)\.?")
_BULLET = re.compile(r"[-*+•◦▪‣·●○■]\s")
_ORDERED = re.compile(r"\(?(?P<label>\d{1,3}|[a-zA-Z]|[ivxIVX]{1,4})[.)]\s")
_TERMINATED = re.compile(r"[.:;!?。：；！？][\"'”’)\]*_]*\Z")
_HEADING = re.compile(r"#{1,6}\s")
_UNDERLINE = re.compile(r"([=\-~*^\"#])\1{2,}")
_GRID = re.compile(r"\+[-=+]{3,}")
_FENCE = re.compile(r"```+|~~~+")
_SAYS = re.compile(r"\w")
_WORD = re.compile(r"[\"'“‘(*_`]*[^\W\d_][^\W\d_'’-]*[\"'”’)*_`.,;:!?]*")
_CJK_STOP = re.compile(r"[。！？｡]")


class _Line(NamedTuple):
    """A line that is not blank: where its visible characters run, and how far it is indented."""

    start: int
    end: int
    indent: int
    body: str


def split_sentences(text: str) -> tuple[Span, ...]:
    """Return the sentences of a text: spans that partition it, in order.

    White space belongs to the sentence before it, leading white space to the first one, so every
    later span begins with a visible character. Blank lines, list items, headings, table rows and
    (indented or fenced) code are boundaries; the single line breaks of wrapped text are not. Code
    is cut between lines, never at dots. A sentence of more than 1,200 code points is cut at white
    space, or hard where there is none. Rules fit English best; CJK full stops need no space after
    them. Takes time linear in the text.

    Args:
        text: any text; empty or white space alone has no sentences.
    """
    starts = list(_starts(text))
    if not starts:
        return ()
    cuts = [0]
    for start, end in pairwise([*starts, len(text)]):
        cuts.extend(_capped(text, start, end))
    return tuple(Span(start, end) for start, end in pairwise([*cuts, len(text)]))


def _starts(text: str) -> Iterator[int]:
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
            if not code:
                yield from _inner_starts(text, start, end)


def _paragraphs(text: str) -> Iterator[tuple[list[_Line], bool]]:
    """Yield runs of lines between blank lines, and whether the run is fenced code."""
    lines: list[_Line | None] = []
    begin = 0
    for raw in text.splitlines(keepends=True):
        body = raw.strip()
        if body:
            start = begin + len(raw) - len(raw.lstrip())
            indent = len(text[begin:start].expandtabs(4))
            lines.append(_Line(start, start + len(body), indent, body))
        if not body or raw[-1] in "\f\u2029":
            lines.append(None)
        begin += len(raw)
    closing = {
        mark: [row for row, line in enumerate(lines) if line and set(line.body) == {mark}]
        for mark in "`~"
    }
    run: list[_Line] = []
    row = 0
    while row < len(lines):
        line = lines[row]
        if line is None:
            if run:
                yield run, False
            run = []
        elif (fence := _FENCE.match(line.body)) and (line.body[0] == "`" or not run):
            rows = closing[line.body[0]]
            after = bisect_right(rows, row)
            if after < len(rows) and "`" not in line.body[fence.end() :]:
                if run:
                    yield run, False
                yield [code for code in lines[row : rows[after] + 1] if code], True
                run, row = [], rows[after]
            else:
                run.append(line)
        else:
            run.append(line)
        row += 1
    if run:
        yield run, False


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
    if _UNDERLINE.fullmatch(line.body):
        return False
    if _GRID.match(block[0].body) or _GRID.match(line.body):
        # A grid table: each border goes with the row below it, the last with the row above.
        border = _GRID.match(line.body) is not None
        return border and following is not None and following.body[0] == "|"
    if _HEADING.match(last.body) or _HEADING.match(line.body) or _UNDERLINE.fullmatch(last.body):
        return True
    if any(" | " in row.body or row.body[0] == "|" for row in (last, line)):
        return True
    terminated = _TERMINATED.search(last.body) is not None
    if _BULLET.match(line.body):
        return True
    if item := _ORDERED.match(line.body):
        listed = item["label"].isdigit() and (item["label"] == "1" or _marker(block[0]) is not None)
        return terminated or listed
    if line.indent > last.indent + 1 and not _marker(last):
        return terminated or len(last.body) < 50
    # A wrapped line is full; a much shorter one was ended on purpose.
    fields = len(last.body) < 0.6 * width and last.body[-1] not in ",-"
    return width >= 60 and fields and (line.body[0].isupper() or line.body[0].isdigit())


def _inner_starts(text: str, start: int, end: int) -> Iterator[int]:
    """Yield where sentences begin inside `text[start:end]`, its own beginning left out."""
    begin = start
    for match in _END.finditer(text, start, end):
        after = match.end()
        if after < end and _ends(text, begin, match):
            yield after
            begin = after


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
    word = token[0].lower()
    if following.islower():
        wrapped = not close and gap.strip(" \t\xa0") and mark != "…" and mark.count(".") < 2
        return bool(wrapped) and len(word) > 1 and not _abbreviates(token[0])
    if mark != ".":
        return True
    if word in _ANNOUNCING or (token.start() == begin and _ENUMERATOR.fullmatch(token[0])):
        return False
    coming = _NEXT_WORD.match(text, match.end())
    if word in _NUMBERED:
        return coming is None or not (coming[1].isdigit() or len(coming[1]) == 1)
    if _abbreviates(token[0]):
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
