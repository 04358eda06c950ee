"""Two small corpora of one folder of notes, whose makers are as plain as can be."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from pipelines.corpora.build import build_corpora
from pipelines.corpora.kinds import CorpusKind
from rag.corpus import Chunker
from rag.records import Passage, Span


@dataclass(frozen=True)
class LineMaker:
    """A passage for each line that begins with a mark; counts what it is given."""

    mark: str | tuple[str, ...]
    tag: str
    modality: str = "table"
    version: int = 1

    @property
    def fingerprint(self):
        return f"lines-{self.mark}-{self.version}"

    def __call__(self, document):
        passages, at = [], 0
        for line in document.text.splitlines(keepends=True):
            text = line.strip()
            if text.startswith(self.mark):
                start = at + line.index(text)
                passages.append(
                    Passage(
                        id=f"{document.id}:{self.tag}{len(passages)}",
                        document=document.id,
                        text=text,
                        span=Span(start, start + len(text)),
                        sentences=(Span(0, len(text)),),
                        title=document.title,
                        modality=self.modality,
                        metadata=document.metadata,
                    )
                )
            at += len(line)
        return passages


def paragraphs(words=120):
    return CorpusKind("paragraph", "text", Chunker(words))


def tables(**changes):
    return CorpusKind("table", "table", LineMaker("|", "t", **changes), "no document has a table")


def clips():
    return CorpusKind("clip", "video", LineMaker("@", "c", "video"), "no transcript")


KINDS = (paragraphs(), tables(), clips())


@pytest.fixture
def plain():
    """Makers of passages and kinds of corpora by what they are called here."""
    return SimpleNamespace(lines=LineMaker, paragraphs=paragraphs, tables=tables, clips=clips)


@pytest.fixture
def mixed(notes):
    """Three notes, of which one has two rows of a table; nothing is for clips."""
    note = notes / "bridges.md"
    note.write_text(note.read_text() + "\n\n| bridge | 1889 |\n\n| tower | 1930 |\n")
    return notes


@pytest.fixture
def out(tmp_path):
    return tmp_path / "notes.corpora"


@pytest.fixture
def build(encoder, out):
    """Return a function paths, options -> report of a build into `out`."""

    def built(*paths, folder=None, **options):
        options = {"encoder": encoder, "kinds": KINDS} | options
        return build_corpora([str(path) for path in paths], folder or out, **options)

    return built
