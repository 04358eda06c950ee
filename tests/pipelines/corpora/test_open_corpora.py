"""Open corpora: what they share, scopes, KV stores, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.corpora.open_corpora import OpenCorpora
from pipelines.corpora.opening import holds_corpora, open_corpora, open_indexes
from pipelines.indexing import build_index
from pipelines.open_index import OpenIndex
from rag.errors import IndexFolderError
from rag.protocols import SegmentKV
from rag.records import Segment
from retrievers.filters import Filter, MetadataIndex


@pytest.fixture
def loads(encoder, monkeypatch):
    """Names of the encoders that are loaded."""
    names = []

    def load(name, **_):
        names.append(name)
        return encoder

    monkeypatch.setattr("rag.models.encoder.load_encoder", load)
    return names


@pytest.fixture
def apart(mixed, plain, encoder, tmp_path):
    """Folders of two indexes made one by one, by label."""
    folders = {"notes": tmp_path / "notes.idx", "rows": tmp_path / "rows.idx"}
    build_index([str(mixed)], folders["notes"], encoder=encoder)
    build_index([str(mixed)], folders["rows"], encoder=encoder, chunker=plain.tables().maker)
    return folders


@pytest.fixture
def tenants(plain, build, tmp_path):
    """Documents of two tenants, one of whom has the only table, in a corpora folder."""
    folder = tmp_path / "tenants"
    folder.mkdir()
    (folder / "a.jsonl").write_text(
        '{"id": "one", "text": "Acme builds bridges.", "tenant": "acme"}\n'
        '{"id": "two", "text": "Bolt builds boats.", "tenant": "bolt"}\n'
    )
    (folder / "b.jsonl").write_text('{"id": "three", "text": "| boat | 9 |", "owner": "bolt"}\n')
    words = type(plain.paragraphs())("paragraph", "text", plain.lines("", "", "text"))
    only_rows = plain.tables()
    build(folder, kinds=[plain.clips(), only_rows, words])
    return folder


def test_a_folder_opens_with_the_corpora_that_have_passages(mixed, build, out, encoder):
    build(mixed)
    corpora = open_corpora(out, encoder=encoder)
    assert list(corpora.corpora) == ["paragraph", "table"]
    assert corpora.empty == ("clip",)
    assert corpora.modalities == {"paragraph": "text", "table": "table", "clip": "video"}
    assert corpora.notes == []
    assert corpora.vision is None
    corpora.close()


def test_passages_are_those_of_all_corpora_by_id(mixed, build, out, encoder):
    build(mixed)
    corpora = open_corpora(out, encoder=encoder)
    parts = [dict(index.passages) for index in corpora.corpora.values()]
    assert dict(corpora.passages) == parts[0] | parts[1]
    assert len(corpora.passages) == len(parts[0]) + len(parts[1])
    assert "notes/bridges.md:t1" in corpora.passages
    assert "notes/bridges.md:t2" not in corpora.passages
    with pytest.raises(KeyError):
        corpora.passages["notes/bridges.md:t2"]


def test_sentence_vectors_are_those_of_the_passage_s_own_corpus(mixed, build, out, encoder):
    build(mixed)
    corpora = open_corpora(out, encoder=encoder)
    vectors = corpora.sentence_vectors
    for index in corpora.corpora.values():
        for passage in index.passages.values():
            assert np.array_equal(vectors(passage), index.sentence_vectors(passage))
    stranger = type(passage)("x:0", "x", "", passage.span, ())
    with pytest.raises(KeyError, match="x:0"):
        vectors(stranger)


def test_there_are_no_sentence_vectors_if_one_corpus_lacks_them(
    mixed, build, out, encoder, monkeypatch
):
    build(mixed)
    corpora = open_corpora(out, encoder=encoder)
    last = corpora.corpora["table"].folder
    monkeypatch.setattr(type(last), "has_sentence_vectors", property(lambda self: self is not last))
    assert corpora.sentence_vectors is None


def test_the_encoder_is_loaded_once_and_late(mixed, build, out, loads, encoder):
    build(mixed)
    corpora = open_corpora(out)
    assert loads == []
    assert corpora.encoder.fingerprint == encoder.fingerprint
    expected = encoder.encode_queries(["who"])
    for index in corpora.corpora.values():
        assert np.array_equal(index.encoder.encode_queries(["who"]), expected)
        assert np.array_equal(index.encoder.encode(["who"]), expected)
        assert index.encoder.dim == encoder.dim
    assert loads == ["hash"]


def test_a_question_is_encoded_once_for_all_corpora(mixed, build, out, loads, encoder):
    build(mixed)
    corpora = open_corpora(out)
    del encoder.texts[:]
    for index in (corpora, *corpora.corpora.values()):
        index.encoder.encode_queries(["who"])
    assert encoder.texts == ["who"]


def test_the_fingerprint_follows_content_scope_and_labels(mixed, build, out, encoder, apart):
    build(mixed)
    one = open_corpora(out, encoder=encoder).fingerprint
    assert open_corpora(out, encoder=encoder).fingerprint == one
    scoped = open_corpora(out, encoder=encoder, scope={"source": "notes/bridges.md"})
    assert scoped.fingerprint != one
    (mixed / "apples.md").write_text("Other text.\n")
    build(mixed)
    assert open_corpora(out, encoder=encoder).fingerprint != one


def test_a_plain_index_counts_as_paragraphs_and_stays_open(mixed, tmp_path, encoder):
    build_index([str(mixed)], tmp_path / "idx", encoder=encoder)
    index = OpenIndex(tmp_path / "idx", encoder=encoder)
    corpora = OpenCorpora.of(index)
    assert list(corpora.corpora.items()) == [("paragraph", index)]
    assert corpora.modalities == {"paragraph": "text"}
    assert corpora.kv is index.kv
    index.notes.append("one")
    assert corpora.notes == ["one"]
    store = index.kv
    corpora.close()
    assert index.kv is store
    assert OpenCorpora.of(corpora) is corpora
    index.close()


def test_a_step_for_one_index_says_what_to_do(mixed, build, out, encoder):
    from pipelines.catalogue.retrieval import hybrid

    build(mixed)
    corpora = open_corpora(out, encoder=encoder)
    with pytest.raises(
        IndexFolderError, match=r"corpora \(paragraph, table\): use recipe univ"
    ) as e:
        hybrid(corpora)
    assert f"-i {out / 'paragraph'}" in str(e.value)
    for name in ("dense", "sparse", "graph", "select", "existing", "folder"):
        with pytest.raises(IndexFolderError, match="searches one index"):
            getattr(corpora, name)


def test_one_corpus_opens_by_itself(mixed, build, out, encoder):
    build(mixed)
    assert list(OpenIndex(out / "table", encoder=encoder).passages) == [
        "notes/bridges.md:t0",
        "notes/bridges.md:t1",
    ]


def test_a_scope_holds_for_every_corpus(tenants, out, encoder):
    corpora = open_corpora(out, encoder=encoder, scope={"tenant": "acme"})
    assert list(corpora.passages) == ["tenants/a.jsonl#one:0"]
    assert list(corpora.corpora) == ["paragraph"]
    assert corpora.empty == ("clip", "table")
    paragraph = corpora.corpora["paragraph"]
    found = paragraph.dense.search_vectors(encoder.encode(["Bolt builds boats."]), 9)[0]
    assert [hit.id for hit in found] == ["tenants/a.jsonl#one:0"]
    assert "tenants/a.jsonl#two:0" not in corpora.passages


def test_a_scope_may_name_a_field_that_one_corpus_lacks(tenants, out, encoder):
    scope = {"or": [{"tenant": "acme"}, {"owner": "bolt"}]}
    corpora = open_corpora(out, encoder=encoder, scope=scope)
    documents = {passage.document for passage in corpora.passages.values()}
    assert documents == {"tenants/a.jsonl#one", "tenants/b.jsonl#three"}


def test_a_scope_that_names_no_field_of_any_corpus_is_a_mistake(tenants, out, encoder):
    with pytest.raises(ValueError, match=r"no field 'tenent'.*did you mean 'tenant'"):
        open_corpora(out, encoder=encoder, scope={"tenent": "acme"})
    with pytest.raises(ValueError, match="must be text"):
        open_corpora(out, encoder=encoder, scope={"tenant": 3})


def test_a_scope_that_fits_nothing_leaves_nothing_to_find(tenants, out, encoder):
    corpora = open_corpora(out, encoder=encoder, scope={"tenant": "nobody"})
    assert list(corpora.passages) == []
    assert len(corpora.corpora) == 1


def test_indexes_made_one_by_one_open_under_labels_of_one_s_own(apart, encoder):
    corpora = open_indexes({"notes": apart["notes"]}, modalities={"notes": "text"}, encoder=encoder)
    assert corpora.modalities == {"notes": "text"}
    assert corpora.kv is corpora.corpora["notes"].kv
    corpora.close()
    both = open_indexes(apart, modalities={"rows": "table"}, encoder=encoder)
    assert both.modalities == {"notes": "notes", "rows": "table"}
    with pytest.raises(ValueError, match="got none"):
        open_indexes({})


def test_each_index_made_by_itself_keeps_its_own_kv(mixed, plain, encoder, tmp_path, identity):
    other = tmp_path / "other"
    other.mkdir()
    (other / "rivers.md").write_text("| river | long |\n")
    folders = {"paragraph": tmp_path / "p", "table": tmp_path / "t"}
    build_index([str(mixed)], folders["paragraph"], encoder=encoder)
    build_index([str(other)], folders["table"], encoder=encoder, chunker=plain.tables().maker)
    corpora = open_indexes(folders, encoder=encoder, kv_ram=0, kv_disk=10**6)
    for document, kept_by in (("other/rivers.md", "table"), ("", "paragraph"), ("?", "paragraph")):
        segment = Segment(identity(), "passage", (1, len(document)), document=document)
        tensor = torch.zeros(1, 2, 1, 2)
        assert corpora.kv.put(segment, SegmentKV(tensor, tensor))
        assert corpora.kv.get(segment).kv is not None
        stores = {label: index.kv.get(segment).kv for label, index in corpora.corpora.items()}
        assert [label for label, kv in stores.items() if kv is not None] == [kept_by]
    corpora.close()


def test_two_encoders_are_refused_by_name(mixed, plain, encoder, tmp_path):
    other = type(encoder)("e" * 64, "other")
    build_index([str(mixed)], tmp_path / "p", encoder=encoder)
    build_index([str(mixed)], tmp_path / "t", encoder=other, chunker=plain.tables().maker)
    folders = {"paragraph": tmp_path / "p", "table": tmp_path / "t"}
    with pytest.raises(IndexFolderError, match=r"'hash' .*'other'|'other' .*'hash'"):
        open_indexes(folders)
    opened = {label: OpenIndex(folder) for label, folder in folders.items()}
    with pytest.raises(
        IndexFolderError, match=r"paragraph was made with 'hash'.*table with 'other'"
    ):
        OpenCorpora(opened)


def test_an_id_in_two_corpora_is_refused_by_name(mixed, encoder, tmp_path):
    for name in ("p", "d"):
        build_index([str(mixed)], tmp_path / name, encoder=encoder)
    folders = {"paragraph": tmp_path / "p", "document": tmp_path / "d"}
    with pytest.raises(IndexFolderError, match=r"paragraph and document both have.*notes/.*:0"):
        open_indexes(folders, encoder=encoder)


def test_a_store_in_use_is_read_and_noted(mixed, build, out, encoder):
    build(mixed)
    first = open_corpora(out, encoder=encoder)
    assert first.kv.folder == out / "kv"
    second = open_corpora(out, encoder=encoder)
    assert second.kv.read_only
    assert "keeping new entries in RAM only" in second.notes[0]
    first.close()
    first.close()
    second.close()


def test_a_folder_of_corpora_is_told_from_others(mixed, build, out, encoder, tmp_path):
    build_index([str(mixed)], tmp_path / "plain", encoder=encoder)
    build(mixed)
    assert holds_corpora(out)
    for folder in (tmp_path / "plain", out / "table", mixed, tmp_path / "nowhere"):
        assert not holds_corpora(folder)
    (out / "corpora.json").unlink()
    assert holds_corpora(out)
    with pytest.raises(IndexFolderError, match="first build was not finished"):
        open_corpora(out)
    with pytest.raises(IndexFolderError, match="does not exist"):
        open_corpora(Path("nowhere"))


METADATA = [
    {"a": 1},
    {"a": "x", "b": True},
    {"b": False},
    {"c": 2.5},
    {},
]
SCOPES = [
    {"a": 1},
    {"a": {"ne": 1}},
    {"c": {"ne": 2.5}},
    {"a": {"in": [1, "x"]}},
    {"a": {"nin": [1, "x"]}},
    {"a": {"nin": [1]}},
    {"c": {"gte": 2}},
    {"b": {"exists": False}},
    {"b": {"exists": True}},
    {"not": {"c": 2.5}},
    {"or": [{"b": True}, {"c": {"lt": 3}}]},
    {"and": [{"not": {"b": True}}, {"a": {"exists": True}}]},
]


@pytest.mark.parametrize("scope", SCOPES, ids=str)
def test_a_narrowed_scope_lets_through_the_same_passages(scope):
    from pipelines.corpora.scope import for_corpus

    wanted = Filter.parse(scope)
    for size in range(1, len(METADATA) + 1):
        for start in range(len(METADATA) - size + 1):
            rows = [(str(n), METADATA[n]) for n in range(start, start + size)]
            index = MetadataIndex(rows)
            expected = {id_ for id_, metadata in rows if wanted.matches(metadata)}
            assert index.select(for_corpus(wanted, index.fields)) == expected
