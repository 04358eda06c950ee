"""Retrievers: sparse, dense, and their fusion."""
