"""Groups by shared keys, and a draw of whole groups."""

from hypothesis import given
from hypothesis import strategies as st

from rag.training.linked_groups import drawn_groups, linked_groups

PAIRS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=15)


def test_a_chain_of_links_is_one_group():
    group = linked_groups([("a", "b"), ("c", "d"), ("b", "c"), ("e", "e")])
    assert len({group[key] for key in "abcd"}) == 1
    assert group["e"] == "e"
    assert linked_groups([]) == {}


@given(PAIRS)
def test_matches_reachability(pairs):
    group = linked_groups(pairs)
    keys = {key for pair in pairs for key in pair}
    assert set(group) == keys
    reach = {key: {key} for key in keys}
    for _ in keys:
        for one, other in pairs:
            joined = reach[one] | reach[other]
            for key in joined:
                reach[key] = reach[key] | joined
    for one in keys:
        for other in keys:
            assert (group[one] == group[other]) == (other in reach[one])


@given(st.dictionaries(st.integers(0, 20), st.integers(1, 6), max_size=10), st.integers(0, 15))
def test_whole_groups_fill_the_room_and_the_order_says_nothing(sizes, room):
    members = {key: [f"{key}-{n}" for n in range(size)] for key, size in sizes.items()}
    taken = drawn_groups(members, room, 0)
    assert sum(sizes[key] for key in taken) <= room
    left = room - sum(sizes[key] for key in taken)
    assert all(size > left for key, size in sizes.items() if key not in taken)
    turned = {key: members[key][::-1] for key in reversed(list(members))}
    assert drawn_groups(turned, room, 0) == taken


def test_another_seed_draws_others():
    members = {n: [str(n)] for n in range(30)}
    assert drawn_groups(members, 10, 0) != drawn_groups(members, 10, 1)
    assert len(drawn_groups(members, 10, 0)) == 10
