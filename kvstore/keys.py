"""Merkle keys: the hash that names a segment's KV, equal exactly when the KV has to be equal."""

from __future__ import annotations

import hashlib
import struct
from functools import lru_cache

from rag.records import Segment

FORMAT_VERSION = 1  # of keys and files together: a new layout never meets an old key


def segment_key(segment: Segment, codec: str) -> str:
    """Return the key of a segment's KV: SHA-256 in hex, 64 characters.

    It covers everything that the KV depends on: the format version, the codec, the model (weights,
    configuration, dtype, tokenizer, adapter), the role, the token ids and, through their own keys,
    the parents in order. The model's display name and the segment's `name`, `document` and
    `sentence_rows` are data about the KV and leave the key alone, so equal text shares one entry.

    Args:
        segment: what was, or would be, encoded.
        codec: name of the codec that stores it; another codec is another entry.
    """
    model = segment.model
    texts = (codec, model.weights, model.config, model.dtype, model.tokenizer, model.adapter)
    # Every part is preceded by its length, so no two different lists of parts give equal bytes.
    parts = [struct.pack("<11sq", b"dovetail-kv", FORMAT_VERSION)]
    for text in (*texts, segment.role):
        encoded = text.encode("utf-8", "surrogatepass")
        parts += (struct.pack("<q", len(encoded)), encoded)
    ids = segment.token_ids
    parts.append(struct.pack(f"<q{len(ids)}q", len(ids), *ids))
    parts.append(struct.pack("<q", len(segment.parents)))
    parts += (bytes.fromhex(_parent_key(parent, codec)) for parent in segment.parents)
    return hashlib.sha256(b"".join(parts)).hexdigest()


@lru_cache(maxsize=256)
def _parent_key(segment: Segment, codec: str) -> str:
    """Remember the keys of the few segments that thousands of passages have as parents."""
    return segment_key(segment, codec)
