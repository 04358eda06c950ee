"""Which models passed the engine's self-test on this machine, so that it runs once a revision."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from rag.files import write_atomically
from rag.models.user_cache import user_cache
from rag.records import ModelIdentity

MEMORY = "self-tests.json"
TESTED = (
    "attention.py",
    "capability.py",
    "engine.py",
    "fused_attention.py",
    "key_capture.py",
    "one_row.py",
    "packed_encoding.py",
    "placed_segments.py",
    "plan.py",
    "rope.py",
    "scattered.py",
    "segment_cache.py",
    "segment_reader.py",
    "self_test.py",
    "split_kernel.py",
)
"""Files beside this one that a pass depends on, with the libraries that run the model."""


class PassedTests:
    """Remembers passes in the user's cache, by all that they depend on.

    That is the model's weights, shape, rotary parameters, dtype and device type, the code that is
    tested, and the versions of torch and transformers. Only passes are kept: what was refused is
    tried again.
    """

    def has(self, identity: ModelIdentity) -> bool:
        """Return whether a model has passed."""
        return self._key(identity) in self._known()

    def add(self, identity: ModelIdentity) -> None:
        """Remember that a model has passed."""
        kept = sorted({*self._known(), self._key(identity)})
        write_atomically(self._path, lambda file: file.write(json.dumps(kept).encode()))

    @property
    def _path(self) -> Path:
        return user_cache() / MEMORY

    def _known(self) -> list[str]:
        """Return what is kept; nothing if the file is missing or damaged."""
        try:
            known = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return []
        return [key for key in known if isinstance(key, str)] if isinstance(known, list) else []

    def _key(self, identity: ModelIdentity) -> str:
        facts = {name: value for name, value in asdict(identity).items() if name != "name"}
        total = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        for package in ("torch", "transformers"):
            total.update(f"{package} {version(package)}\n".encode())
        for name in TESTED:
            total.update(Path(__file__).with_name(name).read_bytes())
        return total.hexdigest()
