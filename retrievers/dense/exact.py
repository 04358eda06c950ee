"""Exact search without faiss: numpy, or torch on a GPU."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from retrievers.dense.faiss_rows import installed
from retrievers.dense.kinds import Engine, KindName
from retrievers.dense.scan import Allowed, scan
from retrievers.dense.vectors import VectorStore

if TYPE_CHECKING:
    import torch

# A program may let torch multiply float32 in TF32 or bfloat16: 8 bits, an error below 4e-3 on
# either side of the comparison with the last place.
_TORCH_MARGIN = 1e-2


@dataclass(frozen=True, slots=True)
class Exact:
    """Compares the query with every vector.

    Attributes:
        device: `numpy` reads the store in place; `cpu`, `cuda`, `cuda:1`, .. hold a float32 copy of
            it in torch; `auto` is `cuda` if torch finds such a device, else `numpy`.
    """

    name: ClassVar[KindName] = "exact"
    exact: ClassVar[bool] = True

    device: str = "auto"

    def open(self, store: VectorStore) -> Engine:
        """Return an engine over a store."""
        device = self.device
        if device == "auto":
            device = "cuda" if _cuda() else "numpy"
        return Scan(store) if device == "numpy" else _Torch(store, device)

    def least_vectors(self, dim: int) -> int:  # noqa: ARG002 - any width will do
        """Return 0."""
        return 0

    def structure(self) -> tuple[object, ...]:
        """Return nothing, since nothing is slow to make."""
        return ()


class Scan:
    """Engine without state: the store itself, scanned in numpy."""

    def __init__(self, store: VectorStore) -> None:
        self._store = store

    def sync(self) -> None:
        """Do nothing: the store is read in place."""

    def reset(self) -> None:
        """Do nothing, likewise."""

    def candidates(self, units: np.ndarray, top_k: int, allowed: Allowed) -> list[np.ndarray]:
        """Return rows that surely include the best."""
        return scan(self._store, units, top_k, allowed)

    def dump(self) -> np.ndarray | None:
        """Return None."""
        return None

    def restore(self, data: np.ndarray) -> bool:  # noqa: ARG002 - there is nothing to restore
        """Return False."""
        return False


class _Torch(Scan):
    """A copy of the store on a torch device, appended to as the store grows."""

    def __init__(self, store: VectorStore, device: str) -> None:
        import torch

        super().__init__(store)
        self._rows = torch.empty((0, store.dim), dtype=torch.float32, device=device)

    def sync(self) -> None:
        import torch

        if len(self._rows) < self._store.rows:
            blocks = [self._moved(block) for _, block in self._store.blocks(len(self._rows))]
            self._rows = torch.cat([self._rows, *blocks])

    def reset(self) -> None:
        self._rows = self._rows[:0].clone()

    def candidates(self, units: np.ndarray, top_k: int, allowed: Allowed) -> list[np.ndarray]:
        """Return rows that surely include the best."""
        if len(allowed.rows) <= top_k:
            return [allowed.rows] * len(units)
        mask = self._moved(allowed.mask)
        step = max(1, (1 << 27) // len(mask))
        found: list[np.ndarray] = []
        for start in range(0, len(units), step):
            scores = self._moved(units[start : start + step]) @ self._rows.T
            scores.masked_fill_(~mask, float("-inf"))
            last = scores.topk(top_k, dim=1).values[:, -1:]
            near = scores >= last - _TORCH_MARGIN
            found.extend(row.nonzero()[:, 0].cpu().numpy() for row in near)
        return found

    def _moved(self, array: np.ndarray) -> "torch.Tensor":
        import torch

        # A copy, since torch warns of memory that it may not write, such as a map's.
        return torch.from_numpy(np.array(array)).to(self._rows.device)


def _cuda() -> bool:
    if not installed("torch"):
        return False
    import torch

    return torch.cuda.is_available()
