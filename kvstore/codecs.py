"""The lossless codec `raw`: a segment's KV as one checksummed safetensors file.

A file holds the tensor `kv` of shape (layers, 2, tokens, kv_heads, head_dim), keys before RoPE at
index 0 and values at 1, so a sentence is one slice a layer; then `sentence_rows`, int32
(sentences, 2), and `token_ids`, int32 (tokens,). Version, key, codec, role, name, document and
checksum stand in the metadata. Any safetensors reader opens it; `kv` starts at a multiple of 64.

The checksum is the SHA-256 of every byte of the file but its own 64 hex digits, which a reader
compares literally: any change anywhere is found. SHA-256 is the fastest strong hash of the
standard library where the CPU has SHA instructions: 1.8 GB/s measured, blake2b 0.95.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from typing import Any, BinaryIO

import torch
from torch import Tensor

from kvstore.keys import FORMAT_VERSION
from rag.protocols import SegmentKV
from rag.records import Segment

RAW = "raw"
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
}
_OPENING = b'{"__metadata__":{"checksum":"'
_CHECKSUM_START = 8 + len(_OPENING)
_CHECKSUM_END = _CHECKSUM_START + 64
_ALIGNMENT = 64
_LARGEST_HEADER = 1 << 20


class CorruptBlobError(Exception):
    """Bytes that are not the wanted KV, whole and unchanged; the message says what is wrong."""


def pack(segment: Segment, kv: SegmentKV) -> Tensor:
    """Copy a segment's KV into one new tensor (layers, 2, tokens, kv_heads, head_dim) on the CPU.

    Raises:
        ValueError: if the tensors do not belong to the segment by shape or dtype.
    """
    keys, values = kv.keys, kv.values
    if keys.shape != values.shape or keys.dtype != values.dtype:
        got = f"{tuple(keys.shape)} {keys.dtype} and {tuple(values.shape)} {values.dtype}"
        raise ValueError(f"keys and values must have one shape and dtype, got {got}")
    if keys.ndim != 4 or keys.shape[1] != len(segment) or 0 in keys.shape:
        wanted = f"(layers, {len(segment)}, kv_heads, head_dim), none of them 0"
        raise ValueError(f"keys of {segment.name!r} must be {wanted}, got {tuple(keys.shape)}")
    if keys.dtype not in _DTYPES.values() or not _is_dtype(segment, keys.dtype):
        wanted = f"{segment.model.dtype!r} (one of float64, float32, bfloat16, float16)"
        raise ValueError(f"keys must have their model's dtype {wanted}, got {keys.dtype}")
    # Not torch.stack: it keeps the order of strides, so its result need not be contiguous.
    packed = torch.empty((keys.shape[0], 2, *keys.shape[1:]), dtype=keys.dtype)
    packed[:, 0] = keys.detach()
    packed[:, 1] = values.detach()
    return packed


def unpack(packed: Tensor) -> SegmentKV:
    """Return keys and values as views of a tensor made by `pack`."""
    return SegmentKV(packed[:, 0], packed[:, 1])


def encode(key: str, segment: Segment, packed: Tensor) -> list[bytes | memoryview]:
    """Return the file as pieces to write one after the other; `packed` is viewed, not copied.

    Args:
        key: the segment's key for the codec `raw`.
        segment: what the KV belongs to.
        packed: what `pack` returned for it.
    """
    dtype = next(name for name, dtype in _DTYPES.items() if dtype == packed.dtype)
    rows = segment.sentence_rows
    start, end = _header(
        key,
        segment,
        name=segment.name,
        document=segment.document,
        dtype=dtype,
        shape=tuple(packed.shape),
        sentences=len(rows),
    )
    payload = packed.view(-1).view(torch.uint8).numpy().data
    tail = struct.pack(f"<{2 * len(rows)}i", *(bound for row in rows for bound in row))
    tail += _token_bytes(segment)
    checksum = hashlib.sha256(start + end)
    checksum.update(payload)
    checksum.update(tail)
    return [start + checksum.hexdigest().encode() + end, payload, tail]


def decode(key: str, segment: Segment, blob: Tensor) -> SegmentKV:
    """Return the KV in a file's bytes as views of `blob`.

    Nothing is interpreted before the checksum over all of it holds. After that the header has to
    be, byte for byte, the one that `encode` writes for this segment.

    Args:
        key: the segment's key for the codec `raw`.
        segment: what the KV is wanted for.
        blob: the whole file, uint8 (bytes,).

    Raises:
        CorruptBlobError: if the bytes were changed, cut short, written by something else, or
            belong to another segment, version, dtype or token sequence.
    """
    view = blob.numpy().data
    if len(view) < _CHECKSUM_END or view[8:_CHECKSUM_START] != _OPENING:
        raise CorruptBlobError("not a KV file")
    checksum = hashlib.sha256(view[:_CHECKSUM_START])
    checksum.update(view[_CHECKSUM_END:])
    if view[_CHECKSUM_START:_CHECKSUM_END] != checksum.hexdigest().encode():
        raise CorruptBlobError("checksum differs")

    payload_start = 8 + int.from_bytes(view[:8], "little")
    header = _parsed(bytes(view[8:payload_start]))
    try:
        metadata, layout = header["__metadata__"], header["kv"]
        version, stored_key = metadata["version"], metadata["key"]
        name, document = metadata["name"], metadata["document"]
        shape, dtype = tuple(layout["shape"]), layout["dtype"]
        sentences = header["sentence_rows"]["shape"][0]
        torch_dtype = _DTYPES[dtype]
    except (KeyError, TypeError, IndexError) as error:
        raise CorruptBlobError("foreign header") from error
    if version != str(FORMAT_VERSION):
        raise CorruptBlobError(f"format version {version}, this program reads {FORMAT_VERSION}")
    if stored_key != key:
        raise CorruptBlobError("belongs to another segment")
    counts = (*shape, sentences + 1 if type(sentences) is int else 0)
    if len(shape) != 5 or not all(type(count) is int and count > 0 for count in counts):
        raise CorruptBlobError(f"impossible shape {shape} with {sentences} sentences")
    if shape[1:3] != (2, len(segment)) or not _is_dtype(segment, torch_dtype):
        wanted = f"{len(segment)} tokens in {segment.model.dtype}"
        raise CorruptBlobError(f"holds shape {shape} in {dtype} instead of {wanted}")
    start, end = _header(
        key,
        segment,
        name=name,
        document=document,
        dtype=dtype,
        shape=shape,
        sentences=sentences,
    )
    if view[:_CHECKSUM_START] != start or view[_CHECKSUM_END:payload_start] != end:
        raise CorruptBlobError("foreign header")
    payload_end = payload_start + math.prod(shape) * torch_dtype.itemsize
    if view[payload_end + 8 * sentences :] != _token_bytes(segment):
        raise CorruptBlobError("holds other tokens")
    return unpack(blob[payload_start:payload_end].view(torch_dtype).view(shape))


def stored_document(file: BinaryIO) -> str | None:
    """Return the document that a file's header names, without reading its tensors.

    The checksum is not verified: a damaged file may name a wrong document, or none (None).
    """
    length = int.from_bytes(file.read(8), "little")
    if length > _LARGEST_HEADER:
        return None
    try:
        document = _parsed(file.read(length))["__metadata__"]["document"]
    except (CorruptBlobError, KeyError, TypeError):
        return None
    return document if isinstance(document, str) else None


def _header(
    key: str,
    segment: Segment,
    *,
    name: str,
    document: str,
    dtype: str,
    shape: tuple[int, ...],
    sentences: int,
) -> tuple[bytes, bytes]:
    """Return what stands before the checksum's digits, and from behind them to the payload."""
    kv_end = math.prod(shape) * _DTYPES[dtype].itemsize
    rows_end = kv_end + 8 * sentences
    tokens_end = rows_end + 4 * len(segment)
    text = json.dumps(
        {
            "__metadata__": {
                "checksum": "0" * 64,
                "version": str(FORMAT_VERSION),
                "codec": RAW,
                "key": key,
                "role": segment.role,
                "name": name,
                "document": document,
            },
            "kv": {"dtype": dtype, "shape": shape, "data_offsets": [0, kv_end]},
            "sentence_rows": {
                "dtype": "I32",
                "shape": [sentences, 2],
                "data_offsets": [kv_end, rows_end],
            },
            "token_ids": {
                "dtype": "I32",
                "shape": [len(segment)],
                "data_offsets": [rows_end, tokens_end],
            },
        },
        separators=(",", ":"),
    ).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    return struct.pack("<q", len(text)) + _OPENING, text[_CHECKSUM_END - 8 :]


def _parsed(header: bytes) -> Any:
    try:
        return json.loads(header)
    except (ValueError, RecursionError) as error:
        raise CorruptBlobError("foreign header") from error


def _is_dtype(segment: Segment, dtype: torch.dtype) -> bool:
    """Compare with the model's dtype, which may add where the forward ran: `float16/cuda`."""
    return str(dtype).removeprefix("torch.") == segment.model.dtype.partition("/")[0]


def _token_bytes(segment: Segment) -> bytes:
    return struct.pack(f"<{len(segment)}i", *segment.token_ids)
