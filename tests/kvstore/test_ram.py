"""RAM tier: recency by hand, bytes that add up against a plain model, edges."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.ram import RamTier


def test_evicts_the_least_recently_used_first(toy):
    tier = RamTier(48)
    kvs = [toy.kv(toy.segment(n, 1)) for n in range(4)]
    for n in range(3):
        assert tier.put(str(n), "", kvs[n])
    assert tier.get("0") is kvs[0]
    assert tier.put("3", "", kvs[3])
    assert [tier.contains(str(n)) for n in range(4)] == [True, False, True, True]
    assert (tier.usage(), tier.evictions) == ((3, 48), 1)


def test_looking_whether_an_entry_is_there_is_no_use_of_it(toy):
    tier = RamTier(32)
    for n in range(2):
        tier.put(str(n), "", toy.kv(toy.segment(n, 1)))
    assert tier.contains("0")
    tier.put("2", "", toy.kv(toy.segment(2, 1)))
    assert not tier.contains("0")


def test_refuses_what_alone_exceeds_the_budget_and_changes_nothing(toy):
    tier = RamTier(40)
    small = toy.kv(toy.segment(0, 1))
    tier.put("0", "", small)
    assert not tier.put("0", "", toy.kv(toy.segment(1, 3)))
    assert tier.get("0") is small
    assert tier.usage() == (1, 16)


def test_a_budget_of_nothing_holds_nothing_and_a_negative_one_is_an_error(toy):
    assert not RamTier(0).put("0", "", toy.kv(toy.segment(0, 1)))
    with pytest.raises(ValueError, match="budget_bytes must be at least 0, got -1"):
        RamTier(-1)


@given(
    budget=st.integers(0, 200),
    steps=st.lists(
        st.tuples(st.sampled_from(["put", "get", "drop"]), st.integers(0, 6), st.integers(1, 4)),
        max_size=40,
    ),
)
def test_behaves_like_a_plain_list_in_order_of_use(toy, budget, steps):
    tier, model, evictions = RamTier(budget), [], 0
    kvs = {(n, tokens): toy.kv(toy.segment(n, tokens)) for n in range(7) for tokens in range(1, 5)}
    for verb, n, tokens in steps:
        key, kv, document = str(n), kvs[n, tokens], str(n % 3)
        if verb == "get":
            held = [entry for entry in model if entry[0] == key]
            model = [entry for entry in model if entry[0] != key] + held
            assert tier.get(key) is (held[0][1] if held else None)
        elif verb == "drop":
            gone = {entry[0] for entry in model if entry[2] == document}
            model = [entry for entry in model if entry[2] != document]
            assert tier.drop_documents({document}) == gone
        elif fits := kv.nbytes <= budget:
            model = [entry for entry in model if entry[0] != key] + [(key, kv, document)]
            while sum(entry[1].nbytes for entry in model) > budget:
                model.pop(0)
                evictions += 1
            assert tier.put(key, document, kv) is fits
        else:
            assert tier.put(key, document, kv) is fits
        assert tier.usage() == (len(model), sum(entry[1].nbytes for entry in model))
        assert tier.evictions == evictions
    tier.clear()
    assert tier.usage() == (0, 0)
