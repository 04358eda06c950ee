"""Corpus: files to documents, documents to passages."""

from rag.corpus.chunking import Chunker
from rag.corpus.sources import Skipped, Source, discover, read

__all__ = ["Chunker", "Skipped", "Source", "discover", "read"]
