"""Scores of configurations that were measured before: a JSON line each, kept through interrupts."""

import json
from pathlib import Path


class ScoreLog:
    """Values by a key, in a file that is only ever appended to; a line cut short is passed over."""

    def __init__(self, path: Path) -> None:
        """Read what is there; the file is made at the first `put`."""
        self._path = path
        self._known: dict[str, list[float]] = {}
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    fields = json.loads(line)
                    self._known[fields["key"]] = [float(value) for value in fields["values"]]
                except (ValueError, KeyError, TypeError):
                    continue

    def get(self, key: str) -> list[float] | None:
        """Return the values of a key, if they are known."""
        return self._known.get(key)

    def put(self, key: str, values: list[float]) -> None:
        """Keep the values of a key."""
        self._known[key] = values
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            # A line that an interrupt cut short must not swallow this one.
            file.write("\n" + json.dumps({"key": key, "values": values}) + "\n")
