"""Kinds of edges of the corpus graph, one a file."""
