"""Loaders: one file a format family, each from the bytes of a source to its documents."""
