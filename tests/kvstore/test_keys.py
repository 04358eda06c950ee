"""Keys: parity with the bytes spelled out, what changes them, what does not, no collisions."""

import hashlib
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore import segment_key
from rag.records import ModelIdentity, Segment

MODEL = ModelIdentity("toy", "w", "rope", "float32", "tok", "lora")
PREFIX = Segment(MODEL, "prefix", (1, 2), name="prefix")
OTHER_PREFIX = Segment(MODEL, "prefix", (1, 3), name="prefix")
PASSAGE = Segment(MODEL, "passage", (7, 8, 9), (PREFIX,), ((0, 3),), "p", "d")

CHANGES = {
    **{f"model {f}": {"model": replace(MODEL, **{f: "another"})} for f in MODEL.__slots__[1:]},
    "role": {"role": "prefix"},
    "a token": {"token_ids": (7, 8, 10)},
    "fewer tokens": {"token_ids": (7, 8)},
    "order of tokens": {"token_ids": (8, 7, 9)},
    "no parent": {"parents": ()},
    "a parent's token": {"parents": (OTHER_PREFIX,)},
    "a parent's model": {"parents": (replace(PREFIX, model=replace(MODEL, weights="v")),)},
    "one more parent": {"parents": (PREFIX, OTHER_PREFIX)},
    "order of parents": {"parents": (OTHER_PREFIX, PREFIX)},
    "parent of a parent": {"parents": (replace(PREFIX, parents=(OTHER_PREFIX,)),)},
}
KEEPS = {
    "model name": {"model": replace(MODEL, name="alias")},
    "name": {"name": "q"},
    "document": {"document": "e"},
    "sentence rows": {"sentence_rows": ((0, 1), (1, 3))},
    "name of a parent": {"parents": (replace(PREFIX, name="system"),)},
}


def number(n):
    return n.to_bytes(8, "little")


def key_by_definition(segment, codec):
    m = segment.model
    data = b"dovetail-kv" + number(1)
    for text in (codec, m.weights, m.config, m.dtype, m.tokenizer, m.adapter, segment.role):
        data += number(len(text.encode())) + text.encode()
    data += number(len(segment.token_ids)) + b"".join(map(number, segment.token_ids))
    data += number(len(segment.parents))
    for parent in segment.parents:
        data += bytes.fromhex(key_by_definition(parent, codec))
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_matches_the_definition(change):
    segment = replace(PASSAGE, **change)
    assert segment_key(segment, "raw") == key_by_definition(segment, "raw")


def test_changes_with_everything_the_kv_depends_on():
    variants = [replace(PASSAGE, **change) for change in CHANGES.values()]
    keys = [segment_key(segment, "raw") for segment in (PASSAGE, *variants)]
    keys.append(segment_key(PASSAGE, "int8"))
    assert len(set(keys)) == len(CHANGES) + 2


@pytest.mark.parametrize("change", KEEPS.values(), ids=KEEPS)
def test_ignores_what_is_only_about_the_kv(change):
    assert segment_key(replace(PASSAGE, **change), "raw") == segment_key(PASSAGE, "raw")


def test_these_tests_cover_every_field():
    covered = {name for change in (*CHANGES.values(), *KEEPS.values()) for name in change}
    assert covered == {field.name for field in fields(Segment)}


texts = st.text(alphabet="ab\x00\ud800é", max_size=3)
models = st.builds(ModelIdentity, st.just("toy"), texts, texts, texts, texts, texts)
ids = st.lists(st.integers(0, 3), min_size=1, max_size=4).map(tuple)
roots = st.builds(Segment, models, st.sampled_from(["prefix", "passage"]), ids)
trees = st.recursive(
    roots,
    lambda below: st.builds(
        Segment, models, st.just("passage"), ids, st.lists(below, max_size=2).map(tuple)
    ),
    max_leaves=4,
)


@given(a=trees, b=trees)
def test_two_segments_share_a_key_only_if_they_are_equal(a, b):
    assert (segment_key(a, "raw") == segment_key(b, "raw")) == (a == b)


def test_parts_cannot_slide_into_each_other():
    one = replace(PASSAGE, model=replace(MODEL, weights="ab", config="c"))
    two = replace(PASSAGE, model=replace(MODEL, weights="a", config="bc"))
    assert segment_key(one, "raw") != segment_key(two, "raw")


def test_the_order_of_calls_does_not_matter():
    first = segment_key(PASSAGE, "raw")
    for change in CHANGES.values():
        segment_key(replace(PASSAGE, **change), "int8")
    assert segment_key(PASSAGE, "raw") == first
