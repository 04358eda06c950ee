"""Codec `raw`: exact round trips, a layout others can read, and no damage that goes unseen."""

import hashlib
import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load

from kvstore.codecs import RAW, CorruptBlobError, decode, encode, pack, stored_document, unpack
from kvstore.keys import segment_key
from rag.protocols import SegmentKV

DTYPES = ["float64", "float32", "bfloat16", "float16"]
OPENING = b'{"__metadata__":{"checksum":"'
START = 8 + len(OPENING)


def file_of(segment, kv):
    return b"".join(encode(segment_key(segment, RAW), segment, pack(segment, kv)))


def read(data, segment):
    blob = torch.frombuffer(bytearray(data or b"\0"), dtype=torch.uint8)[: len(data)]
    return decode(segment_key(segment, RAW), segment, blob)


def signed(data):
    """Give bytes that were tampered with a checksum that holds."""
    checksum = hashlib.sha256(data[:START] + data[START + 64 :]).hexdigest().encode()
    return data[:START] + checksum + data[START + 64 :]


def with_header(data, edit):
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    edit(header)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % 64)
    return signed(len(text).to_bytes(8, "little") + text + data[end:])


@pytest.mark.parametrize("dtype", DTYPES)
@given(
    layers=st.integers(1, 3),
    tokens=st.integers(1, 5),
    heads=st.integers(1, 3),
    dim=st.integers(1, 4),
    seed=st.integers(0, 99),
)
@settings(max_examples=20)
def test_returns_exactly_what_was_put_in(toy, dtype, **size):
    wanted = toy.segment(1, size.pop("tokens"), dtype=dtype)
    seed, (layers, heads, dim) = size.pop("seed"), size.values()
    kv = toy.kv(wanted, layers=layers, heads=heads, dim=dim, seed=seed)
    assert toy.same(read(file_of(wanted, kv), wanted), kv)


@pytest.mark.parametrize("dtype", DTYPES)
def test_keeps_the_bits_of_numbers_that_are_none(toy, dtype):
    wanted = toy.segment(1, 4, dtype=dtype)
    odd = torch.tensor([torch.nan, torch.inf, -0.0, 1e-45], dtype=torch.float64)
    odd = odd.to(getattr(torch, dtype)).view(1, 4, 1, 1)
    kv = SegmentKV(odd, -odd)
    assert toy.same(read(file_of(wanted, kv), wanted), kv)


def test_safetensors_reads_the_same_layer_major_tensors(toy):
    rows = ((0, 1), (1, 3))
    wanted = toy.segment(3, 3, document="notes/ä.txt", sentence_rows=rows)
    kv = toy.kv(wanted, layers=2, heads=2, dim=4)
    data = file_of(wanted, kv)
    tensors = load(data)
    assert list(tensors["kv"].shape) == [2, 2, 3, 2, 4]
    assert torch.equal(tensors["kv"][:, 0], kv.keys)
    assert torch.equal(tensors["kv"][:, 1], kv.values)
    assert tensors["token_ids"].tolist() == [3000, 3001, 3002]
    assert tensors["sentence_rows"].tolist() == [[0, 1], [1, 3]]
    end = 8 + int.from_bytes(data[:8], "little")
    assert end % 64 == 0
    metadata = json.loads(data[8:end])["__metadata__"]
    assert metadata.pop("checksum") == signed(data)[START : START + 64].decode()
    assert metadata == {
        "version": "1",
        "codec": "raw",
        "key": segment_key(wanted, RAW),
        "role": "passage",
        "name": "p3",
        "document": "notes/ä.txt",
    }


def test_a_sentence_is_one_slice_a_layer(toy):
    wanted = toy.segment(1, 6, sentence_rows=((0, 2), (2, 6)))
    kv = read(file_of(wanted, toy.kv(wanted, layers=3, heads=2, dim=4)), wanted)
    for layer in range(3):
        assert kv.keys[layer, 2:6].is_contiguous()
        assert kv.values[layer, 2:6].is_contiguous()


def test_packing_copies_so_later_writes_to_the_source_are_not_seen(toy):
    wanted = toy.segment(1, 3)
    kv = toy.kv(wanted)
    packed = pack(wanted, kv)
    kv.keys.zero_()
    kv.values.zero_()
    assert toy.same(unpack(packed), toy.kv(wanted))


def test_packing_takes_strided_tensors_and_drops_gradients(toy):
    wanted = toy.segment(1, 3)
    keys = torch.randn(2, 1, 4, 3, requires_grad=True).permute(0, 3, 1, 2)
    packed = pack(wanted, SegmentKV(keys, keys * 2))
    assert packed.is_contiguous()
    assert not packed.requires_grad
    assert torch.equal(packed[:, 1], 2 * keys.detach())


@pytest.mark.parametrize("flip", [0x01, 0x20, 0xFF])
def test_a_flip_of_any_byte_is_detected(toy, flip):
    wanted = toy.segment(1, 2, sentence_rows=((0, 2),), document="d")
    data = file_of(wanted, toy.kv(wanted))
    read(data, wanted)
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= flip
        with pytest.raises(CorruptBlobError):
            read(damaged, wanted)


@given(changes=st.dictionaries(st.integers(0, 99_999), st.integers(1, 255), min_size=1, max_size=9))
@settings(max_examples=50)
def test_any_changes_to_a_larger_file_are_detected(toy, changes):
    wanted = toy.segment(2, 16)
    data = file_of(wanted, toy.kv(wanted, layers=4, heads=3, dim=8))
    damaged = bytearray(data)
    for at, flip in {at % len(data): flip for at, flip in changes.items()}.items():
        damaged[at] ^= flip
    with pytest.raises(CorruptBlobError):
        read(damaged, wanted)


def test_a_file_cut_short_or_prolonged_is_detected(toy):
    wanted = toy.segment(1, 2)
    data = file_of(wanted, toy.kv(wanted))
    for length in range(len(data)):
        with pytest.raises(CorruptBlobError):
            read(data[:length], wanted)
    with pytest.raises(CorruptBlobError, match="checksum differs"):
        read(data + b"\0", wanted)
    with pytest.raises(CorruptBlobError):
        read(signed(data + b"\0"), wanted)


@given(data=st.binary(max_size=300), after=st.booleans())
def test_foreign_bytes_are_corrupt_even_with_a_checksum_that_holds(toy, data, after):
    if after:
        data = signed(len(data).to_bytes(8, "little") + OPENING + b"0" * 64 + data)
    with pytest.raises(CorruptBlobError):
        read(data, toy.segment())


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda h: h["__metadata__"].update(version="2"), "format version 2, this program reads 1"),
        (lambda h: h["__metadata__"].update(version="1.0"), "format version 1.0"),
        (lambda h: h["__metadata__"].update(key="0" * 64), "belongs to another segment"),
        (lambda h: h["__metadata__"].update(codec="int8"), "foreign header"),
        (lambda h: h["__metadata__"].update(role="prefix"), "foreign header"),
        (lambda h: h["__metadata__"].update(more="1"), "foreign header"),
        (lambda h: h["__metadata__"].pop("name"), "foreign header"),
        (lambda h: h.update(more=h["kv"]), "foreign header"),
        (lambda h: h.pop("kv"), "foreign header"),
        (lambda h: h.update(kv=[1]), "foreign header"),
        (lambda h: h["kv"].update(dtype="I64"), "foreign header"),
        (lambda h: h["kv"].update(dtype=["F32"]), "foreign header"),
        (lambda h: h["kv"].update(dtype="F16"), "in F16 instead of 2 tokens in float32"),
        (lambda h: h["kv"].update(shape=[1, 2, 3, 1, 2]), "instead of 2 tokens"),
        (lambda h: h["kv"].update(shape=[1, 1, 2, 1, 2]), "holds shape"),
        (lambda h: h["kv"].update(shape=[1, 2, 2, 2]), "impossible shape"),
        (lambda h: h["kv"].update(shape=[0, 2, 2, 1, 2]), "impossible shape"),
        (lambda h: h["kv"].update(shape=[1.0, 2, 2, 1, 2]), "impossible shape"),
        (lambda h: h["kv"].update(shape=[2, 2, 2, 1, 2]), "foreign header"),
        (lambda h: h["kv"].update(shape=3), "foreign header"),
        (lambda h: h["kv"].update(data_offsets=[0, 16]), "foreign header"),
        (lambda h: h["sentence_rows"].update(shape=[-1, 2]), "impossible shape"),
        (lambda h: h["sentence_rows"].update(shape=[]), "foreign header"),
        (lambda h: h["sentence_rows"].update(shape=[1, 2]), "foreign header"),
    ],
)
def test_another_header_is_refused_even_with_a_checksum_that_holds(toy, edit, reason):
    wanted = toy.segment(1, 2)
    data = file_of(wanted, toy.kv(wanted))
    read(with_header(data, lambda header: None), wanted)
    with pytest.raises(CorruptBlobError, match=reason):
        read(with_header(data, edit), wanted)


@pytest.mark.parametrize("text", [b"[]", b"7", b"{", b"[" * 100_000, b'{"__metadata__":7}'])
def test_a_header_that_is_no_header_is_refused(toy, text):
    data = len(text).to_bytes(8, "little") + text
    with pytest.raises(CorruptBlobError):
        read(data, toy.segment())
    nested = OPENING + b"0" * 64 + b'","more":' + text + b"}"
    with pytest.raises(CorruptBlobError):
        read(signed(len(nested).to_bytes(8, "little") + nested), toy.segment())


def test_the_stored_tokens_must_be_the_wanted_ones_whatever_the_key_says(toy):
    wanted, other = toy.segment(1, 2), toy.segment(2, 2)
    packed = pack(other, toy.kv(other))
    data = b"".join(encode(segment_key(wanted, RAW), other, packed))
    with pytest.raises(CorruptBlobError, match="holds other tokens"):
        read(data, wanted)


def test_a_file_under_the_name_of_another_key_is_refused(toy):
    data = file_of(toy.segment(1), toy.kv(toy.segment(1)))
    with pytest.raises(CorruptBlobError, match="belongs to another segment"):
        read(data, toy.segment(2))


def test_a_model_that_says_where_it_ran_keeps_its_dtype(toy):
    plain = toy.segment(1)
    wanted = replace(plain, model=replace(plain.model, dtype="float32/cuda"))
    assert toy.same(read(file_of(wanted, toy.kv(plain)), wanted), toy.kv(plain))
    with pytest.raises(CorruptBlobError, match="belongs to another segment"):
        read(file_of(plain, toy.kv(plain)), wanted)


def test_any_text_can_name_a_segment_and_the_wanted_one_need_not_agree(toy):
    stored = replace(toy.segment(1), name='"\\\n\x00', document="\ud800/../é")
    data = file_of(stored, toy.kv(stored))
    assert toy.same(read(data, toy.segment(1)), toy.kv(stored))


def test_the_document_is_read_from_the_header_alone(toy, tmp_path):
    stored = toy.segment(1, document="a/\ud800 b")
    data = file_of(stored, toy.kv(stored))
    end = 8 + int.from_bytes(data[:8], "little")
    for content, document in [
        (data[:end], stored.document),
        (data[: end - 70], None),
        (b"", None),
        (b"\xff" * 100, None),
        (b"\x02" + b"\0" * 7 + b"[]", None),
    ]:
        path = tmp_path / "file"
        path.write_bytes(content)
        with path.open("rb") as file:
            assert stored_document(file) == document


@pytest.mark.parametrize(
    ("keys", "values", "message"),
    [
        ((1, 2, 1, 2), (1, 2, 1, 3), r"one shape and dtype, got \(1, 2, 1, 2\)"),
        ((1, 3, 1, 2), (1, 3, 1, 2), r"'p1' must be \(layers, 2, kv_heads, head_dim\).*\(1, 3, "),
        ((0, 2, 1, 2), (0, 2, 1, 2), r"none of them 0, got \(0, 2, 1, 2\)"),
        ((2, 1, 2), (2, 1, 2), r"got \(2, 1, 2\)"),
    ],
)
def test_refuses_to_store_tensors_that_do_not_fit(toy, keys, values, message):
    with pytest.raises(ValueError, match=message):
        pack(toy.segment(1, 2), SegmentKV(torch.zeros(keys), torch.zeros(values)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.int32])
def test_refuses_to_store_another_dtype_than_the_models(toy, dtype):
    zeros = torch.zeros(1, 2, 1, 2, dtype=dtype)
    with pytest.raises(ValueError, match=rf"model's dtype 'float32'.*got {dtype}"):
        pack(toy.segment(1, 2), SegmentKV(zeros, zeros))
    with pytest.raises(ValueError, match="one shape and dtype"):
        pack(toy.segment(1, 2), SegmentKV(zeros, zeros.double()))
