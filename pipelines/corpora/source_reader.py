"""Reading sources for several corpora at once: each is read once, or not at all."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from pipelines.corpora.manifest import CorporaSource
from pipelines.index_folder import IndexFolder, open_index
from rag.corpus import Skipped, Source, read
from rag.corpus.manifest import is_index
from rag.errors import CorpusError, MissingExtraError
from rag.records import Document


class SourceReader:
    """Gives the documents of sources for one build; each source is read once at most.

    Attributes:
        unreadable: the sources that could not be read.
    """

    def __init__(
        self,
        before: Mapping[str, CorporaSource],
        folders: Mapping[str, Path],
        taken: dict[str, str],
    ) -> None:
        """Begin.

        Args:
            before: sources as they are in the folder.
            folders: its indexes, which may hold the documents of a source that did not change.
            taken: id of each document below other roots, and of its source.
        """
        self._before = before
        self._folders = folders
        self._taken = taken
        self._read: dict[str, list[Document]] = {}
        self._errors: dict[str, CorpusError | MissingExtraError] = {}

    def __call__(self, source: Source) -> list[Document]:
        """Return the documents of a source.

        Raises:
            CorpusError: if it cannot be read, or another one has a document of the same id.
            MissingExtraError: if its format needs a package that is not installed.
        """
        if source.id in self._errors:
            raise self._errors[source.id]
        if source.id not in self._read:
            try:
                documents = self._stored(source) or read(source)
                self._refuse_double(source, documents)
            except (CorpusError, MissingExtraError) as error:
                self._errors[source.id] = error
                raise
            self._read[source.id] = documents
        return self._read[source.id]

    @property
    def unreadable(self) -> list[Skipped]:
        """The sources that could not be read, and why."""
        return [
            Skipped(id_, str(error).removeprefix(f"{id_}: ")) for id_, error in self._errors.items()
        ]

    def readable(self, source: Source) -> bool:
        """Tell whether a source is as it was, or can be read."""
        if self._same(source) is None and source.id not in self._errors:
            try:
                self(source)
            except (CorpusError, MissingExtraError):
                return False
        return source.id not in self._errors

    def ids(self, source: Source) -> tuple[str, ...]:
        """Return the ids of the documents of a source that is readable."""
        if source.id in self._read:
            return tuple(document.id for document in self._read[source.id])
        return self._before[source.id].documents

    def _same(self, source: Source) -> CorporaSource | None:
        before = self._before.get(source.id)
        return before if before is not None and before.sha == source.sha else None

    def _stored(self, source: Source) -> list[Document]:
        """Return all documents of a source from the indexes; none if they do not hold every one."""
        before = self._same(source)
        if before is None:
            return []
        found: dict[str, Document] = {}
        for index, shas in self._indexes:
            if shas.get(source.id) == source.sha:
                absent = [id_ for id_ in before.documents if id_ not in found]
                found |= {id_: index.documents[id_] for id_ in absent if id_ in index.documents}
        return (
            [found[id_] for id_ in before.documents] if len(found) == len(before.documents) else []
        )

    @cached_property
    def _indexes(self) -> list[tuple[IndexFolder, dict[str, str]]]:
        indexes = [open_index(folder) for folder in self._folders.values() if is_index(folder)]
        return [(index, {s.id: s.sha for s in index.manifest.sources}) for index in indexes]

    def _refuse_double(self, source: Source, documents: list[Document]) -> None:
        for document in documents:
            other = self._taken.setdefault(document.id, source.id)
            if other != source.id:
                raise CorpusError(
                    f"{source.id}: source {other!r} has a document {document.id!r} too"
                )
