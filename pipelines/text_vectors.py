"""Vectors of texts, each text encoded once: reused by later builds, kept through interrupts."""

import shutil
import zipfile
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np

from pipelines.progress import Progress
from rag.files import write_atomically
from rag.protocols import Encoder
from rag.records import text_sha
from rag.training.watching import counting_up

_SHARD = 256  # texts: a few seconds of work on two cores


class VectorJournal:
    """Vectors that an unfinished build has already computed, as files below one folder.

    Each append is durable and atomic, so a build that is killed loses at most one shard.

    Attributes:
        folder: where the files lie; made at the first append.
    """

    def __init__(self, folder: Path, encoder_fingerprint: str) -> None:
        self.folder = folder
        self._shards = folder / sha256(encoder_fingerprint.encode()).hexdigest()[:16]

    def append(self, shas: Sequence[str], vectors: np.ndarray) -> None:
        """Keep vectors, float32 (n, dim), under the `text_sha` of their texts."""
        for folder in (self.folder, self._shards):
            folder.mkdir(mode=0o700, exist_ok=True)
        path = self._shards / f"{sha256(''.join(shas).encode()).hexdigest()[:32]}.npz"
        arrays = {"shas": np.array(shas, "S64"), "vectors": vectors}
        write_atomically(path, lambda file: np.savez(file, allow_pickle=False, **arrays))

    def __iter__(self) -> Iterator[tuple[list[str], np.ndarray]]:
        """Yield what was appended for this encoder; a damaged shard is passed over."""
        for path in sorted(self._shards.glob("*.npz")):
            try:
                with np.load(path, allow_pickle=False) as shard:
                    shas, vectors = shard["shas"].astype(str).tolist(), shard["vectors"]
            except (OSError, ValueError, KeyError, zipfile.BadZipFile):
                continue
            yield shas, vectors

    def clear(self) -> None:
        """Forget everything, what other encoders made included."""
        shutil.rmtree(self.folder, ignore_errors=True)


class TextVectors:
    """Known vectors by the `text_sha` of their texts. Equal texts have one vector.

    Attributes:
        encoded: texts that had to be encoded so far.

    `dtype` is what vectors are returned in.
    """

    def __init__(
        self, encoder: Encoder, journal: VectorJournal, *, dtype: type[np.floating] = np.float32
    ) -> None:
        self.encoded = 0
        self._dtype = dtype
        self._encoder = encoder
        self._journal = journal
        self._known: dict[str, tuple[np.ndarray, int]] = {}
        for shas, vectors in journal:
            self.add(shas, vectors)

    def add(self, shas: Sequence[str], vectors: np.ndarray) -> None:
        """Take vectors, (n, dim), as known; a text known already gets the new vector."""
        self._known.update({sha: (vectors, row) for row, sha in enumerate(shas)})

    def __call__(self, texts: Sequence[str], progress: Progress, stage: str) -> np.ndarray:
        """Return the texts' vectors, `dtype` (n, dim), encoding those that are not known.

        Args:
            texts: at least one.
            progress: sees a stage of as many steps as texts have to be encoded.
            stage: name of that stage.

        Raises:
            ValueError: if the encoder gives vectors of another shape, or not of unit length.
        """
        shas = [text_sha(text) for text in texts]
        unknown = {
            sha: text for sha, text in zip(shas, texts, strict=True) if sha not in self._known
        }
        progress.stage(stage, len(unknown))
        pending = list(unknown.items())
        for start in range(0, len(pending), _SHARD):
            shard = pending[start : start + _SHARD]
            self._encode([sha for sha, _ in shard], [text for _, text in shard], progress)
        found = np.empty((len(shas), self._known[shas[0]][0].shape[1]), self._dtype)
        for place, sha in enumerate(shas):
            vectors, row = self._known[sha]
            found[place] = vectors[row]
        return found

    def _encode(self, shas: list[str], texts: list[str], progress: Progress) -> None:
        report = counting_up(progress)
        vectors = self._encoder.encode(texts, progress=report)
        if vectors.ndim != 2 or len(vectors) != len(texts):
            raise ValueError(
                f"encoder {self._encoder.name!r} must give ({len(texts)}, dim), got {vectors.shape}"
            )
        if not (np.abs(np.linalg.norm(vectors, axis=1) - 1.0) <= 1e-3).all():
            raise ValueError(f"encoder {self._encoder.name!r} must give vectors of unit length")
        self._journal.append(shas, vectors)
        self.add(shas, vectors)
        self.encoded += len(shas)
        report(len(shas))
