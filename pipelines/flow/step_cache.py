"""Results of steps, kept by content: opt-in per step, and every hit is shown in the trace."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from pipelines.catalogue.table import load
from pipelines.flow.checked import BoundStep
from pipelines.flow.resources import Resources, fingerprint
from rag.files import write_atomically
from rag.ranking import Ranking
from rag.record_json import from_json, to_json
from rag.records import Hit


class StepCache:
    """A folder of results. Safe to delete at any time; a damaged entry is a miss.

    An entry's key is a hash of the operator's name, the files that define it and what makes it, its
    options, the fingerprints of its resources and its inputs, so that a hit is what the operator
    would return. A KV store is no part of it, as it gives back what the model would compute; nor is
    the code that an operator calls in other files: clear the folder after changing that.
    """

    def __init__(self, folder: Path) -> None:
        """Keep results below a folder, which is made when the first one is kept."""
        self._folder = folder

    def get(
        self, bound: BoundStep, resources: Resources, given: Mapping[str, Any]
    ) -> tuple[bool, Any]:
        """Return whether there is a result, and it."""
        path = self._path(bound, resources, given)
        try:
            data = json.loads(path.read_bytes())
            value = from_json(bound.spec.output.kind, data["value"])
            if "tail" in data:
                value = Ranking(value, from_json(list[Hit], data["tail"]))
        except (OSError, ValueError, KeyError, TypeError):
            return False, None
        return True, value

    def put(
        self, bound: BoundStep, resources: Resources, given: Mapping[str, Any], value: Any
    ) -> None:
        """Keep a result.

        Raises:
            TypeError: if it is not made of records, containers and scalars.
        """
        path = self._path(bound, resources, given)
        entry = {"operator": bound.spec.name, "value": to_json(value)}
        if isinstance(value, Ranking):
            entry["tail"] = to_json(value.tail)
        content = json.dumps(entry).encode()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(path, lambda file: file.write(content))

    def _path(self, bound: BoundStep, resources: Resources, given: Mapping[str, Any]) -> Path:
        made_of = {
            need.name: fingerprint(resources.get(name), need)
            for need in bound.spec.needs
            if need.kind != "kv" and resources.knows(name := bound.needs[need.name])
        }
        key = [
            bound.spec.name,
            _source(bound.spec.target),
            to_json(dict(bound.options)),
            made_of,
            to_json(dict(given)),
        ]
        sha = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        return self._folder / sha[:2] / f"{sha}.json"


@cache
def _source(target: str) -> str:
    """Return a hash of the files that define an operator and, for a factory, what it makes."""
    made_by = load(target)
    made = get_type_hints(made_by).get("return") if inspect.isroutine(made_by) else None
    of = [made_by, *([made] if inspect.isclass(made) and made.__module__ != "builtins" else [])]
    files = dict.fromkeys(inspect.getsourcefile(inspect.getmodule(one) or one) for one in of)
    texts = [Path(file).read_bytes() for file in files if file]
    return hashlib.sha256(b"\0".join([target.encode(), *texts])).hexdigest()
