"""Index folders: round trip, increments, interrupts, and folders that are refused."""

import json
import stat
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pipelines.index_folder import open_index
from pipelines.indexing import build_index
from pipelines.snapshots import Form
from pruners import sentence_texts
from rag.corpus import Chunker, discover, read
from rag.errors import CorpusError, FolderLockedError, IndexFolderError
from rag.files import FolderLock
from rag.records import Query


def files(folder):
    """Every file below an index folder but the lock, with its content and time."""
    return {
        str(p.relative_to(folder)): (p.read_bytes(), p.stat().st_mtime_ns)
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != "lock"
    }


def build(notes, out, encoder, **options):
    return build_index([str(notes)], out, encoder=encoder, **options)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "notes.idx"


def test_what_was_indexed_can_be_opened(notes, out, encoder):
    report = build(notes, out, encoder)
    assert report.added == ("notes/apples.md", "notes/bridges.md", "notes/clouds.md")
    assert (report.changed, report.removed, report.unchanged, report.skipped) == ((), (), (), ())
    index = open_index(out, encoder=encoder)
    expected = [d for source in discover([str(notes)])[0] for d in read(source)]
    assert list(index.documents.values()) == expected
    chunked = [p for d in expected for p in Chunker()(d)]
    assert list(index.passages.values()) == chunked
    assert report.passages == len(chunked) == len(index.sparse) == len(index.dense)
    for passage in chunked:
        assert np.array_equal(
            index.dense.vectors([passage.id])[0], encoder.encode([passage.searchable])[0]
        )
        kept = index.sentence_vectors(passage)
        assert kept.dtype == np.float32
        assert np.allclose(kept, encoder.encode(sentence_texts(passage)), atol=1e-3)
    assert index.sparse.search(Query("bridges"), 1)[0].id.startswith("notes/bridges.md")


def test_only_the_owner_may_read(notes, out, encoder):
    build(notes, out, encoder)
    for path in [out, *out.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_nothing_changed_writes_nothing_and_encodes_nothing(notes, out, encoder):
    build(notes, out, encoder)
    before = files(out)
    encoder.texts.clear()
    report = build(notes, out, encoder)
    assert not report.written
    assert len(report.unchanged) == report.documents == 3
    assert report.passages == len(open_index(out).passages)
    assert files(out) == before
    assert encoder.texts == []


def test_only_what_changed_is_read_and_encoded(notes, out, encoder, monkeypatch):
    build(notes, out, encoder)
    old = open_index(out)
    (notes / "apples.md").unlink()
    (notes / "bridges.md").write_text("# About bridges\n\nA new text.\n")
    (notes / "dogs.md").write_text("# About dogs\n\nDogs bark.\n")
    encoder.texts.clear()
    read_now = []
    monkeypatch.setattr(
        "pipelines.indexing.read", lambda source: read_now.append(source.id) or read(source)
    )
    report = build(notes, out, encoder)
    assert report.added == ("notes/dogs.md",)
    assert report.changed == ("notes/bridges.md",)
    assert report.removed == ("notes/apples.md",)
    assert report.unchanged == ("notes/clouds.md",)
    assert sorted(read_now) == ["notes/bridges.md", "notes/dogs.md"]
    assert all("clouds" not in text for text in encoder.texts)
    new = open_index(out)
    assert set(new.documents) == {"notes/bridges.md", "notes/clouds.md", "notes/dogs.md"}
    for id_ in old.contents["notes/clouds.md"]:
        assert new.passages[id_] == old.passages[id_]
        assert np.array_equal(new.dense.vectors([id_]), old.dense.vectors([id_]))
        vectors = new.sentence_vectors(new.passages[id_])
        assert np.array_equal(vectors, old.sentence_vectors(old.passages[id_]))
    assert "apples" in old.documents["notes/apples.md"].text  # the open one still shows the old


def test_an_incremental_index_equals_a_fresh_one(notes, out, encoder, tmp_path):
    build(notes, out, encoder)
    (notes / "bridges.md").write_text("Another text.")
    (notes / "aaa.md").write_text("First of all.")
    build(notes, out, encoder)
    build(notes, tmp_path / "fresh.idx", encoder)
    one, other = open_index(out), open_index(tmp_path / "fresh.idx")
    for name in {**one.manifest.files, **other.manifest.files}:
        if not name.startswith("sparse/"):  # segments tell how an index came about
            assert one.manifest.files[name] == other.manifest.files[name], name
    whole = ("passages", "total_length", "vocabulary")
    for fact in whole:
        assert getattr(one.sparse.statistics, fact) == getattr(other.sparse.statistics, fact)
    for question in ("apples", "first another text", "sentence 3 about clouds"):
        assert one.sparse.search(Query(question), 99) == other.sparse.search(Query(question), 99)
    assert one.manifest.sources == other.manifest.sources


def test_an_index_keeps_the_time_it_was_made(notes, out, encoder, monkeypatch):
    times = iter(datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2))
    monkeypatch.setattr(
        "pipelines.indexing.datetime", SimpleNamespace(now=lambda zone: next(times))
    )
    build(notes, out, encoder)
    (notes / "apples.md").unlink()
    build(notes, out, encoder)
    manifest = open_index(out).manifest
    assert manifest.created == "2026-01-01T00:00:00+00:00"
    assert manifest.updated == "2026-01-02T00:00:00+00:00"


def test_equal_texts_are_encoded_once(notes, out, encoder):
    for copy in ("one", "two"):
        (notes / copy).mkdir()
        (notes / copy / "same.md").write_text("# Same\n\nThe same text.")
    build(notes, out, encoder)
    assert len(encoder.texts) == len(set(encoder.texts))


def test_other_roots_stay_untouched(notes, out, encoder, tmp_path):
    more = tmp_path / "more"
    more.mkdir()
    (more / "dogs.md").write_text("Dogs bark.")
    build(notes, out, encoder)
    report = build(more, out, encoder)
    assert report.added == ("more/dogs.md",)
    assert len(report.unchanged) == 3
    (notes / "apples.md").unlink()  # not looked at: its root is not given
    (more / "cats.md").write_text("Cats purr.")
    assert build(more, out, encoder).removed == ()
    assert build(notes, out, encoder).removed == ("notes/apples.md",)
    assert "more/cats.md" in open_index(out).documents


def test_two_roots_of_one_name_are_refused(notes, out, encoder, tmp_path):
    build(notes, out, encoder)
    twin = tmp_path / "elsewhere" / "notes"
    twin.mkdir(parents=True)
    (twin / "apples.md").write_text("Other apples.")
    with pytest.raises(CorpusError, match=r"'notes/apples\.md', and so has"):
        build(twin, out, encoder)


def test_an_unreadable_file_is_reported_and_the_rest_indexed(notes, out, encoder):
    (notes / "broken.pdf").write_bytes(b"no pdf at all")
    report = build(notes, out, encoder)
    assert [s.id for s in report.skipped] == ["notes/broken.pdf"]
    assert report.documents == 3
    again = build(notes, out, encoder)
    assert again.skipped == report.skipped
    assert not again.written


def test_what_can_no_longer_be_read_is_removed(notes, out, encoder):
    build(notes, out, encoder)
    (notes / "clouds.md").write_text(" \n")
    report = build(notes, out, encoder)
    assert report.removed == ("notes/clouds.md",)
    assert [s.id for s in report.skipped] == ["notes/clouds.md"]
    assert "notes/clouds.md" not in open_index(out).documents


def test_nothing_to_index_makes_no_folder_and_spares_an_old_one(notes, out, encoder, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "broken.pdf").write_bytes(b"no pdf at all")
    with pytest.raises(CorpusError, match=r"(?s)nothing to index.*broken\.pdf"):
        build(empty, out, encoder)
    assert not out.exists()
    build(notes, out, encoder)
    before = files(out)
    for path in notes.iterdir():
        path.unlink()
    with pytest.raises(CorpusError, match="nothing to index"):
        build(notes, out, encoder)
    assert files(out) == before


def test_another_chunker_makes_all_passages_again_from_the_kept_text(notes, out, encoder):
    build(notes, out, encoder)
    (notes / "apples.md").unlink()
    report = build_index([str(notes)], out, encoder=encoder, chunker=Chunker(words=10))
    assert report.rechunked
    assert report.unchanged == ("notes/bridges.md", "notes/clouds.md")
    index = open_index(out)
    assert all(len(index.contents[id_]) == 3 for id_ in index.documents)


def test_a_killed_encoder_loses_nothing(notes, out, encoder, monkeypatch):
    monkeypatch.setattr("pipelines.text_vectors._SHARD", 2)
    build(notes, out, encoder)
    before = open_index(out)
    for name in "uvwxyz":
        (notes / f"{name}.md").write_text(f"# {name}\n\nA text about {name}.")
    encoder.texts.clear()
    encoder.stop_after = 5
    with pytest.raises(KeyboardInterrupt):
        build(notes, out, encoder)
    assert len(encoder.texts) == 4
    assert open_index(out).manifest == before.manifest
    done = list(encoder.texts)
    encoder.texts.clear()
    encoder.stop_after = None
    report = build(notes, out, encoder)
    assert report.encoded == len(encoder.texts) > 0
    assert not set(done) & set(encoder.texts)
    assert not (out / "partial").exists()
    assert len(open_index(out, thorough=True).documents) == 9


def test_a_first_build_can_be_interrupted_too(notes, out, encoder, monkeypatch):
    monkeypatch.setattr("pipelines.text_vectors._SHARD", 2)
    encoder.stop_after = 3
    with pytest.raises(KeyboardInterrupt):
        build(notes, out, encoder)
    with pytest.raises(IndexFolderError, match="not a Dovetail index"):
        open_index(out)
    encoder.stop_after = None
    build(notes, out, encoder)
    assert len(encoder.texts) == len(set(encoder.texts))


@pytest.mark.parametrize("function", ["replace", "rename"])
def test_a_crash_at_any_rename_leaves_the_old_index_or_the_new(
    notes, out, encoder, monkeypatch, function
):
    build(notes, out, encoder)
    (notes / "dogs.md").write_text("Dogs bark.")
    original = getattr(Path, function)
    crashes = 0
    for nth in range(100):
        calls = 0

        def crash(self, target, nth=nth):
            nonlocal calls
            calls += 1
            if calls > nth:
                raise KeyboardInterrupt
            return original(self, target)

        before = open_index(out).manifest
        with monkeypatch.context() as patch:
            patch.setattr(Path, function, crash)
            try:
                build(notes, out, encoder)
            except KeyboardInterrupt:
                crashes += 1
            else:
                break
        assert open_index(out, thorough=True).manifest == before
    assert crashes >= (9 if function == "replace" else 2)
    assert "notes/dogs.md" in open_index(out).documents
    assert len(list((out / "snapshots").iterdir())) == 1


def test_a_crash_before_cleaning_up_leaves_the_new_index(notes, out, encoder, monkeypatch):
    build(notes, out, encoder)
    (notes / "dogs.md").write_text("Dogs bark.")
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            build(notes, out, encoder)
    assert "notes/dogs.md" in open_index(out, thorough=True).documents
    assert len(list((out / "snapshots").iterdir())) == 2
    assert not build(notes, out, encoder).written
    assert len(list((out / "snapshots").iterdir())) == 1


def test_a_second_writer_is_refused(notes, out, encoder):
    build(notes, out, encoder)
    with FolderLock(out), pytest.raises(FolderLockedError, match="being written by process"):
        build(notes, out, encoder)


def test_a_foreign_folder_is_refused(notes, tmp_path, encoder):
    foreign = tmp_path / "precious"
    foreign.mkdir()
    (foreign / "photo.jpg").write_bytes(b"x")
    with pytest.raises(IndexFolderError, match=r"precious is not empty.*photo\.jpg"):
        build(notes, foreign, encoder)
    (foreign / "photo.jpg").rename(foreign / "manifest.json")
    with pytest.raises(IndexFolderError, match=r"precious is not empty.*manifest\.json"):
        build(notes, foreign, encoder, rebuild=True)
    with pytest.raises(IndexFolderError, match="is a file"):
        build(notes, foreign / "manifest.json", encoder)


def test_another_encoder_needs_rebuild(notes, out, encoder):
    build(notes, out, encoder)
    other = type(encoder)("e" * 64, "other")
    with pytest.raises(IndexFolderError, match=r"encoder 'hash' \(f{12}\), got 'other' \(e{12}\)"):
        open_index(out, encoder=other)
    with pytest.raises(IndexFolderError, match="--rebuild"):
        build(notes, out, other)
    assert build(notes, out, other, rebuild=True).written
    index = open_index(out, encoder=other)
    passage = next(iter(index.passages.values()))
    expected = other.encode([passage.searchable])
    assert np.array_equal(index.dense.vectors([passage.id]), expected)


@pytest.mark.parametrize("name", ["passages.jsonl", "dense/vectors.npy", "sparse/sparse.json"])
@pytest.mark.parametrize("damage", ["cut", "missing"])
def test_a_damaged_file_is_named(notes, out, encoder, name, damage):
    build(notes, out, encoder)
    path = next((out / "snapshots").iterdir()) / name
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.unlink()
    with pytest.raises(IndexFolderError, match=f"damaged: {name}"):
        open_index(out)
    with pytest.raises(IndexFolderError, match=f"damaged: {name}"):
        build(notes, out, encoder)
    assert build(notes, out, encoder, rebuild=True).documents == 3
    assert len(open_index(out).documents) == 3


def test_a_flipped_bit_is_found(notes, out, encoder):
    build(notes, out, encoder)
    snapshot = next((out / "snapshots").iterdir())
    for name, thorough in (("passages.jsonl", False), ("dense/vectors.npy", True)):
        path = snapshot / name
        content = path.read_bytes()
        path.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
        with pytest.raises(IndexFolderError, match=f"the content of {name} has changed"):
            open_index(out, thorough=thorough)
        path.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dovetail": 99}, "index format 99, and this Dovetail reads format 2"),
        ({"snapshot": "../../etc"}, "snapshot must be 16 hex digits"),
        ({"files": {"../x": {"bytes": 1, "sha256": ""}}}, "files must lie in the snapshot"),
        ({"encoder": 3}, "damaged"),
        ({"sources": [{}]}, "damaged"),
    ],
)
def test_a_manifest_that_cannot_be_trusted_is_refused(notes, out, encoder, change, message):
    build(notes, out, encoder)
    path = out / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(IndexFolderError, match=message):
        open_index(out)


def test_what_is_no_index_is_named(tmp_path):
    with pytest.raises(IndexFolderError, match="nowhere does not exist"):
        open_index(tmp_path / "nowhere")
    with pytest.raises(IndexFolderError, match=r"no manifest\.json; make one with"):
        open_index(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(IndexFolderError, match="somebody else's"):
        open_index(tmp_path)


def test_an_encoder_without_unit_vectors_is_refused(notes, out, encoder, monkeypatch):
    monkeypatch.setattr(encoder, "encode", lambda texts, progress: np.zeros((len(texts), 16)))
    with pytest.raises(ValueError, match="unit length"):
        build(notes, out, encoder)


def test_entries_of_changed_documents_leave_the_kv_store(notes, out, encoder, identity):
    import torch

    from kvstore import KVStore
    from rag.protocols import SegmentKV
    from rag.records import Segment

    build(notes, out, encoder)
    index = open_index(out)
    kv = SegmentKV(torch.zeros(1, 2, 1, 8), torch.zeros(1, 2, 1, 8))
    segments = {
        id_: Segment(identity(), "passage", (row, 2), name=id_, document=id_)
        for row, id_ in enumerate(index.documents)
    }
    with KVStore(index.kv_folder) as store:
        for segment in segments.values():
            assert store.put(segment, kv)
        (notes / "apples.md").write_text("Other apples.")
        report = build(notes, out, encoder)
        assert (report.kv_dropped, report.kv_pending) == (0, 1)  # the store is in use
        (notes / "bridges.md").unlink()
        assert build(notes, out, encoder).kv_pending == 2
    report = build(notes, out, encoder)
    assert (report.kv_dropped, report.kv_pending, report.written) == (2, 0, False)
    with KVStore(index.kv_folder) as store:
        left = [id_ for id_, segment in segments.items() if store.contains(segment)]
    assert left == ["notes/clouds.md"]


def test_a_small_change_leaves_the_segments_of_the_rest_as_they_are(notes, out, encoder):
    for n in range(30):
        (notes / f"more{n}.md").write_text(f"Another note about number {n}.")
    build(notes, out, encoder)
    folder = next((out / "snapshots").iterdir())
    before = {p.stat().st_ino for p in (folder / "sparse").rglob("*.npy")}
    (notes / "more3.md").write_text("It says something else now.")
    build(notes, out, encoder)
    folder = next((out / "snapshots").iterdir())
    after = {p.stat().st_ino for p in (folder / "sparse").rglob("*.npy")}
    assert before < after, "the large segment is the same files, linked"
    assert open_index(out).sparse.search(Query("something else"), 1)[0].id.startswith("notes/more3")


@pytest.mark.parametrize(
    ("form", "kind", "dtype"),
    [
        (Form(kind="exact"), "exact", "float32"),
        (Form(kind="hnsw", dtype="float16"), "hnsw", "float16"),
    ],
)
def test_another_form_indexes_anew_what_is_there(notes, out, encoder, form, kind, dtype):
    build(notes, out, encoder)
    encoder.texts.clear()
    report = build_index([str(notes)], out, encoder=encoder, form=form)
    index = open_index(out)
    assert report.written
    assert report.encoded == 0
    assert (index.dense.kind.name, index.dense.dtype) == (kind, dtype)
    assert index.dense.recall.value == 1.0
    (notes / "dogs.md").write_text("Dogs bark.")
    assert build(notes, out, encoder).added == ("notes/dogs.md",)
    assert open_index(out).dense.kind.name == kind, "what was chosen once stays"


def test_the_language_decides_the_terms(notes, out, encoder):
    pytest.importorskip("Stemmer", reason="needs the extra 'languages'")
    (notes / "haus.md").write_text("Die Häuser stehen am Hafen.")
    build_index([str(notes)], out, encoder=encoder, form=Form(language="de"))
    index = open_index(out)
    assert index.manifest.language == "de"
    assert index.sparse.search(Query("Haus"), 1)[0].id.startswith("notes/haus.md")
    assert not build(notes, out, encoder).written
