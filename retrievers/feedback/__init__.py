"""Pseudo-relevance feedback on vectors."""
