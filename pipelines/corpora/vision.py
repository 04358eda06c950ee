"""Image vectors of a corpus: where its pictures are, which are encoded anew, and how it opens."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rag.corpus.frames import VIDEO_SUFFIXES, frame_times, sample_frames, video_beside
from rag.errors import CorpusError, IndexFolderError, MissingExtraError
from rag.models.fingerprint import file_sha
from rag.protocols import ImageEncoder
from retrievers.images.vision_index import ABOUT, VisionIdentity, VisionIndex

if TYPE_CHECKING:
    from PIL import Image

    from pipelines.open_index import OpenIndex

FRAMES = 4  # frames of a clip that are encoded; the best one counts
_GROUP = 32  # pictures that are read before they are encoded together

Picture = Path | tuple[Path, float, float]
"""An image file, or a video file with the start and the end of a clip in seconds."""

Frames = Callable[[Path, float, float], "Sequence[Image.Image]"]
"""`frames(video, start_s, end_s)`: pictures of a clip, as Pillow's images."""


@dataclass(frozen=True, slots=True)
class VisionReport:
    """What a build of image vectors did.

    Attributes:
        encoded: passages whose pictures were encoded.
        kept: passages whose vectors were as before.
        left_out: passage ids whose pictures cannot be read, and why; their captions still count.
    """

    encoded: int
    kept: int
    left_out: Mapping[str, str]


def pictures_of(index: OpenIndex) -> dict[str, Picture]:
    """Return where the picture of each passage is: those of images, and clips beside a video.

    A place is made of what the index says of its sources. One that leaves the source's root, by a
    link too, is passed over, as is a file that is gone.

    Args:
        index: of an image, clip or video corpus.
    """
    roots = {source.id: Path(source.root) for source in index.folder.manifest.sources}
    found: dict[str, Picture] = {}
    for id_, passage in index.passages.items():
        source = str(passage.metadata.get("source", ""))
        path = _inside(roots[source], source) if source in roots else None
        if path is None:
            continue
        if passage.modality == "image":
            found[id_] = path
        elif "start_s" in passage.metadata:
            video = path if path.suffix.lower() in VIDEO_SUFFIXES else video_beside(path)
            if video is not None:
                start_s, end_s = (float(passage.metadata[name]) for name in ("start_s", "end_s"))
                found[id_] = (video, start_s, end_s)
    return found


def build_vision(
    pictures: Mapping[str, Picture],
    encoder: ImageEncoder,
    folder: Path,
    *,
    progress: Callable[[int], None] | None = None,
    frames: Frames | None = None,
) -> VisionReport:
    """Bring the image vectors in a folder up to date; until the end it holds the old ones.

    A picture whose file has not changed is not encoded again, nor is one file of several passages
    encoded twice. Another encoder encodes all anew. Without a picture the folder's vectors go.

    Args:
        pictures: of each passage, such as `pictures_of` gives.
        encoder: of images.
        folder: made if need be.
        progress: called after each group with the number of passages done so far, those that are
            kept included.
        frames: gives the pictures of a clip; by default OpenCV does, `FRAMES` of each. Where it
            is not installed, clips are left out, and the reason says how to install it.
    """
    before = _before(folder, encoder)
    shas, left_out = _shas(pictures)
    rows = _standing(before, frozenset(shas.values()))
    fresh: dict[str, list[str]] = {}  # passages by the sha of what they show
    for id_ in sorted(shas):
        if shas[id_] not in rows:
            fresh.setdefault(shas[id_], []).append(id_)
    kept = done = sum(sha in rows for sha in shas.values())
    for group in _groups(list(fresh), _GROUP):
        read = {sha: _read(pictures[fresh[sha][0]], frames or _frames) for sha in group}
        rows |= _encoded(read, encoder)
        for sha, images in read.items():
            done += len(fresh[sha])
            if isinstance(images, str):
                left_out |= dict.fromkeys(fresh[sha], images)
        if progress is not None:
            progress(done)
    indexed = {id_: sha for id_, sha in shas.items() if sha in rows}
    if before is None or before.shas != indexed:
        _replace(folder, {id_: rows[sha] for id_, sha in indexed.items()}, encoder, indexed)
    return VisionReport(len(indexed) - kept, kept, dict(sorted(left_out.items())))


def open_vision(
    folder: Path, *, encoder: ImageEncoder | None = None, download: bool = False
) -> VisionIndex | None:
    """Open the image vectors in a folder; None where there are none.

    Their encoder is loaded when the first query is encoded, by the name that it was given.

    Args:
        folder: what `build_vision` wrote.
        encoder: the one that made them, if it is loaded already.
        download: let it be fetched from the hub.

    Raises:
        IndexFolderError: if the folder is damaged, or the encoder is another; it names both.
    """
    if not (folder / ABOUT).exists():
        return None
    index = VisionIndex.load(folder, encoder=encoder)
    if encoder is None:
        index.encoder = LazyImageEncoder(index, download=download)
    return index


class LazyImageEncoder:
    """The image encoder of an index, known by what the index says, loaded when it has to encode."""

    def __init__(self, index: VisionIndex, *, download: bool = False) -> None:
        """Promise the encoder that made an index.

        Args:
            index: names it.
            download: let it be fetched from the hub.
        """
        self._index = index
        self._download = download
        self._loaded: ImageEncoder | None = None
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """What the user called it."""
        return self._index.made_by.name

    @property
    def fingerprint(self) -> str:
        """Hash of its weights and settings."""
        return self._index.made_by.fingerprint

    @property
    def dim(self) -> int:
        """Width of a vector."""
        return self._index.made_by.dim

    def encode_images(
        self,
        images: Sequence[Image.Image | Path],
        *,
        progress: Callable[[int], None] | None = None,
    ) -> np.ndarray:
        """Return unit vectors of pictures, float32 (n, dim).

        Raises:
            ModelNotFoundError: if nothing has the encoder's name any more.
            IndexFolderError: if that name is another encoder's now.
        """
        return self._encoder().encode_images(images, progress=progress)

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        """Return unit vectors of texts, float32 (n, dim).

        Raises:
            ModelNotFoundError: if nothing has the encoder's name any more.
            IndexFolderError: if that name is another encoder's now.
        """
        return self._encoder().encode_queries(texts)

    def _encoder(self) -> ImageEncoder:
        with self._lock:
            if self._loaded is None:
                from rag.models.image_encoder import load_image_encoder

                loaded = load_image_encoder(self.name, download=self._download)
                self._index.check_encoder(loaded)
                self._loaded = loaded
            return self._loaded


def _inside(root: Path, source: str) -> Path | None:
    """Return the file of a source below its root, or None if it is gone or outside."""
    top = root.resolve()
    if root.is_file():
        return root
    # The id of a source is the root's name and the path below it.
    below = source.removeprefix(f"{top.name}/") if top.name else source
    path = root / below
    return path if _stays(path, top) else None


def _stays(path: Path, folder: Path) -> bool:
    """Tell whether a path is a file that lies inside a folder, where links lead to too."""
    try:
        return path.is_file() and path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError):  # a name too long, or with a NUL
        return False


def _before(folder: Path, encoder: ImageEncoder) -> VisionIndex | None:
    """Return the vectors that stand in a folder, if they are readable and of this encoder."""
    if not (folder / ABOUT).exists():
        return None
    try:
        return VisionIndex.load(folder, encoder=encoder)
    except IndexFolderError:
        return None


def _standing(before: VisionIndex | None, wanted: frozenset[str]) -> dict[str, np.ndarray]:
    """Return the vectors that an index has of what is wanted, by sha."""
    if before is None:
        return {}
    known = {sha: id_ for id_, sha in before.shas.items()}
    return {sha: before.rows_of(known[sha]) for sha in wanted & known.keys()}


def _shas(pictures: Mapping[str, Picture]) -> tuple[dict[str, str], dict[str, str]]:
    """Return a hash of what each passage's vectors depend on, and why a file cannot be read."""
    files: dict[Path, str] = {}
    shas, left_out = {}, {}
    for id_, picture in pictures.items():
        path, *times = picture if isinstance(picture, tuple) else (picture,)
        try:
            if path not in files:
                files[path] = file_sha(path)
        except OSError as error:
            left_out[id_] = f"{path} cannot be read: {error.strerror}"
            continue
        clip = repr((files[path], *times, FRAMES)).encode()
        shas[id_] = hashlib.sha256(clip).hexdigest() if times else files[path]
    return shas, left_out


def _read(picture: Picture, frames: Frames) -> list[Image.Image] | str:
    """Return the images of a picture, or why there are none."""
    from rag.models.image_encoder import read_image

    try:
        if isinstance(picture, Path):
            return [read_image(picture)]
        found = list(frames(*picture))
    except (CorpusError, MissingExtraError) as error:
        return str(error)
    return found or f"{picture[0]} has no frame from {picture[1]:g} to {picture[2]:g} s"


def _encoded(
    read: Mapping[str, list[Image.Image] | str], encoder: ImageEncoder
) -> dict[str, np.ndarray]:
    """Return the vectors of each picture that was read, (its images, dim); one call encodes all."""
    images = {sha: found for sha, found in read.items() if not isinstance(found, str)}
    vectors = encoder.encode_images([image for found in images.values() for image in found])
    ends = np.cumsum([len(found) for found in images.values()], dtype=np.int64)
    return dict(zip(images, np.split(vectors, ends), strict=False))


def _frames(video: Path, start_s: float, end_s: float) -> Sequence[Image.Image]:
    from PIL import Image

    frames = sample_frames(video, frame_times(start_s, end_s, FRAMES))
    return [Image.fromarray(frame.pixels) for frame in frames]


def _replace(
    folder: Path, rows: Mapping[str, np.ndarray], encoder: ImageEncoder, shas: Mapping[str, str]
) -> None:
    if rows:
        made_by = VisionIdentity(encoder.name, encoder.fingerprint, encoder.dim)
        VisionIndex(rows, made_by, shas=shas).save(folder)
    else:
        VisionIndex.remove(folder)


def _groups(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
