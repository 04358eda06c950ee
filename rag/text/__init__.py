"""Text: sentences, terms, BM25 over a handful of texts, answers normalised, templates."""

from rag.text.bm25 import bm25_scores
from rag.text.normalise import normalised_answer
from rag.text.sentences import split_sentences
from rag.text.terms import terms

__all__ = ["bm25_scores", "normalised_answer", "split_sentences", "terms"]
