"""Licences of checkpoints: read from the model card, and noted where they forbid commerce."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

_FIELD = re.compile(r"^(license|license_name)\s*:\s*[\"']?([^\"'#\n]+?)[\"']?\s*$", re.MULTILINE)
_NON_COMMERCIAL = re.compile(r"(?<![a-z0-9])nc(?![a-z0-9])|non-?commercial", re.IGNORECASE)


def licence_of(folder: Path, published: str) -> str:
    """Return the licence that a folder's model card states in its header, else the published one.

    Args:
        folder: of the checkpoint.
        published: what its authors are known to state.
    """
    try:
        card = (folder / "README.md").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return published
    parts = card.split("---", 2)
    if len(parts) < 3 or parts[0].strip():
        return published
    stated = {found.group(1): found.group(2).strip() for found in _FIELD.finditer(parts[1])}
    licence = stated.get("license", "")
    if licence.lower() in {"", "other", "unknown"}:
        licence = stated.get("license_name", "")
    return licence.lower() or published


def is_non_commercial(licence: str) -> bool:
    """Return whether a licence says that commercial use is not allowed."""
    return bool(_NON_COMMERCIAL.search(licence))


def note_licence(folder: Path, licence: str) -> None:
    """Warn once a process and folder if a licence does not allow commercial use."""
    if is_non_commercial(licence):
        warnings.warn(
            f"the weights in {folder} are licensed {licence}: commercial use is not allowed",
            UserWarning,
            stacklevel=3,
        )
