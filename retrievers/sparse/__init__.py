"""Sparse retrieval: postings, BM25 and other term weights."""
