"""Journal of a labelling: outcomes as they are measured, so that an interrupted run goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag.errors import DovetailError
from rag.files import LineFile
from rag.routing.outcomes import Outcome

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

SUFFIX = ".journal"


class JournalError(DovetailError):
    """A journal that is damaged, in use, or of another run."""


class OutcomeJournal:
    """A file with a head and a line for each question; lines reach the disk before `append` ends.

    A line that an interrupt cut off is dropped when the file is opened again. One process at a time
    may hold it. Use as a context manager, which deletes a file that holds no question yet.

    Attributes:
        path: the file.
        done: outcomes that are there, by question.
    """

    def __init__(self, path: Path, *, config: str) -> None:
        """Open or make the file.

        Args:
            path: its folder must exist.
            config: hash of everything that outcomes depend on.

        Raises:
            JournalError: if it is of another configuration, damaged, or held by another process.
        """
        self.path = path
        self._file = LineFile(path, JournalError)
        try:
            self.done = self._resume(config)
        except BaseException:
            self._file.close()
            raise

    def append(self, outcomes: Mapping[str, Sequence[Outcome]]) -> None:
        """Add the outcomes of questions, durably."""
        self._write({id_: _line(id_, found) for id_, found in outcomes.items()}.values())
        self.done |= {id_: tuple(found) for id_, found in outcomes.items()}

    def finish(self) -> None:
        """Close and delete the file: what it holds is kept elsewhere."""
        self.path.unlink(missing_ok=True)
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not (self.done or self._file.closed):
            self.path.unlink(missing_ok=True)
        self._file.close()

    def _resume(self, config: str) -> dict[str, tuple[Outcome, ...]]:
        self._file.drop_rest()
        head, *lines = self._file.whole.splitlines() or [b""]
        if not head:
            self._write([{"config": config}])
            return {}
        try:
            if json.loads(head) != {"config": config}:
                raise JournalError(
                    f"{self.path} holds outcomes of other questions, corpora or options; delete "
                    "it, or choose another --out"
                )
            return dict(_outcomes(json.loads(line)) for line in lines)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise JournalError(f"{self.path} is damaged ({error!r:.80}); delete it") from error

    def _write(self, lines: Any) -> None:
        self._file.append("".join(json.dumps(line) + "\n" for line in lines))


def _line(id_: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return {"id": id_, "outcomes": [[one.route, one.score, one.cost] for one in outcomes]}


def _outcomes(line: dict[str, Any]) -> tuple[str, tuple[Outcome, ...]]:
    return line["id"], tuple(Outcome(*one) for one in line["outcomes"])
