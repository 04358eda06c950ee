"""Pruners: which sentences of a passage a query needs."""
