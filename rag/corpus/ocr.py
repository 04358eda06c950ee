"""OCR: the text in an image, read on this machine by the models that come with RapidOCR."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import io
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag.corpus.loaders.silence import silent
from rag.errors import CorpusError, MissingExtraError

if TYPE_CHECKING:
    from PIL.Image import Image

_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
_MOST_PIXELS = 80_000_000
_LONG_SIDE = 2000  # pixels that the engine sees at most; more cost time and memory, and help little
_SHORT_SIDE = 736  # pixels that smaller images are enlarged to, at most four times
_SMALLEST = 8  # pixels of a side below which no letter fits
_MOST_TILES = 20  # of one tall image, if none is cut early
_COLUMN_GAP = 1.5  # heights of a row between two columns; words of one line are nearer


@dataclass(frozen=True, slots=True)
class TextLine:
    """A line of text that OCR found, and its box in pixels from the upper left corner.

    Attributes:
        text: as it was read.
        confidence: the recogniser's own, in [0, 1].
        left: of the upright box around the line, as are the next three.
        top: not below `bottom`; y grows downwards.
        right: not left of `left`.
        bottom: where the line ends.
    """

    text: str
    confidence: float
    left: float
    top: float
    right: float
    bottom: float

    @property
    def height(self) -> float:
        """Pixels from top to bottom."""
        return self.bottom - self.top

    def moved(self, scale: float, down: float) -> TextLine:
        """Return the line with its box divided by `scale`, then moved by `down` pixels."""
        return replace(
            self,
            left=self.left / scale,
            top=self.top / scale + down,
            right=self.right / scale,
            bottom=self.bottom / scale + down,
        )


def ocr_available() -> str | None:
    """Return the engine's name and version, or None without it. Nothing is imported for that."""
    if not all(map(importlib.util.find_spec, ("rapidocr", "onnxruntime", "PIL"))):
        return None
    return f"rapidocr {importlib.metadata.version('rapidocr')}"


def decoded(data: bytes) -> Image:
    """Return the first frame of an image, decoded and turned as its EXIF data says.

    Args:
        data: content of a bitmap file of a usual format.

    Raises:
        CorpusError: for what is empty, damaged, of another format, or too large to be decoded.
        MissingExtraError: if Pillow is not installed.
    """
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError:
        raise MissingExtraError(
            'reading images needs Pillow: pip install "dovetail-rag[docs]"'
        ) from None
    if not data:
        raise CorpusError("empty file, no image")
    with silent("PIL"):
        try:
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
            if image.width * image.height > _MOST_PIXELS:
                raise CorpusError(  # noqa: TRY301 (the size is known here only)
                    f"image of {image.width} x {image.height} pixels: "
                    f"more than {_MOST_PIXELS // 10**6} million are not decoded"
                )
            image.load()
            return ImageOps.exif_transpose(image)
        except CorpusError:
            raise
        except UnidentifiedImageError:
            raise CorpusError(
                f"image is damaged, or of another format than {', '.join(_FORMATS)}"
            ) from None
        except Image.DecompressionBombError as error:
            raise CorpusError(f"image too large to be decoded ({error})") from None
        except Exception as error:
            # Decoders of damaged images raise whatever went wrong deep inside them.
            raise CorpusError(f"damaged image ({type(error).__name__}: {error})") from error


def read_text(data: bytes) -> list[TextLine]:
    """Return the lines of text in an image, row by row from the top, each row from the left.

    Lines whose confidence is below 0.5 are dropped by the engine. Transparent images get a
    background that their colours stand out from; shades of grey deeper than a byte are stretched.
    Images are shrunk or enlarged to what the detector is good at; one that is much taller than wide
    is read piece by piece, cut where it is empty. The engine is made at the first call, stays for
    the process, and never uses the network; it takes as many threads as `OMP_NUM_THREADS` says,
    else all.

    Args:
        data: content of a bitmap file, of which the first frame is read.

    Raises:
        CorpusError: as `decoded` does.
        MissingExtraError: if the engine is not installed, or came without its models.
    """
    image = _with_usual_mode(decoded(data))
    recognise = _recogniser()
    if min(image.size) < _SMALLEST:
        return []
    lines: list[TextLine] = []
    for top, tile in _tiles(image):
        fitted, scale = _fitted(tile)
        lines += [line.moved(scale, top) for line in recognise(fitted)]
    return [line for row in _rows(lines) for line in row]


def joined(lines: Sequence[TextLine]) -> str:
    """Return lines as text: a row a line, and a blank line where a row would fit in between.

    Within a row stands one space, or ` | ` where the gap is wider than one and a half heights, as
    it is between columns.
    """
    parts: list[str] = []
    before: list[TextLine] = []
    for row in _rows(lines):
        if before:
            gap = min(line.top for line in row) - max(line.bottom for line in before)
            height = max(line.height for line in (*before, *row))
            parts.append("\n\n" if gap > height else "\n")
        parts.append(_row_text(row))
        before = row
    return "".join(parts)


def _rows(lines: Sequence[TextLine]) -> list[list[TextLine]]:
    """Return lines by rows: a line belongs to a row if half of it is level with the row's first."""
    rows: list[list[TextLine]] = []
    for line in sorted(lines, key=lambda one: (one.top + one.bottom, one.left, one.text)):
        if rows and _level(rows[-1][0], line):
            rows[-1].append(line)
        else:
            rows.append([line])
    return [sorted(row, key=lambda one: (one.left, one.top, one.text)) for row in rows]


def _level(one: TextLine, other: TextLine) -> bool:
    """Tell whether two lines share half of the lower one's height."""
    shared = min(one.bottom, other.bottom) - max(one.top, other.top)
    return shared >= min(one.height, other.height) / 2


def _row_text(row: list[TextLine]) -> str:
    """Return the text of a row that is in order from left to right."""
    text, edge = "", 0.0
    height = max(line.height for line in row)
    for line in row:
        if text:
            text += " | " if line.left - edge > _COLUMN_GAP * height else " "
        text += " ".join(line.text.split())
        edge = max(edge, line.right)
    return text


def _with_usual_mode(image: Image) -> Image:
    """Return an image in one of the modes that engines read: RGB, or RGBA if transparent."""
    if image.mode.startswith(("I", "F")):
        image = image.convert("F")
        extrema: Any = image.getextrema()
        low, high = extrema
        scale = 255 / (high - low) if high > low else 0.0
        return image.point(lambda value: value * scale - low * scale).convert("RGB")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _tiles(image: Image) -> Iterator[tuple[int, Image]]:
    """Yield pieces of a tall image from the top, and where each begins; else the whole image."""
    limit = max(2 * image.width, _LONG_SIDE // 2, image.height // _MOST_TILES)
    top = 0
    while image.height - top > 2 * limit:
        cut = _quiet_row(image, top + limit // 2, top + limit)
        yield top, image.crop((0, top, image.width, cut))
        top = cut
    yield top, image.crop((0, top, *image.size))


def _quiet_row(image: Image, start: int, end: int) -> int:
    """Return the row from start to before end with the least contrast, the last one on a tie."""
    grey = image.crop((0, start, image.width, end)).convert("L")
    contrast: list[int] = []
    for row in range(grey.height):
        extrema: Any = grey.crop((0, row, grey.width, row + 1)).getextrema()
        contrast.append(extrema[1] - extrema[0])
    return start + min(range(len(contrast)), key=lambda row: (contrast[row], -row))


def _fitted(image: Image) -> tuple[Image, float]:
    """Return an image of a size that the detector is good at, and how it was scaled.

    What is very thin gets an empty margin at the right or below, since the detector would enlarge
    its short side without bound.
    """
    long, short = max(image.size), min(image.size)
    if 16 * short < long:
        import PIL.Image

        edge: Any = image.getpixel((image.width - 1, image.height - 1))
        size = max(image.width, long // 16), max(image.height, long // 16)
        canvas = PIL.Image.new(image.mode, size, edge)
        canvas.paste(image, (0, 0))
        image, short = canvas, min(canvas.size)
    scale = min(_LONG_SIDE / long, max(1.0, min(4.0, _SHORT_SIDE / short)))
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height)) if scale != 1.0 else image, scale


@cache
def _recogniser() -> Callable[[Image], list[TextLine]]:
    """Return the engine as a function from an image to its lines, in any order."""
    if ocr_available() is None:
        raise MissingExtraError('OCR needs rapidocr: pip install "dovetail-rag[ocr]"')
    import rapidocr

    engine = rapidocr.RapidOCR(
        params={
            "Global.log_level": "critical",
            "Global.max_side_len": _LONG_SIDE,
            # The default enlarges the short side without bound: a thin image takes all memory.
            "Det.limit_type": "max",
            "Det.limit_side_len": _LONG_SIDE,
            "EngineConfig.onnxruntime.intra_op_num_threads": _threads(),
            **_bundled_models(Path(rapidocr.__file__).parent / "models"),
        }
    )

    def recognise(image: Image) -> list[TextLine]:
        found: Any = engine(image)
        if found.boxes is None or found.txts is None:
            return []
        return [
            _line(box.tolist(), text, float(score))
            for box, text, score in zip(found.boxes, found.txts, found.scores, strict=True)
            if text.strip()
        ]

    return recognise


def _bundled_models(folder: Path) -> dict[str, str]:
    """Return the paths of the models in the package; the engine downloads what it is not given."""
    models = {}
    for part in ("det", "rec", "cls"):
        files = sorted(folder.glob(f"*_{part}_*.onnx"))
        if not files:
            raise MissingExtraError(
                f"rapidocr came without its {part} model: "
                'pip install --force-reinstall "dovetail-rag[ocr]"'
            )
        models[f"{part.capitalize()}.model_path"] = str(files[0])
    return models


def _threads() -> int:
    """Return the threads that the user allows; -1 for all."""
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    return min(int(allowed), os.cpu_count() or 1) if allowed.isdecimal() and int(allowed) else -1


def _line(box: list[list[float]], text: str, confidence: float) -> TextLine:
    """Return a line with the upright box around its four corners."""
    xs, ys = [x for x, _ in box], [y for _, y in box]
    return TextLine(text, confidence, min(xs), min(ys), max(xs), max(ys))
