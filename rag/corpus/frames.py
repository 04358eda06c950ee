"""Frames: video files, the subtitles beside them, and pictures taken at given times."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rag.errors import CorpusError, MissingExtraError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".avi")
"""Suffixes of video files in lower case; the first wins where two stand beside one transcript."""

_SUBTITLE_SUFFIXES = (".srt", ".vtt")
_NEAREST_S = 1.0  # frames closer than that show the same
# A playlist that calls itself a video could make the decoder open other files.
_HEADS = (
    (0, b"\x1a\x45\xdf\xa3"),
    (0, b"RIFF"),
    *((4, b) for b in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")),
)


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A picture of a video.

    Attributes:
        at_s: the time that was asked for, in seconds from the beginning.
        pixels: uint8 (height, width, 3): red, green, blue.
    """

    at_s: float
    pixels: "NDArray[np.uint8]"


def video_beside(subtitles: Path) -> Path | None:
    """Return the video that a subtitle file belongs to: same folder, same name but the suffix.

    The subtitle file may name its language after that: `talk.en.vtt` belongs to `talk.mp4`. A link
    that leaves the folder does not count.
    """
    names = [subtitles.stem]
    if _is_language(subtitles.with_suffix("").suffix):
        names.append(Path(subtitles.stem).stem)
    for name in names:
        for suffix in VIDEO_SUFFIXES:
            for written in (suffix, suffix.upper()):
                video = subtitles.with_name(f"{name}{written}")
                if _is_inside(video):
                    return video
    return None


def subtitles_beside(video: Path) -> list[Path]:
    """Return the subtitle files of a video: `talk.srt`, `talk.vtt`, then `talk.en.vtt` and so on.

    A link that leaves the folder does not count.
    """
    try:
        beside = sorted(video.parent.iterdir())
    except OSError:
        return []
    found = [
        path
        for path in beside
        if path.suffix.lower() in _SUBTITLE_SUFFIXES
        and (path.stem == video.stem or _language_of(path, video.stem))
        and _is_inside(path)
    ]
    return sorted(found, key=lambda path: (path.stem != video.stem, path.name))


def why_skipped(video: Path) -> str:
    """Return why a video file is no source itself, and what makes it one, in one line."""
    beside = subtitles_beside(video)
    if beside:
        return f"video: searched by its subtitles {beside[0].name}"
    return f"video without subtitles: put {video.stem}.srt or {video.stem}.vtt beside it"


def frame_times(start_s: float, end_s: float, most: int) -> list[float]:
    """Return times evenly inside a span of a video: the middles of equal parts.

    There are `most` parts, fewer where they would be shorter than a second, at least one.

    Args:
        start_s: where the span begins, in seconds, at least 0.
        end_s: where it ends, not before that.
        most: the most times, at least 1.

    Raises:
        ValueError: for numbers out of these ranges.
    """
    if not 0 <= start_s <= end_s < math.inf:
        raise ValueError(f"times need 0 <= start_s <= end_s, got {start_s} and {end_s}")
    if most < 1:
        raise ValueError(f"most must be at least 1, got {most}")
    count = max(1, min(most, math.floor((end_s - start_s) / _NEAREST_S)))
    return [start_s + (end_s - start_s) * (row + 0.5) / count for row in range(count)]


def sample_frames(path: Path, times_s: Sequence[float]) -> list[Frame]:
    """Return the pictures of a video at given times, in their order, by OpenCV.

    Times past the end of the video have no picture and are left out.

    Args:
        path: a video file.
        times_s: seconds from the beginning, each at least 0.

    Raises:
        CorpusError: if the file is no video, or cannot be decoded.
        MissingExtraError: if OpenCV is not installed.
        ValueError: for a negative time.
    """
    if any(not 0 <= at_s < math.inf for at_s in times_s):
        raise ValueError(f"times_s must be at least 0 and finite, got {list(times_s)}")
    _refuse_other(path)
    try:
        import cv2
    except ImportError:
        raise MissingExtraError(
            'pictures of a video need OpenCV: pip install "dovetail-rag[ocr]"'
        ) from None
    video = cv2.VideoCapture(str(path.absolute()))
    try:
        if not video.isOpened():
            raise CorpusError(f"{path.name}: cannot be decoded as video")
        frames = []
        for at_s in times_s:
            video.set(cv2.CAP_PROP_POS_MSEC, 1000 * at_s)
            there, pixels = video.read()
            if there:
                frames.append(Frame(at_s, cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)))
        return frames
    finally:
        video.release()


def _refuse_other(path: Path) -> None:
    """Make sure that a file begins as a video container does.

    Raises:
        CorpusError: if it does not, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise CorpusError(f"{path.name}: unreadable ({error.strerror})") from error
    if not any(head.startswith(mark, at) for at, mark in _HEADS):
        kinds = ", ".join(VIDEO_SUFFIXES)
        raise CorpusError(f"{path.name}: not a video; its content must be one of {kinds}")


def _language_of(path: Path, stem: str) -> bool:
    """Tell whether a file's stem is another one and a language after it."""
    name = Path(path.stem)
    return name.stem == stem and _is_language(name.suffix)


def _is_language(suffix: str) -> bool:
    """Tell whether `.en` or `.pt-BR` is a language: two or three letters, and perhaps a region."""
    language, _, region = suffix.removeprefix(".").replace("_", "-").partition("-")
    return 2 <= len(language) <= 3 and language.isalpha() and (not region or region.isalnum())


def _is_inside(path: Path) -> bool:
    """Tell whether a path is a file, and no link to one outside its folder."""
    if not path.is_file():
        return False
    return not path.is_symlink() or path.resolve().is_relative_to(path.parent.resolve())
