"""Lines of JSON: documents and passages come back exactly, one at a time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.record_lines import (
    RecordFile,
    document_line,
    parse_document,
    parse_passage,
    passage_line,
)
from rag.records import Cue, Document, Passage, Section, Span

# Every code point, lone surrogates too: a pair of those must not come back as one character.
texts = st.text(st.characters(), max_size=20) | st.just("\ud83d\ude00\n\u2028")
metadata = st.dictionaries(
    texts, st.booleans() | st.integers() | st.floats(allow_nan=False) | texts, max_size=3
)
spans = st.builds(lambda a, b: Span(min(a, b), max(a, b)), st.integers(0, 99), st.integers(0, 99))
documents = st.builds(
    Document,
    texts,
    texts,
    texts,
    st.lists(st.builds(Section, st.integers(0, 9), st.integers(1, 6), texts)).map(tuple),
    st.lists(st.integers(0, 99)).map(tuple),
    metadata,
    tables=st.lists(spans).map(tuple),
    cues=st.lists(st.builds(Cue, spans, st.floats(0, 9), st.floats(0, 9))).map(tuple),
)
passages = st.builds(
    Passage,
    id=texts,
    document=texts,
    text=texts,
    span=spans,
    sentences=st.lists(spans).map(tuple),
    title=texts,
    page=st.none() | st.integers(1, 9),
    modality=st.sampled_from(["text", "table"]),
    previous=st.none() | texts,
    next=st.none() | texts,
    parent=st.none() | texts,
    metadata=metadata,
)


@given(documents)
def test_documents_come_back_exactly(document):
    line = document_line(document)
    assert b"\n" not in line
    assert parse_document(line) == document


@given(passages)
def test_passages_come_back_exactly(passage):
    line = passage_line(passage)
    assert b"\n" not in line
    assert parse_passage(line) == passage


def test_a_record_file_keeps_the_order_and_outlives_its_name(tmp_path):
    path = tmp_path / "documents.jsonl"
    made = [Document(id_, f"text of {id_}\n", id_) for id_ in ("b", "a", "c")]
    path.write_bytes(b"".join(document_line(d) + b"\n" for d in made))
    records = RecordFile(path, ["b", "a", "c"], parse_document)
    path.unlink()
    assert list(records.values()) == made
    assert records.row("c") == 2
    assert "d" not in records
    with pytest.raises(KeyError):
        records["d"]
