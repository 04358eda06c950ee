"""Semantic compression: a small set of passages that stands for a large ranking."""
