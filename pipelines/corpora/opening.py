"""Opening corpora: a folder of them, or indexes that were made one by one."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.corpora.joined import EncoderOf
from pipelines.corpora.kinds import LABELS
from pipelines.corpora.manifest import CORPORA, read_corpora
from pipelines.corpora.open_corpora import OpenCorpora
from pipelines.corpora.scope import for_corpus
from pipelines.open_index import DISK_BYTES, RAM_BYTES, OpenIndex
from rag.corpus.manifest import is_index
from rag.errors import IndexFolderError
from retrievers.filters import Filter, MetadataIndex

if TYPE_CHECKING:
    from rag.protocols import Encoder


def holds_corpora(folder: Path) -> bool:
    """Tell whether a folder is one of corpora, whole, damaged or half made."""
    if is_index(folder):
        return False
    # A first build that was interrupted has left the lock of the index it was at.
    begun = any((folder / label / "lock").exists() for label in LABELS)
    return begun or (folder / CORPORA).exists()


def open_corpora(
    folder: Path,
    *,
    modalities: Mapping[str, str] | None = None,
    download: bool = False,
    kv_ram: int = RAM_BYTES,
    kv_disk: int = DISK_BYTES,
    encoder: Encoder | None = None,
    scope: Filter | Mapping[str, Any] | None = None,
) -> OpenCorpora:
    """Open a corpora folder that `dovetail index --corpora` made.

    Args:
        folder: the folder.
        modalities: of labels, where the folder's own are not wanted.
        download: let the encoder be fetched from the hub.
        kv_ram: bytes of RAM for KV; half of it holds rotated copies.
        kv_disk: bytes of disk for KV.
        encoder: the encoder that made them, if it is loaded already.
        scope: a filter on metadata that holds for every corpus: other passages do not exist. A
            field needs to be in one of them only.

    Raises:
        IndexFolderError: if it is missing, damaged, or its first build was not finished.
        ValueError: if the scope is no filter, or names a field that no passage has.
    """
    while True:
        manifest = read_corpora(folder)
        folders = {label: folder / label for label in manifest.filled}
        try:
            opened = _opened(folders, scope, encoder=encoder, download=download)
        except IndexFolderError:
            # A build may have taken a corpus away since the manifest was read.
            if read_corpora(folder) == manifest:
                raise
            continue
        break
    filled = _with_content(opened)
    own = {label: corpus.modality for label, corpus in manifest.corpora.items()}
    corpora = OpenCorpora(
        filled,
        empty=tuple(label for label in manifest.corpora if label not in filled),
        modalities={**own, **(modalities or {})},
        home=folder,
        download=download,
        kv_ram=kv_ram,
        kv_disk=kv_disk,
    )
    snapshots = {label: index.folder.manifest.snapshot for label, index in opened.items()}
    if any(manifest.corpora[label].snapshot != name for label, name in snapshots.items()):
        corpora.notes.append(
            f"a build of {folder} is going on or was interrupted: some corpora are newer than "
            "others; run `dovetail index` on its paths again"
        )
    return corpora


def open_indexes(
    folders: Mapping[str, Path],
    *,
    modalities: Mapping[str, str] | None = None,
    download: bool = False,
    kv_ram: int = RAM_BYTES,
    kv_disk: int = DISK_BYTES,
    encoder: Encoder | None = None,
    scope: Filter | Mapping[str, Any] | None = None,
) -> OpenCorpora:
    """Open indexes that were made one by one, as corpora; each keeps its KV store.

    Args:
        folders: index folder by label.
        modalities: of the labels; by default as `rag.routing.labels` has them, and a label that is
            not there is a modality of its own.
        download: as of `open_corpora`.
        kv_ram: bytes of RAM for KV, shared out evenly.
        kv_disk: bytes of disk for KV, shared out evenly.
        encoder: as of `open_corpora`.
        scope: as of `open_corpora`.

    Raises:
        IndexFolderError: if one is missing or damaged, two were made with different encoders, or
            have a passage of one id.
        ValueError: if there are none, or the scope names a field that no passage has.
    """
    if not folders:
        raise ValueError("corpora must map labels to index folders, got none")
    share = len(folders)
    opened = _opened(
        folders,
        scope,
        encoder=encoder,
        download=download,
        kv_ram=kv_ram // share,
        kv_disk=kv_disk // share,
    )
    filled = _with_content(opened)
    empty = tuple(label for label in opened if label not in filled)
    return OpenCorpora(filled, empty=empty, modalities=modalities)


def _opened(
    folders: Mapping[str, Path],
    scope: Filter | Mapping[str, Any] | None,
    *,
    encoder: Encoder | None,
    **options: Any,
) -> dict[str, OpenIndex]:
    """Return the open indexes of some folders, which share the encoder of the first."""
    opened: dict[str, OpenIndex] = {}
    shared = encoder
    for label, folder in folders.items():
        opened[label] = OpenIndex(folder, encoder=shared, **options)
        shared = shared or EncoderOf(opened[label])
    if scope is None:
        return opened
    wanted = Filter.parse(scope)
    metadata = {
        label: [(id_, passage.metadata) for id_, passage in index.passages.items()]
        for label, index in opened.items()
    }
    MetadataIndex(chain.from_iterable(metadata.values())).select(wanted)
    return {
        label: OpenIndex(
            folders[label],
            encoder=encoder or (None if index is opened[next(iter(opened))] else shared),
            scope=for_corpus(wanted, MetadataIndex(metadata[label]).fields),
            **options,
        )
        for label, index in opened.items()
    }


def _with_content(opened: Mapping[str, OpenIndex]) -> dict[str, OpenIndex]:
    """Return those that have passages in the scope; the first, if none has."""
    filled = {label: index for label, index in opened.items() if len(index.passages)}
    return filled or dict(list(opened.items())[:1])
