"""Retrieval from several corpora: routed, fused within a modality, cut to a token budget."""
