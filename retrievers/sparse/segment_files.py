"""Segments on disk: a folder of `.npy` files each, written once, mapped when opened."""

import contextlib
import os
import secrets
import shutil
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from rag.errors import IndexFolderError
from rag.files import sync_folder
from retrievers.sorted_strings import SortedStrings
from retrievers.sparse.segment import VALUE_TYPES, Segment


def segment_folder(folder: Path, name: str) -> Path:
    """Return where a segment of an index folder lies."""
    return folder / f"segment-{name}"


def store_segment(segment: Segment, folder: Path) -> None:
    """Put a segment into an index folder, unless it is there.

    Its folder gets its name only when all files are on disk, so a killed writer leaves a segment
    that is whole or none. Where another index folder holds the same segment, its files are linked,
    not written; nothing ever writes into them.
    """
    home = segment_folder(folder, segment.name)
    if not home.exists():
        fresh = folder / f".segment-{segment.name}.{secrets.token_hex(6)}.tmp"
        fresh.mkdir(mode=0o700)
        try:
            if not any(_linked(other, fresh) for other in segment.homes):
                for name, array in _arrays(segment).items():
                    with _created(fresh / f"{name}.npy") as file:
                        np.save(file, array, allow_pickle=False)
                        file.flush()
                        os.fsync(file.fileno())
            sync_folder(fresh)
            fresh.rename(home)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        sync_folder(folder)
    if home not in segment.homes:
        segment.homes.append(home)


def open_segment(folder: Path, name: str) -> Segment:
    """Map a segment of an index folder; its postings are not read.

    Raises:
        IndexFolderError: if a file is missing, damaged, or does not fit the others.
    """
    home = segment_folder(folder, name)
    try:
        arrays = {each: _mapped(home / f"{each}.npy") for each in _FILES}
    except (OSError, ValueError, EOFError) as error:
        raise IndexFolderError(f"{home} holds no readable segment: {error!r}") from error
    for each, kinds in _FILES.items():
        if arrays[each].ndim != 1 or arrays[each].dtype not in kinds:
            raise IndexFolderError(f"{home / each}.npy is damaged: {_form(arrays[each])}; {_AGAIN}")
    held = len(arrays["rows"])
    if not (
        _fits(arrays["id_starts"], len(arrays["ids"]))
        and _fits(arrays["term_starts"], len(arrays["terms"]))
        and _fits(arrays["starts"], held)
        and _fits(arrays["row_starts"], held)
        and len(arrays["starts"]) == len(arrays["term_starts"])
        and len(arrays["row_starts"]) == len(arrays["id_starts"]) == len(arrays["lengths"]) + 1
        and held == len(arrays["values"]) == len(arrays["columns"]) == len(arrays["row_values"])
        and arrays["values"].dtype == arrays["row_values"].dtype
    ):
        raise IndexFolderError(f"the files of {home} do not fit each other; {_AGAIN}")
    return Segment(
        ids=SortedStrings(arrays["ids"], arrays["id_starts"]),
        terms=SortedStrings(arrays["terms"], arrays["term_starts"]),
        **{each: arrays[each] for each in _OWN},
        name=name,
        homes=[home],
    )


_AGAIN = "index again"
_OWN = ("starts", "rows", "values", "row_starts", "columns", "row_values", "lengths")
_FILES: dict[str, tuple[Any, ...]] = {
    "ids": (np.uint8,),
    "id_starts": (np.int64,),
    "terms": (np.uint8,),
    "term_starts": (np.int64,),
    "starts": (np.int64,),
    "rows": (np.int32,),
    "values": VALUE_TYPES,
    "row_starts": (np.int64,),
    "columns": (np.int32,),
    "row_values": VALUE_TYPES,
    "lengths": (np.int32,),
}


def _arrays(segment: Segment) -> dict[str, np.ndarray]:
    return {
        "ids": segment.ids.blob,
        "id_starts": segment.ids.starts,
        "terms": segment.terms.blob,
        "term_starts": segment.terms.starts,
        **{each: getattr(segment, each) for each in _OWN},
    }


def _mapped(path: Path) -> np.ndarray:
    # A plain array over the map: the subclass costs time at every slice.
    array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return array.view(np.ndarray)


def _fits(starts: np.ndarray, end: int) -> bool:
    """Tell whether starts begin at 0, never fall and end at `end`."""
    return bool(
        len(starts) and starts[0] == 0 and starts[-1] == end and (np.diff(starts) >= 0).all()
    )


def _form(array: np.ndarray) -> str:
    return f"it holds {array.dtype} of shape {array.shape}"


def _created(path: Path) -> BinaryIO:
    """Open a new file that its owner alone may read."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _linked(source: Path, target: Path) -> bool:
    """Link, or else copy, a stored segment's files; False if that failed."""
    try:
        for name in _FILES:
            file = f"{name}.npy"
            try:
                (target / file).hardlink_to(source / file)
            except OSError:
                with (source / file).open("rb") as old, _created(target / file) as new:
                    shutil.copyfileobj(old, new)
                    new.flush()
                    os.fsync(new.fileno())
    except OSError:
        for path in target.iterdir():
            with contextlib.suppress(OSError):
                path.unlink()
        return False
    return True
