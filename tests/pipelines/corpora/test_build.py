"""Corpora folders: what each corpus holds, increments, interrupts, and folders that are refused."""

import json
import shutil
import stat

import pytest
import torch

from pipelines.corpora import source_reader
from pipelines.corpora.build import build_corpora
from pipelines.corpora.kinds import corpus_kinds
from pipelines.corpora.manifest import CORPORA, read_corpora
from pipelines.corpora.opening import holds_corpora, open_corpora
from pipelines.index_folder import open_index
from pipelines.indexing import build_index
from rag.corpus import discover, read
from rag.errors import CorpusError, FolderLockedError, IndexFolderError
from rag.files import FolderLock
from rag.protocols import SegmentKV
from rag.records import Segment


def files(folder):
    """Every file below a folder but the locks, with its content and time."""
    return {
        str(p.relative_to(folder)): (p.read_bytes(), p.stat().st_mtime_ns)
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != "lock"
    }


@pytest.fixture
def reads(monkeypatch):
    """Ids of the sources that are read, in order."""
    seen = []

    def watched(source):
        seen.append(source.id)
        return read(source)

    monkeypatch.setattr(source_reader, "read", watched)
    return seen


def test_each_corpus_holds_what_its_maker_finds(mixed, build, out, encoder, plain):
    report = build(mixed)
    assert list(report.corpora) == ["paragraph", "table"]
    assert report.empty == {"clip": "no transcript"}
    assert report.skipped == ()
    documents = [d for source in discover([str(mixed)])[0] for d in read(source)]
    for kind in (plain.paragraphs(), plain.tables()):
        index = open_index(out / kind.label, encoder=encoder)
        expected = [p for d in documents for p in kind.maker(d)]
        assert list(index.passages.values()) == expected
        assert report.corpora[kind.label].passages == len(expected)
        assert set(index.documents) == {p.document for p in expected}
    assert not (out / "clip").exists()
    assert report.documents == 3
    assert report.passages == sum(one.passages for one in report.corpora.values())


def test_the_manifest_says_what_there_is(mixed, build, out, encoder):
    build(mixed)
    manifest = read_corpora(out)
    assert manifest.filled == ("paragraph", "table")
    assert manifest.empty == ("clip",)
    assert manifest.encoder.fingerprint == encoder.fingerprint
    assert manifest.corpora["table"].documents == 1
    assert manifest.corpora["table"].passages == 2
    nothing = {source.id: source.nothing for source in manifest.sources}
    assert nothing == {
        "notes/apples.md": ("table", "clip"),
        "notes/bridges.md": ("clip",),
        "notes/clouds.md": ("table", "clip"),
    }


def test_only_the_owner_may_read(mixed, build, out):
    build(mixed)
    for path in (out, *out.rglob("*")):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


def test_each_source_is_read_once_for_all_corpora(mixed, build, reads):
    build(mixed)
    assert reads == ["notes/apples.md", "notes/bridges.md", "notes/clouds.md"]


def test_nothing_changed_reads_nothing_encodes_nothing_and_writes_nothing(
    mixed, build, out, encoder, reads
):
    build(mixed)
    before = files(out)
    reads.clear()
    encoder.texts.clear()
    report = build(mixed)
    assert (report.written, report.encoded, len(report.unchanged)) == (False, 0, 3)
    assert (reads, encoder.texts) == ([], [])
    assert files(out) == before


def test_a_source_that_gives_no_corpus_anything_is_not_read_again(mixed, build, reads, plain):
    build(mixed, kinds=[plain.tables()])
    reads.clear()
    assert build(mixed, kinds=[plain.tables()]).written is False
    assert reads == []


def test_only_what_changed_is_read(mixed, build, out, reads):
    build(mixed)
    reads.clear()
    (mixed / "apples.md").write_text("# Apples\n\n| apple | red |\n")
    (mixed / "clouds.md").unlink()
    report = build(mixed)
    assert reads == ["notes/apples.md"]
    assert report.changed == ("notes/apples.md",)
    assert report.removed == ("notes/clouds.md",)
    assert report.unchanged == ("notes/bridges.md",)
    assert set(open_index(out / "table").contents) == {"notes/apples.md", "notes/bridges.md"}


def test_an_incremental_build_equals_a_fresh_one(mixed, build, out, tmp_path):
    build(mixed)
    (mixed / "apples.md").write_text("# Apples\n\n| apple | red |\n\n@ a spoken line\n")
    (mixed / "bridges.md").write_text("# Bridges\n\nNo row is left here.\n")
    build(mixed)
    build(mixed, folder=tmp_path / "fresh")
    fresh, now = read_corpora(tmp_path / "fresh"), read_corpora(out)
    assert now.sources == fresh.sources
    for label in ("paragraph", "table", "clip"):
        one, other = open_index(out / label), open_index(tmp_path / "fresh" / label)
        assert dict(one.passages) == dict(other.passages)


def test_a_corpus_that_became_empty_is_removed(mixed, build, out):
    build(mixed)
    (mixed / "bridges.md").write_text("# Bridges\n\nNo row is left here.\n")
    report = build(mixed)
    assert report.dropped == ("table",)
    assert report.empty == {"table": "no document has a table", "clip": "no transcript"}
    assert not (out / "table").exists()
    assert read_corpora(out).empty == ("table", "clip")


def test_a_corpus_that_is_not_asked_for_any_more_is_removed(mixed, build, out, plain):
    build(mixed)
    report = build(mixed, kinds=[plain.tables()])
    assert report.dropped == ("paragraph",)
    assert list(read_corpora(out).corpora) == ["table"]
    assert not (out / "paragraph").exists()


def test_a_new_corpus_takes_what_the_others_have_read(mixed, build, reads, out, plain):
    build(mixed, kinds=[plain.paragraphs()])
    reads.clear()
    report = build(mixed)
    assert reads == []
    assert report.corpora["table"].passages == 2
    assert report.corpora["paragraph"].written is False


def test_another_maker_makes_one_corpus_again(mixed, build, out, reads, plain):
    build(mixed)
    reads.clear()
    (mixed / "clouds.md").write_text("! is found by the new maker only\n")
    report = build(mixed, kinds=[plain.paragraphs(), plain.tables(version=2)])
    assert report.corpora["table"].rechunked
    assert not report.corpora["paragraph"].rechunked
    assert reads == ["notes/clouds.md"]


def test_a_maker_that_finds_more_looks_at_every_source_again(mixed, build, out, plain):
    build(mixed)
    finds_more = plain.tables()
    finds_more = type(finds_more)("table", "table", plain.lines("Sentence", "t"))
    report = build(mixed, kinds=[plain.paragraphs(), finds_more])
    assert set(open_index(out / "table").contents) == {
        "notes/apples.md",
        "notes/bridges.md",
        "notes/clouds.md",
    }
    assert report.corpora["table"].passages == 3


def test_another_maker_looks_at_documents_that_gave_nothing_before(mixed, build, out, plain):
    lines = [{"id": "one", "text": "| row"}, {"id": "two", "text": "! mark"}]
    (mixed / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    build(mixed, kinds=[plain.tables()])
    either = type(plain.tables())("table", "table", plain.lines(("|", "!"), "t"))
    build(mixed, kinds=[either])
    assert "notes/a.jsonl#two:t0" in open_index(out / "table").passages


def test_a_change_that_was_taken_back_after_an_interrupt_leaves_no_trace(
    mixed, build, out, encoder, tmp_path
):
    build(mixed)
    before = (mixed / "bridges.md").read_text()
    (mixed / "bridges.md").write_text("# Bridges\n\nNew text.\n\n| one new row |\n")
    encoder.texts.clear()
    encoder.stop_after = 3
    with pytest.raises(KeyboardInterrupt):
        build(mixed)
    encoder.stop_after = None
    (mixed / "bridges.md").write_text(before)
    build(mixed)
    build(mixed, folder=tmp_path / "fresh")
    for label in ("paragraph", "table"):
        now, fresh = open_index(out / label), open_index(tmp_path / "fresh" / label)
        assert dict(now.passages) == dict(fresh.passages)


def test_other_roots_stay_and_a_new_corpus_says_it_has_not_seen_them(
    mixed, build, out, tmp_path, plain
):
    other = tmp_path / "other"
    other.mkdir()
    (other / "rivers.md").write_text("# Rivers\n\n| river | long |\n")
    build(other, kinds=[plain.paragraphs()])
    report = build(mixed)
    assert "notes/apples.md" in report.added
    assert "other/rivers.md" in report.unchanged
    assert report.notes == (
        "corpus table has not looked at 1 of the sources of other paths; index those again",
        "corpus clip has not looked at 1 of the sources of other paths; index those again",
    )
    report = build(other)
    assert report.notes == ()
    assert set(open_index(out / "table").contents) == {"notes/bridges.md", "other/rivers.md"}
    assert build(mixed).written is False


def test_a_rebuild_of_one_root_does_not_forget_what_others_lack(mixed, build, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "rivers.md").write_text("# Rivers\n\nNo table here.\n")
    build(mixed, other)
    report = build(mixed, rebuild=True)
    assert report.notes == ()
    assert "other/rivers.md" in report.unchanged


def test_an_unreadable_file_is_named_once_and_tried_again(mixed, build, reads):
    (mixed / "broken.pdf").write_bytes(b"no pdf")
    report = build(mixed)
    assert [skipped.id for skipped in report.skipped] == ["notes/broken.pdf"]
    assert reads.count("notes/broken.pdf") == 1
    (mixed / "broken.pdf").unlink()
    (mixed / "broken.txt").write_text("Now it can be read.")
    report = build(mixed)
    assert report.added == ("notes/broken.txt",)


def test_two_documents_of_one_id_are_refused_across_corpora(mixed, build, notes):
    (notes / "a.jsonl").write_text(json.dumps({"id": "1.md", "text": "Words."}) + "\n")
    (notes / "a.jsonl#1.md").write_text("| row |\n")
    report = build(mixed)
    assert [skipped.id for skipped in report.skipped] == ["notes/a.jsonl#1.md"]
    assert (
        "source 'notes/a.jsonl' has a document 'notes/a.jsonl#1.md' too" in report.skipped[0].reason
    )


def test_nothing_to_index_makes_no_folder_and_spares_an_old_one(mixed, build, out, tmp_path, plain):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(CorpusError, match="nothing to index"):
        build(empty)
    assert not out.exists()
    with pytest.raises(CorpusError, match="nothing to index"):
        build(mixed, kinds=[plain.clips()])
    assert not out.exists()
    build(mixed)
    before = files(out)
    with pytest.raises(CorpusError, match="nothing to index"):
        build(mixed, kinds=[plain.clips()])
    assert files(out) == before


def test_unknown_labels_are_named_with_those_there_are(mixed, encoder, out, plain):
    with pytest.raises(ValueError, match=r"some of paragraph, document, table.*got sound"):
        build_corpora([str(mixed)], out, encoder=encoder, labels=["table", "sound"])
    with pytest.raises(ValueError, match="got nothing"):
        build_corpora([str(mixed)], out, encoder=encoder, labels=[])
    kind = type(plain.tables())("../table", "table", plain.lines("|", "t"))
    with pytest.raises(ValueError, match=r"can name a folder, got '\.\./table'"):
        build_corpora([str(mixed)], out, encoder=encoder, kinds=[kind])
    assert not out.exists()


def test_a_plain_index_and_corpora_do_not_overwrite_each_other(
    mixed, build, encoder, tmp_path, out
):
    plain = tmp_path / "plain"
    build_index([str(mixed)], plain, encoder=encoder)
    with pytest.raises(IndexFolderError, match="is a plain index"):
        build(mixed, folder=plain)
    build(mixed)
    with pytest.raises(IndexFolderError, match="is a folder of corpora"):
        build_index([str(mixed)], out, encoder=encoder)
    with pytest.raises(IndexFolderError, match="is a folder of corpora"):
        build_index([str(mixed)], out / "paragraph", encoder=encoder)
    with pytest.raises(IndexFolderError, match="inside the corpora folder"):
        build(mixed, folder=out / "more")


def test_a_foreign_folder_is_refused(mixed, build, tmp_path):
    with pytest.raises(IndexFolderError, match=r"it holds 'apples\.md'"):
        build(mixed, folder=mixed)
    (tmp_path / "pictures" / "image").mkdir(parents=True)
    (tmp_path / "pictures" / "image" / "cat.png").write_bytes(b"x")
    with pytest.raises(IndexFolderError, match=r"it holds 'cat\.png'"):
        build(mixed, folder=tmp_path / "pictures")
    (tmp_path / "file").write_text("x")
    with pytest.raises(IndexFolderError, match="is a file"):
        build(mixed, folder=tmp_path / "file")


def test_another_encoder_needs_rebuild(mixed, build, out, encoder):
    build(mixed)
    other = type(encoder)("e" * 64, "other")
    before = files(out)
    with pytest.raises(IndexFolderError, match=r"made with encoder 'hash' .* got 'other'"):
        build(mixed, encoder=other)
    assert files(out) == before
    build(mixed, encoder=other, rebuild=True)
    assert read_corpora(out).encoder.name == "other"
    assert open_index(out / "table").manifest.encoder.name == "other"


def test_a_second_writer_is_refused(mixed, build, out):
    build(mixed)
    with FolderLock(out), pytest.raises(FolderLockedError, match="is being written"):
        build(mixed)


@pytest.mark.parametrize("texts", [0, 8, 20])
def test_a_first_build_can_be_interrupted_and_goes_on(mixed, build, out, encoder, texts):
    encoder.stop_after = texts
    with pytest.raises(KeyboardInterrupt):
        build(mixed)
    assert holds_corpora(out)
    with pytest.raises(IndexFolderError, match="first build was not finished"):
        open_corpora(out)
    encoder.stop_after = None
    build(mixed)
    assert list(open_corpora(out, encoder=encoder).corpora) == ["paragraph", "table"]


def test_an_interrupted_update_opens_and_says_to_run_again(mixed, build, out, encoder, plain):
    build(mixed)
    (mixed / "bridges.md").write_text("# Bridges\n\nNew text.\n\n| one new row |\n")
    paragraph, table = plain.paragraphs(), plain.tables()
    encoder.texts.clear()
    encoder.stop_after = 3  # passage and sentences of the paragraph, not of the table
    with pytest.raises(KeyboardInterrupt):
        build(mixed)
    opened = open_corpora(out, encoder=encoder)
    assert list(opened.corpora) == [paragraph.label, table.label]
    assert any("run `dovetail index` on its paths again" in note for note in opened.notes)
    encoder.stop_after = None
    build(mixed)
    assert open_corpora(out, encoder=encoder).notes == []


def test_a_crash_before_the_manifest_keeps_a_corpus_that_became_empty(
    mixed, build, out, encoder, monkeypatch
):
    build(mixed)
    (mixed / "bridges.md").write_text("# Bridges\n\nNo row is left here.\n")

    def crash(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.corpora.manifest.write_atomically", crash)
    with pytest.raises(KeyboardInterrupt):
        build(mixed)
    assert list(open_corpora(out, encoder=encoder).corpora) == ["paragraph", "table"]
    monkeypatch.undo()
    assert build(mixed).dropped == ("table",)


def test_a_lost_index_is_made_again(mixed, build, out):
    build(mixed)
    shutil.rmtree(out / "table")
    report = build(mixed)
    assert report.corpora["table"].passages == 2
    assert report.written


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is damaged .no JSON"),
        (b'{"dovetail_corpora": 99}', "corpora of format 99"),
        (b'{"dovetail_corpora": 1}', "is damaged .KeyError"),
        (b"[]", "somebody else's"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_named(mixed, build, out, content, message):
    build(mixed)
    (out / CORPORA).write_bytes(content)
    with pytest.raises(IndexFolderError, match=message):
        read_corpora(out)
    build(mixed, rebuild=True)
    assert read_corpora(out).filled == ("paragraph", "table")


def test_a_label_that_leaves_the_folder_is_refused(mixed, build, out):
    build(mixed)
    fields = json.loads((out / CORPORA).read_text())
    fields["corpora"]["../elsewhere"] = fields["corpora"].pop("table")
    (out / CORPORA).write_text(json.dumps(fields))
    with pytest.raises(IndexFolderError, match="can name a folder"):
        read_corpora(out)


def entry(model, document):
    return Segment(model, "passage", (1, 2, ord(document[6])), name="x", document=document)


def test_entries_of_changed_and_removed_documents_leave_the_shared_store(
    mixed, build, out, identity, encoder
):
    build(mixed)
    ids = ["notes/apples.md", "notes/bridges.md", "notes/clouds.md"]
    segments = [entry(identity(), id_) for id_ in ids]
    corpora = open_corpora(out, encoder=encoder, kv_disk=10**6, kv_ram=0)
    for segment in segments:
        tensor = torch.zeros(1, len(segment), 1, 2)
        assert corpora.kv.put(segment, SegmentKV(tensor, tensor))
    corpora.close()
    (mixed / "apples.md").unlink()
    (mixed / "bridges.md").write_text("# Bridges\n\nNo row is left here.\n")
    report = build(mixed)
    assert (report.kv_dropped, report.kv_pending) == (2, 0)
    corpora = open_corpora(out, encoder=encoder, kv_ram=0)
    assert [corpora.kv.get(s).kv is not None for s in segments] == [False, False, True]
    corpora.close()


def test_entries_of_a_corpus_that_is_not_asked_for_leave_the_store(
    mixed, build, out, identity, encoder, plain
):
    build(mixed)
    segment = entry(identity(), "notes/apples.md")
    corpora = open_corpora(out, encoder=encoder, kv_disk=10**6, kv_ram=0)
    tensor = torch.zeros(1, len(segment), 1, 2)
    corpora.kv.put(segment, SegmentKV(tensor, tensor))
    corpora.close()
    assert build(mixed, kinds=[plain.tables()]).kv_dropped == 1


def test_entries_wait_while_the_store_is_in_use(mixed, build, out, identity, encoder):
    build(mixed)
    corpora = open_corpora(out, encoder=encoder, kv_disk=10**6, kv_ram=0)
    segment = entry(identity(), "notes/bridges.md")
    tensor = torch.zeros(1, len(segment), 1, 2)
    corpora.kv.put(segment, SegmentKV(tensor, tensor))
    (mixed / "bridges.md").write_text("# Bridges\n\nNo row is left here.\n")
    report = build(mixed)
    assert (report.kv_dropped, report.kv_pending) == (0, 1)
    corpora.close()
    assert build(mixed).kv_dropped == 1


def test_what_two_corpora_share_is_encoded_once(notes, build, encoder):
    encoded = []

    class Counting:
        name, fingerprint, dim = encoder.name, encoder.fingerprint, encoder.dim

        def encode(self, texts, *, progress=None):
            encoded.extend(texts)
            return encoder.encode(texts, progress=progress)

    kinds = corpus_kinds(("paragraph", "document"))
    report = build(notes, kinds=kinds, encoder=Counting())
    assert list(report.corpora) == ["paragraph", "document"]
    assert len(encoded) == len(set(encoded)) == report.encoded


def test_stages_say_which_corpus_they_are_of(notes, build, plain):
    stages = []

    class Watching:
        def stage(self, name, total):
            stages.append(name)

        def advance(self, steps=1):
            pass

    build(notes, kinds=(plain.paragraphs(),), progress=Watching())
    assert "paragraph: encoding passages" in stages
