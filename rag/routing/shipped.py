"""The routers that come with Dovetail, and what a person's choice of one means."""

from __future__ import annotations

import json
from pathlib import Path

from rag.errors import RouterError
from rag.protocols import Encoder

SHIPPED = Path(__file__).with_name("weights")
AUTO = "auto"


def shipped_routers() -> list[Path]:
    """Return the folders of all routers that come with Dovetail, by name."""
    return sorted(config.parent for config in SHIPPED.glob("*/config.json"))


def resolve_router(choice: str | Path, encoder: Encoder) -> Path:
    """Return the folder of the router that is chosen.

    Whether a folder that is named holds a router for this encoder is looked at when it is loaded.

    Args:
        choice: `auto` for the one that comes with Dovetail for this encoder, or a folder.
        encoder: of questions; what it is called does not matter, its weights do.

    Raises:
        RouterError: if none comes with Dovetail for the encoder, or a shipped folder is damaged.
    """
    if str(choice) != AUTO:
        return Path(choice).expanduser()
    shipped = {folder: _encoder_of(folder) for folder in shipped_routers()}
    for folder, (_, fingerprint) in shipped.items():
        if fingerprint == encoder.fingerprint:
            return folder
    listed = ", ".join(f"{name} ({made[:12]})" for name, made in shipped.values()) or "none"
    raise RouterError(
        f"model: auto has a router for encoder {listed}, got {encoder.name!r} "
        f"({encoder.fingerprint[:12]}); name a folder that `dovetail router train QUERIES -o "
        f"ROUTER --encoder {encoder.name}` made, or use route.descriptions, which needs none"
    )


def _encoder_of(folder: Path) -> tuple[str, str]:
    """Return name and fingerprint of the encoder that a router was trained with."""
    try:
        told = json.loads((folder / "config.json").read_bytes())["encoder"]
        return str(told["name"]), str(told["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RouterError(f"{folder} cannot be read: {error}; install Dovetail again") from error
