"""Learned sparse indexes of index folders: made at the first question, kept in the user's cache."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from pipelines.open_index import OpenIndex
from pipelines.progress import watching
from rag.files import FolderLock
from rag.models.user_cache import user_cache

if TYPE_CHECKING:
    from retrievers.sparse.learned import LearnedSparse

FOLDER = "learned-sparse"
_SHARD = 256  # passages: a few seconds of work on two cores


def learned_sparse(
    index: OpenIndex, model: str, *, max_terms: int = 256, download: bool = False
) -> LearnedSparse:
    """Return the learned sparse index of an index's passages, whatever the scope.

    It is found again by the content of the index and of the model; an index that changed gets
    another one. It is saved shard by shard, so one that was interrupted goes on where it was.

    Args:
        index: holds the passages.
        model: folder or hub id of a sparse encoder.
        max_terms: terms that are kept of a text, the heaviest.
        download: let it be fetched from the hub.

    Raises:
        ValueError: if no model is named.
        ModelNotFoundError: if nothing has that name.
        FolderLockedError: if another process is making this very index.
    """
    from rag.models.sparse_encoder import load_sparse_encoder
    from retrievers.sparse.index import SparseIndex
    from retrievers.sparse.learned import LearnedSparse
    from retrievers.sparse.weighting import Impact

    if not model.strip():
        raise ValueError(
            "model must name a sparse encoder, a folder or a hub id such as naver/splade-v3: "
            "--set retrieve.model=NAME"
        )
    encoder = load_sparse_encoder(model, max_active_dims=max_terms, download=download)
    depends = f"{index.folder.fingerprint} {encoder.fingerprint} {max_terms}"
    folder = user_cache() / FOLDER / hashlib.sha256(depends.encode()).hexdigest()[:16]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    passages = index.folder.passages
    with FolderLock(folder):
        kept = folder / "index"
        found = SparseIndex(Impact())
        if kept.exists():
            found = SparseIndex.open(kept, weighting=Impact())
        missing = [id_ for id_ in passages if id_ not in found]
        progress = watching()
        if missing:
            progress.stage("encoding for sparse", len(missing))
        for start in range(0, len(missing), _SHARD):
            ids = missing[start : start + _SHARD]
            found.add_vectors(ids, encoder.encode([passages[id_].searchable for id_ in ids]))
            found.save(kept)
            progress.advance(len(ids))
    return LearnedSparse(found, encoder)
