"""Corpus: files to documents, documents to passages."""

from rag.corpus.chunking import Chunker
from rag.corpus.clips import ClipChunker, VideoChunker
from rag.corpus.granularity import DocumentChunker
from rag.corpus.image_passages import ImageChunker
from rag.corpus.sources import Skipped, Source, discover, read
from rag.corpus.table_passages import TableChunker

__all__ = [
    "Chunker",
    "ClipChunker",
    "DocumentChunker",
    "ImageChunker",
    "Skipped",
    "Source",
    "TableChunker",
    "VideoChunker",
    "discover",
    "read",
]
