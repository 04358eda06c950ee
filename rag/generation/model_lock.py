"""One lock a model: forward passes take turns, whatever engine or task they are for."""

from __future__ import annotations

import threading
import weakref
from typing import Any

# A forward pass that captures keys would capture those of any other on the same model.
_LOCKS: weakref.WeakKeyDictionary[Any, threading.RLock] = weakref.WeakKeyDictionary()


def model_lock(model: Any) -> threading.RLock:
    """Return the lock of a model, always the same one; a thread that holds it can take it again."""
    return _LOCKS.setdefault(model, threading.RLock())
