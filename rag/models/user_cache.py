"""Where files that can be made again are kept: converted weights, fingerprints, cached indexes."""

import os
from pathlib import Path


def user_cache() -> Path:
    """Return the user's cache folder for Dovetail, made if it is missing.

    `DOVETAIL_CACHE` names it outright; else it is `dovetail` in `XDG_CACHE_HOME` or `~/.cache`.
    """
    named = os.environ.get("DOVETAIL_CACHE")
    base = os.environ.get("XDG_CACHE_HOME")
    folder = Path(named) if named else (Path(base) if base else Path.home() / ".cache") / "dovetail"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
