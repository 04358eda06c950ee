"""Image notes: what the files around an image say of it, in captions, alt texts and paragraphs."""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import unescape
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from rag.corpus.loaders import html, markdown
from rag.corpus.loaders.decoding import decode
from rag.corpus.loaders.silence import silent
from rag.errors import CorpusError
from rag.records import HEADINGS, Document

_CAPTION_FILES = ("captions.jsonl", "manifest.jsonl")  # the first that knows an image wins
_RECORD_KEYS = frozenset({"text", "contents", "body"})
_SIDECARS = ("{name}.txt", "{stem}.caption.txt", "{stem}.txt")  # the first that is there wins
_CAPTION_WORDS = 300  # of a sidecar; a longer one is a document that has the image's name
_AROUND_WORDS = 30  # before the image, and as many after it
_MENTIONS = 3  # of one image that are kept, so that a logo does not collect a whole site

_PLACE = "\ufffc"  # the object replacement character stands where an image stood
_TARGET = "image-of-this-corpus/"
_MARKDOWN_IMAGE = re.compile(
    r"!\[(?P<alt>(?:[^\[\]]|\[[^\[\]]*\])*)\]"
    r"\(\s*(?P<target><[^<>\n]*>|[^()\s]*(?:\([^()\s]*\)[^()\s]*)*)(?:\s+(?:\"[^\"]*\"|'[^']*'))?\s*\)"
    r"|<img\b(?P<attributes>[^<>]*)>",
    re.IGNORECASE,
)
_ATTRIBUTE = re.compile(r"\b(src|alt)\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'>]+))", re.IGNORECASE)
_BLANK_LINES = re.compile(r"\n[^\S\n]*\n")
_UNDERLINE = re.compile(r"^[ \t]*(?:=+|-+)[ \t]*$", re.MULTILINE)
_IS_IMAGE = re.compile(rb"!\[|<img\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ImageNotes:
    """What is known about an image from outside the image.

    Attributes:
        captions: written for it: beside it, in a list of captions, or below it in a page.
        alts: texts that pages give in its place.
        around: headings and paragraphs that it stands between, a text for each page.
    """

    captions: tuple[str, ...] = ()
    alts: tuple[str, ...] = ()
    around: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return the notes as one line that two notes share only if they are equal."""
        return json.dumps([self.captions, self.alts, self.around])


@dataclass(frozen=True, slots=True)
class Gathered:
    """The notes on the images below one folder.

    Attributes:
        notes: by image, for those that something is known about.
        used: files that hold nothing else than such notes, and are no documents.
    """

    notes: Mapping[Path, ImageNotes]
    used: frozenset[Path]


@dataclass(slots=True)
class _Found:
    """Notes on one image while they are gathered."""

    captions: list[str] = field(default_factory=list)
    alts: list[str] = field(default_factory=list)
    around: list[str] = field(default_factory=list)

    def notes(self) -> ImageNotes:
        """Return what was gathered, without what was said before."""
        return ImageNotes(*map(_distinct, (self.captions, self.alts, self.around)))


def gather(images: Sequence[Path], others: Sequence[Path]) -> Gathered:
    """Return what the other files below a folder say of the images below it.

    Captions come from a text file beside the image (`NAME.png.txt`, `NAME.caption.txt`, `NAME.txt`
    of at most 300 words), else from `captions.jsonl` or `manifest.jsonl` in its folder or the
    nearest one above: lines `{"file": path from there, "caption": …, "alt": …}`. Alt texts, figure
    captions and paragraphs come from Markdown and HTML files that show the image. Only the given
    files are read, and a path that leads to none of the images is passed over. What cannot be read
    is left to whoever reads it as a document, to say so.

    Args:
        images: absolute paths.
        others: absolute paths of the other files that are indexed, in the order that counts.
    """
    found = {_normal(image): _Found() for image in images}
    used = {*_sidecars(found, others), *_caption_files(found, others)}
    for page in others:
        if page not in used:
            _mentions(found, page)
    notes = {image: found[_normal(image)].notes() for image in images}
    return Gathered(
        {image: one for image, one in notes.items() if one != ImageNotes()}, frozenset(used)
    )


def image_notes_line(documents: Iterable[Document]) -> str | None:
    """Return a line for a person if there are images whose text was not read, else None."""
    count = sum(
        document.metadata.get("modality") == "image" and document.metadata.get("ocr") is False
        for document in documents
    )
    images = "1 image" if count == 1 else f"{count} images"
    return f"{images} without OCR: pip install 'dovetail-rag[ocr]'" if count else None


def _sidecars(found: Mapping[Path, _Found], others: Sequence[Path]) -> Iterator[Path]:
    """Add what stands in text files beside images, and yield those files."""
    texts = {_normal(path): path for path in others if path.suffix.lower() == ".txt"}
    for image, one in found.items():
        for form in _SIDECARS:
            path = texts.get(image.with_name(form.format(name=image.name, stem=image.stem)))
            if path and (caption := _short_text(path)):
                one.captions.append(caption)
                yield path
                break


def _short_text(path: Path) -> str:
    """Return a text file's words, or nothing if it is too long for a caption or cannot be read."""
    words = _text(path).split()
    return " ".join(words) if len(words) <= _CAPTION_WORDS else ""


def _caption_files(found: Mapping[Path, _Found], others: Sequence[Path]) -> Iterator[Path]:
    """Add what lists of captions say of images without a caption, and yield those lists."""
    lists = [
        (path, lines)
        for path in others
        if path.name in _CAPTION_FILES and (lines := _caption_lines(path))
    ]
    # The nearest folder above an image has the longest path.
    lists.sort(key=lambda one: (-len(one[0].parts), _CAPTION_FILES.index(one[0].name)))
    captioned = {image for image, one in found.items() if one.captions}
    told: set[Path] = set()
    for path, lines in lists:
        names_one = False
        here: set[Path] = set()
        for line in lines:
            image = _resolved(path.parent, line["file"], found)
            texts = {key: " ".join(str(line.get(key) or "").split()) for key in ("caption", "alt")}
            if image is None or not any(texts.values()):
                continue
            names_one = True
            here.add(image)
            if image in told:
                continue
            if texts["caption"] and image not in captioned:
                found[image].captions.append(texts["caption"])
            if texts["alt"]:
                found[image].alts.append(texts["alt"])
        told |= here
        if names_one:
            yield path


def _caption_lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a list of captions; none if any line is something else."""
    lines = []
    for text in _text(path).split("\n"):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
        except ValueError:
            return []
        if not (isinstance(line, dict) and isinstance(line.get("file"), str)):
            return []
        if _RECORD_KEYS & line.keys():
            return []
        lines.append(line)
    return lines


def _mentions(found: Mapping[Path, _Found], page: Path) -> None:
    """Add what a page says of the images that it shows."""
    read = {".md": _markdown_page, ".htm": _html_page, ".html": _html_page}.get(page.suffix.lower())
    if read is None:
        return
    try:
        data = page.read_bytes()
        shown = read(data, page, found) if _IS_IMAGE.search(data) else None
    except Exception:  # noqa: BLE001 (whoever reads the page as a document reports it)
        return
    if shown is None:
        return
    document, images = shown
    placed = {
        int(link.target.removeprefix(_TARGET)): link.start
        for link in document.links
        if link.target.startswith(_TARGET)
    }
    for number, image in enumerate(images):
        if number in placed:
            found[image].around.append(_around(document, placed[number]))


def _markdown_page(
    data: bytes, page: Path, found: Mapping[Path, _Found]
) -> tuple[Document, list[Path]]:
    """Return a page with a mark for each image of the corpus, and those images; add alt texts."""
    images: list[Path] = []

    def marked(match: re.Match[str]) -> str:
        alt, target = match["alt"] or "", match["target"] or ""
        if match["attributes"] is not None:
            values = {
                name.lower(): double or single or bare
                for name, double, single, bare in _ATTRIBUTE.findall(match["attributes"])
            }
            alt, target = unescape(values.get("alt", "")), unescape(values.get("src", ""))
        image = _resolved(page.parent, target.strip("<>"), found)
        if image is None:
            return match[0]
        found[image].alts.append(alt)
        images.append(image)
        return f"[{_PLACE}]({_TARGET}{len(images) - 1})"

    text = _MARKDOWN_IMAGE.sub(marked, decode(data)[0])
    return markdown.load(text.encode(), page.name, page.stem)[0], images


def _html_page(
    data: bytes, page: Path, found: Mapping[Path, _Found]
) -> tuple[Document, list[Path]] | None:
    """Return the same for a web page, whose figure captions are added and taken out too."""
    if not (find_spec("bs4") and find_spec("lxml")):
        return None
    from bs4 import BeautifulSoup

    images: list[Path] = []
    with silent("bs4"):
        soup = BeautifulSoup(data, "lxml")
    for shown in soup.find_all("img", src=True):
        image = _resolved(page.parent, str(shown["src"]), found)
        if image is None:
            continue
        found[image].alts.append(str(shown.get("alt") or ""))
        figure = shown.find_parent("figure")
        for caption in figure.find_all("figcaption") if figure else []:
            found[image].captions.append(caption.get_text())
        mark = soup.new_tag("a", href=f"{_TARGET}{len(images)}")
        mark.string = _PLACE
        shown.replace_with(mark)
        images.append(image)
    for caption in soup.find_all("figcaption"):
        caption.decompose()
    return html.load(str(soup).encode(), page.name, page.stem)[0], images


def _around(document: Document, at: int) -> str:
    """Return the headings above a place, and the paragraphs before and after it as lines.

    The paragraph that it stands in takes the place of those where it has words of its own. Nothing
    is taken from another section.

    Args:
        document: has a mark at the place.
        at: code point of the mark.
    """
    above = [section for section in document.sections if section.start <= at]
    below = [section.start for section in document.sections if section.start > at]
    start, end = 0, below[0] if below else len(document.text)
    path: list[str] = []
    level = 0
    for section in reversed(above):
        if not level or section.level < level:
            path.insert(0, section.title)
            level = section.level
    if above:
        start = min(at, document.text.find("\n", above[-1].start, at) + 1 or at)
    before, after = _blocks(document.text[start:at]), _blocks(document.text[at + 1 : end])
    own = f"{before.pop()} {after.pop(0)}".split()
    if own:
        kept = [" ".join(own[: 2 * _AROUND_WORDS])]
    else:
        last = next((block for block in reversed(before) if block), "").split()
        first = next((block for block in after if block), "").split()
        kept = [" ".join(last[-_AROUND_WORDS:]), " ".join(first[:_AROUND_WORDS])]
    if path[:1] != [document.title]:
        path.insert(0, document.title)
    return "\n".join(filter(None, (HEADINGS.join(path), *kept)))


def _blocks(text: str) -> list[str]:
    """Return the paragraphs of a text, marks taken out; the first or last may be empty."""
    visible = _UNDERLINE.sub("", text.replace(_PLACE, ""))
    return [block.strip() for block in _BLANK_LINES.split(visible)]


def _resolved(folder: Path, target: str, found: Mapping[Path, _Found]) -> Path | None:
    """Return the image that a path leads to from a folder, or None if that is none of them."""
    for way in (target, re.split("[?#]", unquote(target), maxsplit=1)[0]):
        path = _normal(folder / way)
        if path in found:
            return path
    return None


def _normal(path: Path) -> Path:
    """Return a path without `.` and `..`; links are not followed."""
    return Path(os.path.normpath(path))


def _text(path: Path) -> str:
    """Return the text of a file, or nothing if it cannot be read as one."""
    try:
        return decode(path.read_bytes())[0]
    except (CorpusError, OSError):
        return ""


def _distinct(texts: Sequence[str]) -> tuple[str, ...]:
    """Return the first few texts that differ, white space within their lines folded."""
    folded = ("\n".join(" ".join(line.split()) for line in text.splitlines()) for text in texts)
    return tuple(dict.fromkeys(filter(str.strip, folded)))[:_MENTIONS]
