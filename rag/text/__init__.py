"""Text: sentences, terms, and BM25 over a handful of texts."""

from rag.text.bm25 import bm25_scores
from rag.text.sentences import split_sentences
from rag.text.terms import terms

__all__ = ["bm25_scores", "split_sentences", "terms"]
