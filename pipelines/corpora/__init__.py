"""Corpora folders: one index a modality and granularity, made, opened and asked together."""
