"""Rerankers: other orders of what was retrieved."""
