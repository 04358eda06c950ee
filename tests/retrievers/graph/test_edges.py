"""Edges of each kind: hand-worked cases, their traps, parity with the formula read literally."""

import json
import math
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.errors import CorpusError
from rag.records import Passage, Span
from retrievers.graph.edges.edge_list import EdgeList
from retrievers.graph.edges.knn import kept_nearest, nearest_edges
from retrievers.graph.edges.mention import mention_edges, named_rows
from retrievers.graph.edges.parent import parent_edges
from retrievers.graph.edges.reference import reference_edges
from retrievers.graph.edges.seq import sequence_edges
from retrievers.graph.edges.shared import metadata_holders, shared_edges
from retrievers.graph.edges.triple import Triple, read_triples, triple_edges
from retrievers.graph.names import Names


def passage(name, document="d", text="", start=0, **changes):
    return Passage(name, document, text, Span(start, start + len(text)), (), **changes)


def listed(edges):
    return sorted(
        zip(edges.sources.tolist(), edges.targets.tolist(), edges.weights.tolist(), strict=True)
    )


def pairs(edges):
    return [(source, target) for source, target, _ in listed(edges)]


def test_an_edge_list_keeps_its_types_also_when_empty():
    for edges in (EdgeList.of(()), EdgeList.joined(()), EdgeList.of([(0, 1, 1)])):
        assert (edges.sources.dtype, edges.targets.dtype) == ("int64", "int64")
        assert edges.weights.dtype == "float64"
    joined = EdgeList.joined([EdgeList.of([(0, 1, 0.5)]), EdgeList.of([(2, 0, 1.0)])])
    assert listed(joined) == [(0, 1, 0.5), (2, 0, 1.0)]
    assert len(joined) == 2


def sequence(*following):
    found = [passage(str(row), next=one) for row, one in enumerate(following)]
    return listed(sequence_edges(found, {one.id: row for row, one in enumerate(found)}))


def test_each_passage_leads_to_the_next_one_of_its_document():
    assert sequence("1", "2", None, "4", None) == [(0, 1, 1.0), (1, 2, 1.0), (3, 4, 1.0)]


def test_a_next_passage_that_is_missing_gets_no_edge():
    assert sequence("1", "gone", "3", None) == [(0, 1, 1.0), (2, 3, 1.0)]
    assert sequence(None) == sequence() == []


def family(count, **changes):
    return [passage(str(row), start=row, **changes) for row in range(count)]


@pytest.mark.parametrize("count", [0, 1])
def test_a_parent_of_one_passage_gives_no_edge(count):
    assert listed(parent_edges(family(count))) == []


def test_a_parent_joins_its_passages_both_ways():
    assert listed(parent_edges(family(2))) == [(0, 1, 1.0), (1, 0, 1.0)]
    assert listed(parent_edges(family(3))) == [(i, j, 0.5) for i, j in permutations(range(3), 2)]


def test_a_long_parent_joins_each_to_the_16_before_and_after_it():
    order = np.random.default_rng(0).permutation(100)
    found = [passage(str(row), start=int(at)) for row, at in enumerate(order)]
    expected = [
        (i, j, 1 / 99) for i, j in permutations(range(100), 2) if abs(order[i] - order[j]) <= 16
    ]
    assert listed(parent_edges(found)) == expected


def test_sections_of_a_document_and_namesakes_in_another_are_apart():
    found = [
        passage("0", "a", parent="s"),
        passage("1", "a", parent="t"),
        passage("2", "b", parent="s"),
        passage("3", "a", parent="s"),
        passage("4", "a"),
        passage("5", "b"),
        passage("6", "a"),
    ]
    assert pairs(parent_edges(found)) == [(0, 3), (3, 0), (4, 6), (6, 4)]


def test_a_mention_weighs_one_over_the_other_bearers():
    names = Names({"ada": [1], "engine": [1, 2], "mill": [0, 1, 3]})
    mentions = [["ada", "engine"], ["engine"], ["mill"], []]
    assert listed(mention_edges(mentions, names, 32)) == [
        (0, 1, 0.5),
        (0, 1, 1.0),
        (0, 2, 0.5),
        (1, 2, 1.0),
        (2, 0, 1 / 3),
        (2, 1, 1 / 3),
        (2, 3, 1 / 3),
    ]


def test_a_passage_that_mentions_its_own_name_leads_nowhere():
    assert listed(mention_edges([["ada"]], Names({"ada": [0]}), 32)) == []


@pytest.mark.parametrize(("most", "edges"), [(2, 0), (3, 3), (4, 3)])
def test_a_name_of_too_many_passages_gives_no_edge(most, edges):
    assert len(mention_edges([["ada"]], Names({"ada": [1, 2, 3]}), most)) == edges


def test_a_question_names_rows_with_their_share():
    names = Names({"ada": [0], "engine": [0, 2], "mill": [1, 2, 3, 4], "ada lovelace": [5]})
    assert named_rows("Did Ada own the Engine?", names) == {0: 1.0, 2: 0.5}
    assert named_rows("The Engine has a Mill", names) == {0: 0.5, 2: 0.5, 1: 0.25, 3: 0.25, 4: 0.25}
    assert named_rows("Ada Lovelace", names) == {5: 1.0}
    assert named_rows("no names here", names) == {}


def test_only_rows_that_exist_bear_a_name():
    names = Names({"ada": [0], "mill": [1, 2, 3, 4]})
    allowed = np.array([False, True, True, False, False])
    assert named_rows("Ada and the Mill", names, allowed) == {1: 0.5, 2: 0.5}
    assert named_rows("Ada and the Mill", names, np.zeros(5, bool)) == {}


def shared_by_definition(holders, nodes, most):
    """Add up, pair by pair, over every key that both hold."""
    found = []
    for i, j in permutations(range(nodes), 2):
        counts = [len(rows) for rows in holders.values() if i in rows and j in rows]
        terms = [math.log(nodes / m) / math.log(nodes) / (m - 1) for m in counts if m <= most]
        if sum(terms) > 0:
            found.append((i, j, min(1.0, sum(terms))))
    return found


def test_two_of_four_passages_that_share_a_key_are_joined_by_half():
    assert listed(shared_edges({"ada": [1, 3]}, 4, 30)) == [(1, 3, 0.5), (3, 1, 0.5)]
    assert listed(shared_edges({"a": [1, 3], "b": [1, 3], "c": [1, 3]}, 4, 30)) == [
        (1, 3, 1.0),
        (3, 1, 1.0),
    ]


@given(
    nodes=st.integers(1, 9),
    most=st.integers(2, 6),
    holders=st.dictionaries(
        st.integers(0, 9), st.sets(st.integers(0, 8), min_size=1).map(sorted), max_size=8
    ),
)
def test_shared_keys_match_the_formula(nodes, most, holders):
    held = {key: [row for row in rows if row < nodes] for key, rows in holders.items()}
    found = listed(shared_edges(held, nodes, most))
    expected = shared_by_definition(held, nodes, most)
    assert [edge[:2] for edge in found] == [edge[:2] for edge in expected]
    assert [edge[2] for edge in found] == pytest.approx([edge[2] for edge in expected], rel=1e-12)


def test_keys_of_one_of_all_and_of_too_many_passages_give_no_edge():
    assert listed(shared_edges({"a": [0], "b": [0, 1, 2]}, 3, 30)) == []
    assert listed(shared_edges({"a": [0]}, 1, 30)) == listed(shared_edges({}, 0, 30)) == []
    assert listed(shared_edges({"a": [0, 1, 2]}, 9, 2)) == []
    assert len(shared_edges({"a": [0, 1, 2]}, 9, 3)) == 6


def test_metadata_values_are_held_by_field():
    found = [
        passage("0", metadata={"topic": "x", "year": 1}),
        passage("1", metadata={"topic": "y", "year": 1}),
        passage("2", metadata={"topic": "x", "other": "x"}),
        passage("3"),
    ]
    assert metadata_holders(found, ["topic", "year", "absent"]) == {
        ("topic", "x"): [0, 2],
        ("topic", "y"): [1],
        ("year", 1): [0, 1],
    }
    assert metadata_holders(found, []) == {}


def test_a_field_named_twice_counts_once():
    found = [passage("0", metadata={"topic": "x"})]
    assert metadata_holders(found, ["topic", "topic"]) == {("topic", "x"): [0]}


def test_true_and_one_are_two_values():
    found = [passage("0", metadata={"topic": True}), passage("1", metadata={"topic": 1})]
    assert len(metadata_holders(found, ["topic"])) == 2


DOCUMENTS = (
    "guide.md",
    "notes/a.md",
    "notes/deep/b.md",
    "notes/same.md",
    "same.rst",
    "Über uns.md",
)


def linked(text, document="notes/index.md", documents=DOCUMENTS):
    """Return the documents that a text in `document` leads to."""
    found = [passage("0", document, text), *(passage(one, one) for one in documents)]
    return [documents[target - 1] for source, target in pairs(reference_edges(found)) if not source]


@pytest.mark.parametrize(
    ("text", "documents"),
    [
        ("see [a](a.md)", ["notes/a.md"]),
        ("see [a](./a.md) and [a](a)", ["notes/a.md"] * 2),
        ("see [a](<a.md>)", ["notes/a.md"]),
        ('see [a]( a.md "the title")', ["notes/a.md"]),
        ("see [a](a.html)", ["notes/a.md"]),
        ("see [a](a/)", ["notes/a.md"]),
        ("see [a](a.md#part) and [a](a.md?x=1)", ["notes/a.md"] * 2),
        ("see ![a](deep/b.md)", ["notes/deep/b.md"]),
        ("see [g](../guide.md)", ["guide.md"]),
        ("see [g](deep/../../guide.md)", ["guide.md"]),
        ("see [u](../%C3%9Cber%20uns.md)", ["Über uns.md"]),
        ('<a href="a.md">a</a>', ["notes/a.md"]),
        ("<A class=x HREF = 'deep/b.md#x'>", ["notes/deep/b.md"]),
        ("see [[a]]", ["notes/a.md"]),
        ("see [[A.md]] and [[b|the b]] and [[b#part|b]]", ["notes/a.md", *["notes/deep/b.md"] * 2]),
        ("see [[ notes/a ]]", ["notes/a.md"]),
        ("see [[über uns]]", ["Über uns.md"]),
        ("see [[#part]], [x](#part), [x](?x), [x]()", []),
        ("see [g](guide.md) and [g](/guide.md)", []),
        ("see [x](https://a.md) [x](//a.md) [x](mailto:a.md) [x](HTTP:a.md)", []),
        ("see [x](nothing.md), [[nothing]] and a.md", []),
        ("see [x](.) [x](..) [x](./) [x](../..) [x](/)", []),
        ("see [i](index.md) [[index]]", []),
        ("", []),
    ],
)  # fmt: skip
def test_links_lead_to_documents(text, documents):
    assert linked(text) == documents


@pytest.mark.parametrize(
    ("text", "document"),
    [
        ("[[Node.js]]", "Node.js.md"),
        ("[k](Kiss_(band).md)", "Kiss_(band).md"),
        ("[m](<my file.md>)", "my file.md"),
    ],
)
def test_unusual_names_are_linked_to(text, document):
    assert linked(text, "index.md", (document,)) == [document]


@pytest.mark.parametrize("target", ["/.", "/..", "/docs/.."])
def test_a_link_to_the_root_leads_nowhere(target):
    assert linked(f"[x]({target})") == []


def test_an_absolute_address_is_no_path():
    for target in ("mailto:a.md", "HTTP:a.md", "x-y.z+1:a.md"):
        assert linked(f"[x]({target})", "index.md", (target,)) == []
        assert linked(f"[x](./{target})", "index.md", (target,)) == [target]


def test_file_names_that_several_documents_share_mean_none_of_them():
    several = ("a.md", "a.rst", "x/a.txt", "b.md", "y/b.md", "z/b.md", "c", "c.md")
    assert linked("[a](a) [[a]] [[b]] [a](a.html)", "index.md", several) == []
    assert linked("[a](a.rst) [b](b)", "index.md", several) == ["a.rst", "b.md"]
    assert linked("[c](c) [c](c.md)", "index.md", several) == ["c", "c.md"]


def test_a_link_leads_to_the_first_passage_of_the_document():
    found = [
        passage("0", "a.md", "[b](b.md)"),
        passage("1", "b.md", "later", start=9),
        passage("2", "b.md", "first"),
        passage("3", "b.md", "first"),
        passage("4", "a.md", "[b](b.md) and [a](a.md)"),
    ]
    assert listed(reference_edges(found)) == [(0, 2, 1.0), (4, 2, 1.0)]
    assert listed(reference_edges([])) == []


def written(tmp_path, text):
    path = tmp_path / "facts.jsonl"
    path.write_text(text, encoding="utf-8")
    return path


def test_triples_are_read_from_json_lines_and_tab_lines(tmp_path):
    lines = [
        '{"subject": "Ada", "object": "Engine"}',
        "",
        'Ada\twrote about\tthe "Engine"',
        ' {"weight": 0.5, "subject": "Ada", "relation": "met", "object": "Über"}',
        "   ",
        " Ada \t\t Engine ",
        '{"subject": "Ada", "object": "Engine", "weight": 1}',
    ]
    expected = [
        Triple("Ada", "Engine"),
        Triple("Ada", 'the "Engine"', "wrote about"),
        Triple("Ada", "Über", "met", 0.5),
        Triple("Ada", "Engine", ""),
        Triple("Ada", "Engine", "", 1.0),
    ]
    assert read_triples(written(tmp_path, "\n".join(lines))) == expected
    assert read_triples(written(tmp_path, "\r\n".join(lines) + "\r\n")) == expected
    assert read_triples(written(tmp_path, "\n\n")) == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Ada", "a triple must be a JSON object, or subject, relation and object with tabs between, got 'Ada'"),
        ("Ada\tmet", r"between, got 'Ada\tmet'"),
        ("a\tb\tc\td", r"between, got 'a\tb\tc\td'"),
        ("\tmet\tAda", r"between, got '\tmet\tAda'"),
        ("Ada\tmet\t ", r"between, got 'Ada\tmet\t '"),
        ('["Ada", "met", "Engine"]', "a triple must be a JSON object, or"),
        ("{", "Expecting property name"),
        ('{"subject": "a", "object": "b"} x', "Extra data"),
        ('{"subject": "a", "object": "b", "when": 1, "by": 2}', "a triple has object, relation, subject, weight, got by, when"),
        ('{"object": "b"}', "subject must be a text, got ''"),
        ('{"subject": "a"}', "object must be a text, got ''"),
        ('{"subject": " ", "object": "b"}', "subject must be a text, got ' '"),
        ('{"subject": 7, "object": "b"}', "subject must be a text, got 7"),
        ('{"subject": "a", "object": null}', "object must be a text, got None"),
        ('{"subject": "a", "object": "b", "relation": 1}', "relation must be a text, got 1"),
        ('{"subject": "a", "object": "b", "weight": 0}', "weight must be above 0 and at most 1, got 0"),
        ('{"subject": "a", "object": "b", "weight": 1.5}', "weight must be above 0 and at most 1, got 1.5"),
        ('{"subject": "a", "object": "b", "weight": NaN}', "weight must be above 0 and at most 1, got nan"),
        ('{"subject": "a", "object": "b", "weight": true}', "weight must be above 0 and at most 1, got True"),
        ('{"subject": "a", "object": "b", "weight": "1"}', "weight must be above 0 and at most 1, got '1'"),
    ],
)  # fmt: skip
def test_a_line_that_is_no_triple_is_named(tmp_path, line, message):
    path = written(tmp_path, f"a\tb\tc\n\n{line}\na\tb\tc\n")
    with pytest.raises(CorpusError) as raised:
        read_triples(path)
    assert str(raised.value).startswith(f"{path}:3: ")
    assert message in str(raised.value)


def test_a_file_of_triples_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(CorpusError, match=r"triples in .*absent.* cannot be read: .*No such file"):
        read_triples(tmp_path / "absent")
    (tmp_path / "latin").write_bytes("Müller\tmet\tAda".encode("latin-1"))
    with pytest.raises(CorpusError, match=r"latin cannot be read: 'utf-8' codec"):
        read_triples(tmp_path / "latin")


@pytest.mark.parametrize("sign", ["\u2028", "\x85"])
def test_a_line_ends_with_a_line_feed_alone(tmp_path, sign):
    line = {"subject": f"a{sign}b", "object": "c"}
    path = written(tmp_path, json.dumps(line, ensure_ascii=False))
    assert read_triples(path) == [Triple(f"a{sign}b", "c")]


@pytest.mark.parametrize("line", ["a\tb\tc", '{"subject": "a", "relation": "b", "object": "c"}'])
def test_a_byte_order_mark_is_passed_over(tmp_path, line):
    assert read_triples(written(tmp_path, f"\ufeff{line}")) == [Triple("a", "c", "b")]


PLACED = [
    passage("a0", "a.md"),
    passage("a1", "a.md"),
    passage("b0", "b.md"),
    passage("c0", "c.md"),
]
NAMED = Names({"ada": [2], "engine": [0, 2, 3]})


def stated(*triples):
    edges, unknown = triple_edges(triples, PLACED, NAMED)
    return listed(edges), unknown


@pytest.mark.parametrize(
    ("ends", "edges"),
    [
        (("a0", "b0"), [(0, 2, 1.0)]),
        (("b0", "a0"), [(2, 0, 1.0)]),
        (("a.md", "c0"), [(0, 3, 0.5), (1, 3, 0.5)]),
        (("c0", "a.md"), [(3, 0, 0.5), (3, 1, 0.5)]),
        (("Ada's", "c.md"), [(2, 3, 1.0)]),
        (("ADA", "a1"), [(2, 1, 1.0)]),
        (("a.md", "Engine"), [(i, j, 1 / 6) for i in (0, 1) for j in (0, 2, 3) if i != j]),
        (("a.md", "a.md"), [(0, 1, 0.25), (1, 0, 0.25)]),
        (("b0", "Ada"), []),
    ],
)
def test_ends_are_passages_documents_or_names(ends, edges):
    assert stated(Triple(*ends)) == (edges, [])
    half = [(source, target, weight / 2) for source, target, weight in edges]
    assert stated(Triple(*ends, weight=0.5)) == (half, [])


def test_an_id_is_a_passage_before_it_is_a_document_or_a_name():
    found = [passage("x", "ada"), passage("y", "ada"), passage("ada", "z")]
    edges, _ = triple_edges([Triple("ada", "x")], found, Names({"ada": [0, 1]}))
    assert listed(edges) == [(2, 0, 1.0)]


def test_unknown_ends_are_reported_once_with_a_near_one():
    triples = [
        Triple("b0", "nobody"),
        Triple("nobody", "a.mt"),
        Triple("a0", "b0"),
        Triple("?", "?"),
    ]
    edges, unknown = stated(*triples)
    assert edges == [(0, 2, 1.0)]
    assert unknown == [
        "no passage, document or name '?'",
        "no passage, document or name 'a.mt'; did you mean 'a.md'?",
        "no passage, document or name 'nobody'",
    ]
    assert stated() == ([], [])


def nearest_by_definition(vectors, k, floor):
    """Compare every pair in float64."""
    found = []
    norms = [math.sqrt(math.fsum(x * x for x in one)) for one in vectors.tolist()]
    for i, one in enumerate(vectors.tolist()):
        row = []
        for j, other in enumerate(vectors.tolist()):
            if i != j and norms[i] and norms[j]:
                cosine = math.fsum(x * y for x, y in zip(one, other, strict=True))
                row.append((round(-cosine / norms[i] / norms[j], 6), j))
        found += [(i, j, -cosine) for cosine, j in sorted(row)[:k] if -cosine >= floor]
    return sorted(found)


def agree(found, expected):
    assert [edge[:2] for edge in found] == [edge[:2] for edge in expected]
    assert [edge[2] for edge in found] == pytest.approx([edge[2] for edge in expected], abs=2e-6)


def test_nearest_neighbours_by_hand():
    vectors = np.array([[2.0, 0], [3, 0], [0, 5], [4, 3], [-1, 0], [0, 0]])
    agree(
        listed(nearest_edges(vectors, 2, 0.5)),
        [(0, 1, 1.0), (0, 3, 0.8), (1, 0, 1.0), (1, 3, 0.8), (2, 3, 0.6), (3, 0, 0.8), (3, 1, 0.8)],
    )
    agree(listed(nearest_edges(vectors, 1, 0.9)), [(0, 1, 1.0), (1, 0, 1.0)])


# Vectors of exact length 1, 2 or 4, so that their cosines are exact and many of them tie.
EXACT = [*np.eye(4).tolist(), *product([-1.0, 1.0], repeat=4), [4.0, 0, 0, 0], [0.0, 0, 0, 0]]


@given(
    vectors=st.lists(st.sampled_from(EXACT), max_size=9),
    k=st.integers(1, 10),
    floor=st.sampled_from([0.1, 0.5, 0.75, 1.0]),
)
def test_nearest_neighbours_match_brute_force(vectors, k, floor):
    table = np.array(vectors, float).reshape(-1, 4)
    assert listed(nearest_edges(table, k, floor)) == nearest_by_definition(table, k, floor)


@given(n=st.integers(0, 40), k=st.integers(1, 45), seed=st.integers(0, 99))
def test_nearest_neighbours_of_many_vectors_match_brute_force(n, k, seed):
    vectors = np.random.default_rng(seed).normal(size=(n, 6)).astype(np.float32)
    agree(listed(nearest_edges(vectors, k, 0.2)), nearest_by_definition(vectors, k, 0.2))


@given(seed=st.integers(0, 99))
def test_weights_are_in_single_precision_and_at_most_1(seed):
    vectors = np.random.default_rng(seed).normal(size=(6, 5))
    weights = nearest_edges(np.tile(vectors, (2, 1)), 3, 0.1).weights
    assert weights.max() <= 1
    assert (weights == weights.astype(np.float32)).all()


def test_blocks_change_nothing(monkeypatch):
    vectors = np.random.default_rng(0).normal(size=(30, 4))
    whole = listed(nearest_edges(vectors, 4, 0.1))
    for size in (1, 61, 100):
        monkeypatch.setattr("retrievers.graph.edges.knn._BLOCK", size)
        assert listed(nearest_edges(vectors, 4, 0.1)) == whole


def test_equal_vectors_lead_to_the_lower_rows():
    edges = nearest_edges(np.tile([0.3, 0.4], (7, 1)), 2, 0.5)
    assert pairs(edges) == sorted(
        (i, j) for i in range(7) for j in [row for row in range(7) if row != i][:2]
    )


def test_of_many_equal_vectors_the_lower_rows_are_nearest():
    vectors = np.repeat([[1.0, 0.0], [0.0, 1.0]], [15, 11], axis=0)
    assert pairs(nearest_edges(vectors, 1, 0.3))[15:] == [
        (15, 16),
        *((i, 15) for i in range(16, 26)),
    ]


def test_of_many_near_copies_the_nearest_is_found():
    angles = np.array([0.0, *np.linspace(0.0029, 0.0005, 25)])
    edges = nearest_edges(np.stack([np.cos(angles), np.sin(angles)], axis=1), 1, 0.3)
    assert pairs(edges)[0] == (0, 25)


def test_copies_reach_a_floor_of_one():
    assert len(nearest_edges(np.tile([1.0, 2, 4], (2, 1)) / 3, 1, 1.0)) == 2


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_vectors_have_no_neighbours(n):
    assert len(nearest_edges(np.ones((n, 3)), 5, 0.3)) == 0


def test_zero_vectors_have_no_neighbours():
    assert len(nearest_edges(np.zeros((4, 3)), 5, 0.3)) == 0
    assert pairs(nearest_edges(np.array([[0.0, 0], [1, 0], [1, 1]]), 5, 0.3)) == [(1, 2), (2, 1)]


@given(seed=st.integers(0, 99), k=st.integers(1, 6))
def test_parts_of_the_rows_give_parts_of_the_edges(seed, k):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(20, 3))
    rows, among = (np.flatnonzero(rng.random(20) < 0.5) for _ in range(2))
    whole = nearest_edges(vectors, 20, 0.1)
    kept = [(i, j, w) for i, j, w in listed(whole) if i in rows and j in among]
    expected = listed(kept_nearest(EdgeList.of(kept), k))
    assert listed(nearest_edges(vectors, k, 0.1, rows, among)) == expected
    assert len(nearest_edges(vectors, k, 0.1, rows, rows[:0])) == 0


def test_the_heaviest_edges_of_each_row_are_kept():
    edges = EdgeList.of([(1, 4, 0.5), (0, 2, 0.1), (1, 0, 0.5), (1, 3, 0.9), (1, 2, 0.5)])
    assert listed(kept_nearest(edges, 2)) == [(0, 2, 0.1), (1, 0, 0.5), (1, 3, 0.9)]
    assert listed(kept_nearest(EdgeList.of(()), 2)) == []


def test_vectors_in_half_precision_are_compared_as_they_are():
    vectors = np.random.default_rng(1).normal(size=(12, 5)).astype(np.float16)
    agree(listed(nearest_edges(vectors, 3, 0.1)), nearest_by_definition(vectors, 3, 0.1))
