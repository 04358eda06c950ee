"""Building: a corpus by hand, building on an older graph against a fresh build, save and open."""

import json
import re
import shutil
from dataclasses import replace
from itertools import pairwise
from mmap import mmap
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.errors import IndexFolderError
from rag.records import Passage, Span
from retrievers.graph import build
from retrievers.graph.build import build_graph
from retrievers.graph.edges.triple import Triple
from retrievers.graph.graph_folder import ABOUT, open_graph, save_graph
from retrievers.graph.names import Names
from retrievers.graph.settings import KINDS, GraphSettings

SETTINGS = GraphSettings(neighbours=2, name_passages=3, phrase_passages=4, fields=("topic",))
TRIPLES = (Triple("p0", "p1"), Triple("Ada", "b.md", weight=0.5), Triple("gone", "p2"))


def corpus(texts, metadata=None):
    """Return passages of three documents: {n: (title, text)}, n deciding document and order."""
    found, last = {}, {}
    for n in sorted(texts):
        title, text = texts[n]
        facts = {"topic": n % 2} if metadata is None else metadata.get(n, {})
        one = Passage(f"p{n}", f"{'abc'[n % 3]}.md", text, Span(n, n + len(text)), (), title=title)
        found[n] = replace(one, metadata=facts)
        if n % 3 in last:
            before = last[n % 3]
            found[before] = replace(found[before], next=f"p{n}")
        last[n % 3] = n
    return list(found.values())


def vectors(passages):
    """Return vectors that depend on title and text alone; many tie."""
    rows = [crc32(one.searchable.encode("utf-8", "surrogatepass")) for one in passages]
    return np.array([[row >> shift & 3 for shift in (0, 2, 4)] for row in rows], float).reshape(
        -1, 3
    )


def made(passages, chosen=SETTINGS, **changes):
    return build_graph(passages, vectors(passages), chosen, triples=TRIPLES, **changes)


def content(graph):
    """Return every bit of a graph."""
    facts = graph.facts
    arrays = {
        "digests": facts.digests,
        "initial": facts.initial,
        "named": facts.named.starts,
        "named values": facts.named.values,
        "mentions": facts.mentions.starts,
        "mentions values": facts.mentions.values,
        "phrased": facts.phrased.starts,
        "phrased values": facts.phrased.values,
    }
    for kind, matrix in graph.edges.items():
        arrays |= {
            f"{kind} {part}": getattr(matrix, part) for part in ("indptr", "indices", "data")
        }
    lists = [graph.ids.all(), facts.names.all(), facts.phrases.all(), list(graph.edges)]
    about = [graph.settings, graph.language, graph.unplaced]
    kept = {name: (a.dtype.str, a.shape, a.tobytes()) for name, a in arrays.items()}
    return kept | {"lists": lists, "about": about}


def edges(graph, kind):
    matrix, ids = graph.edges[kind].tocoo(), graph.ids.all()
    rows = zip(matrix.row.tolist(), matrix.col.tolist(), matrix.data.tolist(), strict=True)
    return sorted((ids[source], ids[target], weight) for source, target, weight in rows)


SMALL = corpus(
    {
        0: ("Ada", "We saw Rome and Charles. [see](b.md)"),
        1: ("Engine (mill)", "so Ada built it near Rome"),
        2: ("", "the Engine of Charles"),
        3: ("Ada > Life", "nothing"),
        4: ("", "nothing"),
    }
)


def test_a_small_corpus_by_hand():
    graph = build_graph(
        SMALL,
        np.array([[1, 0], [4, 3], [0, 1], [0, 0], [0, 2]]),
        SETTINGS,
        triples=[*TRIPLES, Triple("p0", "p1", weight=0.5)],
    )
    shared = float(np.float32(np.log(5 / 2) / np.log(5)))
    assert edges(graph, "mention") == [("p1", "p0", 0.5), ("p1", "p3", 0.5), ("p2", "p1", 1.0)]
    assert edges(graph, "reference") == [("p0", "p1", 1.0)]
    assert edges(graph, "triple") == [
        ("p0", "p1", 1.0),
        ("p0", "p4", 0.125),
        ("p3", "p1", 0.125),
        ("p3", "p4", 0.125),
    ]
    assert edges(graph, "seq") == [("p0", "p3", 1.0), ("p1", "p4", 1.0)]
    assert edges(graph, "parent") == [
        ("p0", "p3", 1.0),
        ("p1", "p4", 1.0),
        ("p3", "p0", 1.0),
        ("p4", "p1", 1.0),
    ]
    assert edges(graph, "knn") == [
        ("p0", "p1", float(np.float32(0.8))),
        ("p1", "p0", float(np.float32(0.8))),
        ("p1", "p2", float(np.float32(0.6))),
        ("p2", "p1", float(np.float32(0.6))),
        ("p2", "p4", 1.0),
        ("p4", "p1", float(np.float32(0.6))),
        ("p4", "p2", 1.0),
    ]
    assert ("p1", "p3", shared) in edges(graph, "metadata")
    assert {edge[:2] for edge in edges(graph, "metadata")} == {
        (f"p{i}", f"p{j}") for i in range(5) for j in range(5) if i != j and i % 2 == j % 2
    }
    assert graph.unplaced == ("no passage, document or name 'gone'",)
    assert graph.names.rows("ada").tolist() == [0, 3]


def test_phrases_join_passages_and_titles_count_as_phrases():
    found = corpus(
        {
            0: ("Ada", "we saw Charles"),
            1: ("Engine", "he saw Charles with Ada"),
            2: ("", "Charles slept"),
            3: ("", "Sleep is good"),
            4: ("", "Sleep is bad"),
        }
    )
    graph = build_graph(found, np.zeros((5, 2)))
    joined = {edge[:2] for edge in edges(graph, "phrase")}
    assert joined == {(f"p{i}", f"p{j}") for i in range(3) for j in range(3) if i != j}
    both = np.log(5 / 3) / np.log(5) / 2 + np.log(5 / 2) / np.log(5)
    assert edges(graph, "phrase")[0] == ("p0", "p1", pytest.approx(both, rel=1e-6))


WORDS = st.sampled_from(
    ["Ada", "ada", "Lovelace", "Engine", "engine", "The", "of", "Rome.", "is", "Kiss", "[x](b.md)"]
)
TITLES = st.sampled_from(
    ["", "Ada", "Ada Lovelace", "Engine (mill)", "Kiss > Engine", "Lovelace Engine", "Rome"]
)
TEXTS = st.tuples(TITLES, st.lists(WORDS, max_size=6).map(" ".join))
EDITS = st.lists(st.dictionaries(st.integers(0, 9), st.none() | TEXTS, max_size=5), max_size=4)


def changed(texts, edit):
    kept = texts | edit
    return {n: one for n, one in kept.items() if one is not None}


@settings(max_examples=120)
@given(start=st.dictionaries(st.integers(0, 9), TEXTS, max_size=10), edits=EDITS)
def test_building_on_an_older_graph_changes_no_bit(start, edits):
    texts, graph = start, made(corpus(start))
    for edit in edits:
        texts = changed(texts, edit)
        graph = made(corpus(texts), before=graph)
        assert content(graph) == content(made(corpus(texts)))


@settings(max_examples=30)
@given(
    n=st.integers(0, 40),
    fates=st.lists(st.sampled_from(["kept", "added", "deleted", "replaced"]), min_size=40),
    k=st.integers(0, 5),
)
def test_neighbours_found_from_an_older_graph_are_those_of_all(n, fates, k):
    rng = np.random.default_rng(n)
    chosen = GraphSettings(neighbours=k, floor=0.1)
    table = rng.normal(size=(2, 40, 3)).astype(np.float32)
    old = [row for row in range(n) if fates[row] != "added"]
    new = [row for row in range(n) if fates[row] != "deleted"]
    first = corpus({row: ("", f"text {row}") for row in old})
    second = corpus({row: ("", f"text {row}{' new' * (fates[row] == 'replaced')}") for row in new})
    then = np.array([table[int(fates[row] == "replaced"), row] for row in new]).reshape(-1, 3)
    before = build_graph(first, table[0, old], chosen)
    whole = build_graph(second, then, chosen)
    assert content(build_graph(second, then, chosen, before=before)) == content(whole)


OTHERS = [
    GraphSettings(neighbours=3, name_passages=3, phrase_passages=4, fields=("topic",)),
    replace(SETTINGS, floor=0.9),
    replace(SETTINGS, neighbours=0),
    replace(SETTINGS, name_passages=1, phrase_passages=2, fields=()),
]


@pytest.mark.parametrize("other", OTHERS)
def test_an_older_graph_of_other_settings_serves_too(other):
    before = made(SMALL, other)
    assert content(made(SMALL, before=before)) == content(made(SMALL))
    assert content(made(SMALL, other, before=made(SMALL))) == content(before)


def test_an_older_graph_of_another_language_is_read_anew():
    found = corpus({0: ("Das", "Das Haus is in The Hague"), 1: ("Haus", "The Das")})
    for language in ("de", "en"):
        fresh = made(found, language=language)
        for other in ("en", "de"):
            again = made(found, language=language, before=made(found, language=other))
            assert content(again) == content(fresh)
            assert again.language == language


def test_new_metadata_is_read():
    texts = {0: ("Ada", "the Countess"), 1: ("", "a Countess"), 2: ("", "none")}
    before = made(corpus(texts))
    for facts in ({"aliases": "Countess"}, {"aliases": "Countess", "topic": 1}, {"topic": 1}):
        found = corpus(texts, {0: facts, 2: {"topic": 1}})
        graph = made(found, before=before)
        assert content(graph) == content(made(found))
        assert ("countess" in graph.names) == ("aliases" in facts)
        assert bool(edges(graph, "metadata")) == ("topic" in facts)
        before = graph


def test_a_new_name_with_a_sign_of_several_words_is_found_in_an_old_text():
    texts = {0: ("", "he met \ufdfa once"), 1: ("X \ufdfa", ""), 2: ("", "he met X \ufdfa once")}
    before = made(corpus({0: texts[0], 2: texts[2]}))
    assert content(made(corpus(texts), before=before)) == content(made(corpus(texts)))


NEAR = np.array([0.0, *np.linspace(0.0029, 0.0005, 25)])
COPIES = np.repeat([[1.0, 0.0], [0.0, 1.0]], [15, 11], axis=0)
NEAR_COPIES = np.stack([np.cos(NEAR), np.sin(NEAR)], axis=1)


@pytest.mark.parametrize("table", [COPIES, NEAR_COPIES])
def test_building_on_an_older_graph_changes_no_bit_among_many_copies(table):
    chosen = GraphSettings(neighbours=1)
    found = corpus({n: ("", f"text {n}") for n in range(26)})
    found = [replace(one, id=f"p{n:02}") for n, one in enumerate(found)]
    before = build_graph(found[:17], table[:17], chosen)
    again = build_graph(found, table, chosen, before=before)
    assert edges(again, "knn") == edges(build_graph(found, table, chosen), "knn")


@given(order=st.permutations(range(5)))
def test_the_order_of_the_passages_does_not_matter(order):
    assert content(made([SMALL[row] for row in order])) == content(made(SMALL))


def test_ids_are_sorted_as_texts():
    found = [replace(SMALL[row], id=one) for row, one in enumerate(["p10", "p9", "P1", "é", "z"])]
    assert made(found).ids.all() == ["P1", "p10", "p9", "z", "é"]


@given(texts=st.dictionaries(st.integers(0, 9), TEXTS, max_size=8))
def test_edges_are_sorted_unique_and_in_bounds(texts):
    graph = made(corpus(texts))
    assert set(graph.edges) == set(KINDS)
    for matrix in graph.edges.values():
        assert matrix.shape == (len(texts), len(texts))
        assert matrix.dtype == np.float32
        assert ((matrix.data > 0) & (matrix.data <= 1)).all()
        assert not matrix.diagonal().any()
        for start, end in pairwise(matrix.indptr.tolist()):
            assert (np.diff(matrix.indices[start:end]) > 0).all()


def test_an_empty_corpus_has_a_graph():
    graph = build_graph([], np.zeros((0, 3)))
    assert (len(graph), graph.counts, graph.unplaced) == (0, dict.fromkeys(KINDS, 0), ())
    assert content(made([], before=made(SMALL))) == content(made([]))
    assert content(made(SMALL, before=graph)) == content(made(SMALL))


def test_lone_surrogates_and_odd_signs_are_kept(tmp_path):
    found = corpus({0: ("\ud800 Ada", "Ada \udfff Kiss"), 1: ("", "\x00 Ada Ⅻ ½ ﬀ")})
    graph = made(found)
    save_graph(graph, tmp_path / "graph")
    assert content(open_graph(tmp_path / "graph")) == content(graph)


def test_progress_counts_passages():
    seen = []
    made(SMALL, progress=seen.append)
    assert seen == [1, 2, 3, 4, 5]


def test_duplicate_ids_are_refused():
    twice = [*SMALL, replace(SMALL[0], text="other")]
    with pytest.raises(ValueError, match="ids must be unique, got 'p0' twice"):
        made(twice)


@pytest.mark.parametrize("count", [0, 4, 6])
def test_vectors_must_be_one_a_passage(count):
    message = f"vectors must be one a passage, 5, got {count}"
    with pytest.raises(ValueError, match=message):
        build_graph(SMALL, np.zeros((count, 3)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"neighbours": -1}, "neighbours must be at least 0, got -1"),
        ({"name_passages": 0}, "name_passages must be at least 1, got 0"),
        ({"phrase_passages": 1}, "phrase_passages must be at least 2, got 1"),
        ({"floor": 0.0}, "floor must be in (0, 1], got 0.0"),
        ({"floor": 1.1}, "floor must be in (0, 1], got 1.1"),
        ({"floor": float("nan")}, "floor must be in (0, 1], got nan"),
    ],
)
def test_settings_out_of_bounds_are_refused(change, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        GraphSettings(**change)


@pytest.fixture
def read(monkeypatch):
    """What is read while a graph is made: texts by what is looked for in them."""
    seen = {"names": [], "phrases": [], "mentions": [], "words": [], "rows": []}

    def counted(name, function, text):
        def call(*args):
            seen[name].append(text(args))
            return function(*args)

        return call

    monkeypatch.setattr(build, "names_of", counted("names", build.names_of, lambda a: a[0].text))
    monkeypatch.setattr(build, "phrases", counted("phrases", build.phrases, lambda a: a[0]))
    monkeypatch.setattr(build, "words", counted("words", build.words, lambda a: a[0]))
    said = counted("mentions", Names.mentioned, lambda a: " ".join(a[1].raw))
    monkeypatch.setattr(Names, "mentioned", said)
    whole = build.nearest_edges
    asked = counted("rows", whole, lambda a: list(a[3]) if len(a) > 3 else "all")
    monkeypatch.setattr(build, "nearest_edges", asked)
    return seen


LONG = {n: ("", f"text {n} of Ada and Rome") for n in range(6)} | {6: ("Rome", "seven")}


def test_texts_of_an_older_graph_are_not_read_again(read):
    before = made(corpus(LONG))
    assert len(read["names"]) == len(read["phrases"]) == len(read["mentions"]) == 7
    for seen in read.values():
        seen.clear()
    made(corpus(LONG), before=before)
    assert {name: seen for name, seen in read.items() if name != "rows"} == {
        "names": [],
        "phrases": [],
        "mentions": [],
        "words": [],
    }
    assert [rows for rows in read["rows"] if rows] == []
    made(corpus(LONG | {7: ("", "a new text"), 2: ("", "another")}), before=before)
    for name in ("names", "phrases", "mentions"):
        assert sorted(read[name]) == ["a new text", "another"]


def test_a_name_that_appears_has_the_texts_read_that_may_mention_it(read):
    before = made(corpus(LONG | {5: ("", "nothing")}))
    read["mentions"].clear()
    made(corpus(LONG | {5: ("", "nothing"), 7: ("Ada", "first")}), before=before)
    assert sorted(read["mentions"]) == ["first", *(LONG[n][1] for n in range(5))]


def test_a_name_that_vanishes_has_the_texts_read_that_mention_it(read):
    before = made(corpus(LONG | {5: ("", "nothing")}))
    read["mentions"].clear()
    made(corpus(LONG | {5: ("", "nothing"), 6: ("", "seven")}), before=before)
    assert sorted(read["mentions"]) == ["seven", *(LONG[n][1] for n in range(5))]


def every_kind(count):
    """Return a graph with edges of every kind, as many of each as only this count gives."""
    found = corpus(
        {n: (f"Part{n}", f"x Part{n - 1} y Rome z Kiss{n // 2} [b](b.md)") for n in range(count)}
    )
    table = np.random.default_rng(count).normal(size=(count, 3))
    triples = [Triple(f"p{n}", f"p{n + 1}") for n in range(count - 1)] + [Triple("gone", "p0")]
    return build_graph(found, table, SETTINGS, triples=triples, language="en")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("graphs")
    for count in (6, 11):
        save_graph(every_kind(count), folder / str(count))
    return folder


def root(array):
    while getattr(array, "base", None) is not None:
        array = array.base
    return array


def test_a_graph_is_opened_with_the_same_bits_and_mapped(saved):
    graph = open_graph(saved / "6")
    assert all(graph.counts.values())
    assert content(graph) == content(every_kind(6))
    big = [graph.ids.blob, graph.ids.starts, graph.facts.digests, graph.facts.phrased.values]
    for matrix in graph.edges.values():
        big += [matrix.data, matrix.indices, matrix.indptr]
    for array in big:
        assert isinstance(root(array), mmap)
        assert not array.flags.writeable


def test_an_opened_graph_serves_as_the_older_one(saved):
    found = corpus({n: (f"Part{n}", f"Part{n + 1} in Rome") for n in range(5)})
    again = made(found, before=open_graph(saved / "6"))
    assert content(again) == content(made(found))


def test_an_empty_graph_is_saved_and_opened(tmp_path):
    save_graph(made([]), tmp_path / "graph")
    assert content(open_graph(tmp_path / "graph")) == content(made([]))


STRINGS = [
    f"{name}.{part}.npy" for name in ("ids", "names", "phrases") for part in ("blob", "starts")
]
LISTS = [
    f"{name}.{part}.npy"
    for name in ("named", "mentions", "phrased")
    for part in ("starts", "values")
]
EDGES = [f"{kind}.{part}.npy" for kind in KINDS for part in ("targets", "weights", "starts")]
FILES = [*STRINGS, *LISTS, *EDGES, "digests.npy", "initial.npy", ABOUT]


def test_a_folder_holds_these_files(saved):
    assert {path.name for path in (saved / "6").iterdir()} == set(FILES)


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "noise"])
def test_a_damaged_file_is_refused(saved, tmp_path, damage):
    for name in FILES:
        folder = tmp_path / name
        shutil.copytree(saved / "6", folder)
        path = folder / name
        whole = path.read_bytes()
        if damage == "missing":
            path.unlink()
        else:
            path.write_bytes({"empty": b"", "cut": whole[:-1], "noise": b"noise" * 30}[damage])
        with pytest.raises(IndexFolderError, match=r"holds no readable corpus graph: .*\("):
            open_graph(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_graph_is_refused(saved, tmp_path, name):
    folder = tmp_path / "graph"
    shutil.copytree(saved / "6", folder)
    shutil.copy(saved / "11" / name, folder / name)
    with pytest.raises(
        IndexFolderError, match=r"holds (no readable corpus graph|parts of several)"
    ):
        open_graph(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, r"format 2, this version reads 1; index again with --graph"),
        ({"format": "1"}, "format '1', this version reads 1"),
        ({"passages": 7}, "no readable"),
        ({"passages": -1}, "no readable"),
        ({"passages": "x"}, "no readable"),
        ({"passages": [6]}, "no readable"),
        ({"edges": None}, "no readable"),
        ({"edges": {"seq": 1}}, "parts of several corpus graphs; index again"),
        ({"settings": {}}, "no readable"),
        ({"settings": {"fields": [], "floor": 7.0}}, "no readable"),
        ({"settings": {"fields": [], "colour": 1}}, "no readable"),
        ({"settings": None}, "no readable"),
        ({"unplaced": None}, "no readable"),
    ],
)
def test_another_file_about_it_is_refused(saved, tmp_path, change, message):
    folder = tmp_path / "graph"
    shutil.copytree(saved / "6", folder)
    about = json.loads((folder / ABOUT).read_bytes())
    (folder / ABOUT).write_text(json.dumps(about | change))
    with pytest.raises(IndexFolderError, match=message):
        open_graph(folder)
    for field in set(about) & set(change):
        (folder / ABOUT).write_text(json.dumps({k: v for k, v in about.items() if k != field}))
        with pytest.raises(IndexFolderError, match="no readable corpus graph: KeyError"):
            open_graph(folder)


@pytest.mark.parametrize("text", ["[]", "null", "7", '"x"', "{", "\x00"])
def test_a_file_about_it_that_is_no_object_is_refused(saved, tmp_path, text):
    folder = tmp_path / "graph"
    shutil.copytree(saved / "6", folder)
    (folder / ABOUT).write_text(text)
    with pytest.raises(IndexFolderError, match="holds no readable corpus graph"):
        open_graph(folder)


def test_a_folder_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(
        IndexFolderError, match=r"absent holds no readable corpus graph: FileNotFound"
    ):
        open_graph(tmp_path / "absent")
