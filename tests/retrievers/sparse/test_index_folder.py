"""Index folders: linked, mapped, killed at any call or moment, damaged, shared with readers."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.errors import IndexFolderError
from rag.records import Query
from rag.text.analyser import Analyser
from retrievers.sparse import index_folder
from retrievers.sparse.index import SparseIndex
from retrievers.sparse.weighting import BM25, Impact

WORDS = ["red", "green", "blue", "cat", "dog", "sun"]
TEXTS = st.lists(st.lists(st.sampled_from(WORDS), max_size=8), max_size=12)
QUERIES = st.lists(st.sampled_from([*WORDS, "unseen"]), min_size=1, max_size=5)
EVERYTHING = dict.fromkeys(WORDS, 1.0)
OLD = {f"p{n}": [WORDS[n % 6], WORDS[n % 5]] for n in range(12)}
NEW = {**{id_: terms for id_, terms in OLD.items() if id_ != "p3"}, "p4": ["sun"], "q": ["cat"]}


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """What a file holds is seen without it; that it is called at all, the killed writers show."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)


def index_of(passages, weighting=None):
    index = SparseIndex(weighting)
    index.add_terms(list(passages), list(passages.values()))
    return index


def changed(index):
    """Make an index of OLD one of NEW, in two segments and with deletions."""
    index.delete(["p3"])
    index.add_terms(["p4", "q"], [NEW["p4"], NEW["q"]])
    assert index.statistics.segments == 2
    assert index.statistics.deleted == 2
    return index


def ranking(index):
    return index.search_terms(EVERYTHING, 99)


BEFORE, AFTER = ranking(index_of(OLD)), ranking(index_of(NEW))


def inodes(folder):
    return {path.name + path.parent.name: path.stat().st_ino for path in folder.rglob("*.npy")}


@settings(max_examples=20)
@given(texts=TEXTS, query=QUERIES)
def test_an_opened_index_is_the_saved_one(texts, query, tmp_path_factory):
    folder = tmp_path_factory.mktemp("index") / "new"
    weighting = BM25("okapi", k1=1.7, b=0.3)
    index = index_of({f"p{row}": text for row, text in enumerate(texts)}, weighting)
    index.save(folder)
    opened = SparseIndex.open(folder)
    assert (opened.ids, opened.weighting) == (index.ids, weighting)
    assert opened.statistics == index.statistics
    asked = Query(" ".join(query))
    assert (
        opened.scores_of(asked, index.ids).tobytes() == index.scores_of(asked, index.ids).tobytes()
    )
    assert opened.search(asked, 5) == index.search(asked, 5)
    assert [opened.term_counts(id_) for id_ in index.ids] == [
        index.term_counts(i) for i in index.ids
    ]


def test_an_opened_index_maps_its_postings_in_every_segment(tmp_path):
    changed(index_of(OLD)).save(tmp_path)
    opened = SparseIndex.open(tmp_path)
    parts = opened._postings.snapshot().parts
    assert len(parts) == 2
    for part in parts:
        segment = part.segment
        arrays = [segment.ids.blob, segment.terms.blob, segment.rows, segment.values]
        arrays += [segment.columns, segment.row_values, segment.starts, segment.row_starts]
        assert all(isinstance(array.base, np.memmap) for array in arrays)
        assert not any(array.flags.writeable for array in arrays)
    assert ranking(opened) == AFTER
    assert [list(part.dead) for part in parts].count([]) == 1


def test_impacts_are_saved_in_their_bits_and_need_no_analyser(tmp_path):
    index = SparseIndex(Impact())
    index.add_vectors(["a", "b"], [{"cat": 0.1, "dog": 3.0}, {}])
    index.save(tmp_path)
    opened = SparseIndex.open(tmp_path, analyser=Analyser("none"))
    assert opened.weighting == Impact()
    assert opened.term_counts("a") == {"cat": float(np.float32(0.1)), "dog": 3.0}
    with pytest.raises(ValueError, match=r"an index of impacts needs weighting=Impact\(\), got"):
        SparseIndex.open(tmp_path, weighting=BM25())


def test_another_weighting_and_a_private_analyser_open_the_same_passages(tmp_path):
    index = SparseIndex(analyser=Analyser("none"))
    index.add(["a", "b"], ["cats", "dog"])
    index.save(tmp_path)
    opened = SparseIndex.open(tmp_path, analyser=Analyser("none"), weighting=BM25("atire"))
    assert opened.search(Query("cats"), 9) == index.with_weighting(BM25("atire")).search(
        Query("cats"), 9
    )
    with pytest.raises(IndexFolderError, match="open it with the same, or index again"):
        SparseIndex.open(tmp_path)


def test_saving_writes_only_what_the_folder_lacks(tmp_path):
    index = index_of(OLD)
    index.save(tmp_path)
    first = inodes(tmp_path)
    changed(index).save(tmp_path)
    second = inodes(tmp_path)
    assert first.items() < second.items(), "the old segment stays as it is"
    index.save(tmp_path)
    SparseIndex.open(tmp_path).save(tmp_path)
    assert inodes(tmp_path) == second
    index.merge()
    index.save(tmp_path)
    assert not inodes(tmp_path).keys() & second.keys(), "what is not part of it any more is gone"
    assert ranking(SparseIndex.open(tmp_path)) == AFTER


def test_another_folder_links_segments_and_outlives_the_first(tmp_path):
    one, two, three = (tmp_path / name for name in ("one", "two", "deep/three"))
    index = changed(index_of(OLD))
    index.save(one)
    index.save(two)
    SparseIndex.open(two).save(three)
    segments = [{k: v for k, v in inodes(f).items() if "segment" in k} for f in (one, two, three)]
    assert segments[0] == segments[1] == segments[2] != {}
    shutil.rmtree(one)
    index.merge()
    index.save(two)
    assert ranking(SparseIndex.open(three)) == ranking(SparseIndex.open(two)) == AFTER
    shutil.rmtree(three)
    SparseIndex.open(two).save(three)
    assert ranking(SparseIndex.open(three)) == AFTER


@pytest.mark.parametrize("of", ["all", "some"])
def test_where_links_are_impossible_files_are_copied(tmp_path, monkeypatch, of):
    index = changed(index_of(OLD))
    index.save(tmp_path / "one")
    link = os.link

    def refuse(source, target, **options):
        if of == "all" or Path(source).name > "r":
            raise OSError(18, "Invalid cross-device link")
        link(source, target, **options)

    monkeypatch.setattr(os, "link", refuse)
    index.save(tmp_path / "two")
    one, two = (
        {p.relative_to(tmp_path / f): p for p in (tmp_path / f).rglob("*.npy")}
        for f in ("one", "two")
    )
    assert one.keys() == two.keys()
    for name, path in two.items():
        assert path.read_bytes() == one[name].read_bytes()
        assert path.stat().st_mode & 0o077 == 0
    assert ranking(SparseIndex.open(tmp_path / "two")) == AFTER


def test_a_folder_whose_segments_vanished_is_written_whole_again(tmp_path):
    index = index_of(OLD)
    index.save(tmp_path / "one")
    shutil.rmtree(tmp_path / "one")
    index.save(tmp_path / "one")
    assert ranking(SparseIndex.open(tmp_path / "one")) == BEFORE


def test_other_files_of_the_folder_are_let_alone(tmp_path):
    names = ["notes.txt", "segment-notes", ".hidden.tmp", "dead-x.npy", "lock", ".segment-x.tmp"]
    for name in names:
        (tmp_path / name).write_text(name)
    (tmp_path / "segment-folder").mkdir()
    index = index_of(OLD)
    index.save(tmp_path)
    changed(index).save(tmp_path)
    assert [(tmp_path / name).read_text() for name in names] == names
    assert (tmp_path / "segment-folder").is_dir()


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize(
    ("owner", "call"),
    [(os, "fsync"), (os, "link"), (Path, "rename"), (Path, "replace"), (Path, "unlink"), (os, "rmdir"), (os, "open")],
)  # fmt: skip
def test_a_writer_killed_at_any_call_leaves_the_old_index_or_the_new(
    tmp_path, monkeypatch, owner, call, elsewhere
):
    """Elsewhere, segments are linked: the folder holds the old index, its segments another's."""
    home = tmp_path / "home"
    index_of(OLD).save(home)
    index = SparseIndex.open(home)
    if elsewhere:
        changed(index).save(tmp_path / "other")
    else:
        changed(index)
        index.merge()
    original, seen = getattr(owner, call), set()
    for nth in range(300):
        calls = 0

        def crash(*args, nth=nth, **options):
            nonlocal calls
            calls += 1
            if calls > nth:
                raise KeyboardInterrupt
            return original(*args, **options)

        with monkeypatch.context() as patch:
            patch.setattr(owner, call, crash)
            try:
                index.save(home)
            except KeyboardInterrupt:
                pass
            else:
                break
        found = ranking(SparseIndex.open(home))
        assert found in (BEFORE, AFTER)
        seen.add(found == AFTER)
    assert calls <= nth, "the last save was not cut off"
    assert seen or call in ("link", "unlink", "rmdir"), "some were"
    assert not elsewhere or call != "link" or nth > 10
    assert ranking(SparseIndex.open(home)) == AFTER
    index.save(home)
    left = sorted(path.name for path in home.iterdir())
    kept = [part.segment.name for part in index._postings.snapshot().parts]
    assert [name for name in left if name.startswith("segment-")] == sorted(
        f"segment-{name}" for name in kept
    )
    assert not [name for name in left if name.startswith(".")]


def test_a_segment_half_removed_by_a_killed_writer_is_never_taken_for_whole(tmp_path, monkeypatch):
    """Another process still holds the old index, and saves it after the writer has died."""
    index_of(OLD).save(tmp_path)
    holder = SparseIndex.open(tmp_path)
    writer = SparseIndex.open(tmp_path)
    writer.add_terms(["q"], [["cat"]])
    writer.merge()

    def half(path):
        next(path.iterdir()).unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(index_folder.shutil, "rmtree", half)
        with pytest.raises(KeyboardInterrupt):
            writer.save(tmp_path)
    assert "q" in SparseIndex.open(tmp_path)
    holder.save(tmp_path)
    assert ranking(SparseIndex.open(tmp_path)) == BEFORE
    assert not list(tmp_path.glob(".*"))


SAVING = """
import sys
from pathlib import Path
from retrievers.sparse.index import SparseIndex

class Words:
    fingerprint = "words"
    def terms(self, text): return text.split()
    query_terms = terms

folder = Path(sys.argv[1])
index = SparseIndex(analyser=Words())
generation = 0
while True:
    ids = [f"p{n}" for n in range(20)]
    index.add_terms(ids, [[f"generation{generation}", "all"]] * 20)
    if generation % 3 == 2:
        index.delete(ids[:1])
    if generation % 5 == 4:
        index.merge()
    index.save(folder)
    print(generation, flush=True)
    generation += 1
"""


class Words:
    fingerprint = "words"

    def terms(self, text):
        return text.split()

    query_terms = terms


def test_a_process_killed_while_it_saves_leaves_the_last_generation_or_the_next(tmp_path):
    rng = np.random.default_rng(0)
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", SAVING, str(tmp_path)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[3],
        )
        with process:
            assert process.stdout.readline() == b"0\n"
            time.sleep(float(rng.uniform(0.0, 0.1)))
            SparseIndex.open(tmp_path, analyser=Words())  # a reader meets no half index either
            process.send_signal(signal.SIGKILL)
            reported = max([0, *map(int, process.stdout.read().split())])
        index = SparseIndex.open(tmp_path, analyser=Words())
        assert len(index) in (19, 20)
        generations = {term for id_ in index.ids for term in index.term_counts(id_)} - {"all"}
        assert len(generations) == 1
        found = int(generations.pop().removeprefix("generation"))
        assert found in (reported, reported + 1), "what was reported saved stays"
        index.save(tmp_path)
        assert not list(tmp_path.glob(".*.tmp"))
        assert len(list(tmp_path.glob("segment-*"))) == index.statistics.segments


def test_what_a_reader_opened_outlives_the_next_saves(tmp_path):
    index = index_of(OLD)
    index.save(tmp_path)
    reader = SparseIndex.open(tmp_path)
    changed(index)
    index.merge()
    index.save(tmp_path)
    assert ranking(reader) == BEFORE
    assert reader.term_counts("p3") == {"cat": 2.0}
    assert ranking(SparseIndex.open(tmp_path)) == AFTER


def test_a_reader_overtaken_by_a_writer_opens_the_new_index(tmp_path, monkeypatch):
    index = index_of(OLD)
    index.save(tmp_path)
    read, overtaken = index_folder.open_segment, []

    def overtake(folder, name):
        if not overtaken:
            overtaken.append(name)
            changed(index)
            index.merge()
            index.save(tmp_path)
        return read(folder, name)

    monkeypatch.setattr(index_folder, "open_segment", overtake)
    assert ranking(SparseIndex.open(tmp_path)) == AFTER
    assert overtaken


def manifest(folder, **changes):
    path = folder / "sparse.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def largest(folder, name):
    """The path of such a name in the largest of the segments."""

    def size(path):
        home = path if path.is_dir() else path.parent
        return sum(file.stat().st_size for file in home.iterdir())

    return max(folder.glob(name), key=size)


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


def swap(folder):
    """A manifest beside the segments of another index."""
    text = (folder / "sparse.json").read_bytes()
    shutil.rmtree(folder)
    index_of({"other": ["cat"]}).save(folder)
    (folder / "sparse.json").write_bytes(text)


def older(folder):
    """The segment of another index under the name of this one's."""
    home = largest(folder, "segment-*")
    index_of({"x": ["cat"]}).save(folder.parent / "other")
    for path in largest(folder.parent / "other", "segment-*").iterdir():
        shutil.copy(path, home / path.name)


NO_SEGMENT, DAMAGED = "holds no readable segment", "sparse.json is damaged"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (shutil.rmtree, "holds no readable sparse index"),
        (lambda f: cut(f / "sparse.json", 40), DAMAGED),
        (lambda f: (f / "sparse.json").write_bytes(b"\xff\xfe"), DAMAGED),
        (lambda f: (f / "sparse.json").write_text("[1]"), DAMAGED),
        (lambda f: (f / "sparse.json").write_text('{"format": 1}'), DAMAGED),
        (lambda f: manifest(f, segments=None), DAMAGED),
        (lambda f: manifest(f, segments=[{"name": "../../etc", "dead": None}]), DAMAGED),
        (lambda f: manifest(f, weighting={"name": "bm25", "k1": -1}), DAMAGED),
        (lambda f: manifest(f, weighting={"name": "bm25", "k1": "x"}), DAMAGED),
        (lambda f: manifest(f, weighting={"name": "other"}), DAMAGED),
        (lambda f: manifest(f, weighting=None), DAMAGED),
        (lambda f: manifest(f, format=2), "of format 2, this version reads 1; index again"),
        (lambda f: manifest(f, format="1"), "of format '1'"),
        (lambda f: manifest(f, analyser="other"), "was indexed with analyser 'other', got"),
        (lambda f: manifest(f, passages=3), "holds parts of several sparse indexes"),
        (lambda f: manifest(f, total_length=3), "holds parts of several sparse indexes"),
        (swap, NO_SEGMENT),
        (older, "does not list rows of its segment"),
        (lambda f: shutil.rmtree(largest(f, "segment-*")), NO_SEGMENT),
        (lambda f: largest(f, "segment-*/columns.npy").unlink(), NO_SEGMENT),
        (lambda f: cut(largest(f, "segment-*/row_values.npy"), 130), NO_SEGMENT),
        (lambda f: cut(largest(f, "segment-*/ids.npy"), 0), NO_SEGMENT),
        (lambda f: np.save(largest(f, "segment-*/values.npy"), np.array([{}], object)), NO_SEGMENT),
        (lambda f: np.save(largest(f, "segment-*/starts.npy"), np.arange(3)), "do not fit each other"),
        (lambda f: np.save(largest(f, "segment-*/id_starts.npy"), np.arange(3)[::-1]), "do not fit each other"),
        (lambda f: np.save(largest(f, "segment-*/columns.npy"), np.zeros((2, 2), np.int32)), "is damaged"),
        (lambda f: np.save(largest(f, "segment-*/values.npy"), np.zeros(9, np.uint64)), "is damaged"),
        (lambda f: largest(f, "dead-*").unlink(), "is no readable list of deletions"),
        (lambda f: cut(largest(f, "dead-*"), 20), "is no readable list of deletions"),
        (lambda f: np.save(largest(f, "dead-*"), np.array([5, 3], np.int32)), "does not list rows of its segment"),
        (lambda f: np.save(largest(f, "dead-*"), np.array([3, 99], np.int32)), "does not list rows of its segment"),
        (lambda f: np.save(largest(f, "dead-*"), np.array([3])), "does not list rows of its segment"),
    ],
)  # fmt: skip
def test_damage_is_an_error_that_says_what_is_wrong(tmp_path, spoil, message):
    folder = tmp_path / "index"
    changed(index_of(OLD)).save(folder)
    spoil(folder)
    with pytest.raises(IndexFolderError, match=message):
        SparseIndex.open(folder)
    index = index_of(NEW)
    index.save(folder)
    assert ranking(SparseIndex.open(folder)) == AFTER, "and a fresh index can take its place"


def test_a_weighting_that_cannot_be_described_is_not_saved(tmp_path):
    class Halved(Impact):
        pass

    with pytest.raises(ValueError, match="weighting must be BM25 or Impact to be saved"):
        index_of(OLD, Halved()).save(tmp_path / "index")
    assert not (tmp_path / "index").exists()
