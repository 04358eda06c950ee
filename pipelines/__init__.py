"""Pipelines: operators wired together, and the command line."""
