"""The index of evaluation data: made once, by content, whole or not at all."""

import json

import numpy as np
import pytest

from pipelines.evaluating.data_index import data_index, data_index_folder
from pipelines.index_folder import open_index
from rag.evaluation import EvaluationDataError, read_corpus
from rag.files import FolderLock


def listing(folder):
    return sorted((p.relative_to(folder), p.read_bytes()) for p in folder.rglob("*") if p.is_file())


def test_it_opens_as_an_index_of_the_lines(data, encoder, tmp_path):
    before = listing(data)
    folder = data_index(data, encoder=encoder)
    assert folder.parent == tmp_path / "cache" / "data-indexes"
    assert folder.name.startswith("small_set-")
    index = open_index(folder, encoder=encoder, thorough=True)
    assert list(index.passages.values()) == read_corpus(data)
    assert index.documents["a"].text == "Red. Round."
    assert index.documents["b"].title == "b"
    found = index.dense.vectors(["a", "c"])
    np.testing.assert_allclose(found, encoder.encode(["Apples\nRed. Round.", "Clouds\nWhite."]))
    assert index.sentence_vectors(index.passages["a"]).shape == (2, 16)
    assert index.sentence_vectors(index.passages["b"]).shape == (0, 16)
    assert listing(data) == before


def test_a_second_call_encodes_nothing_and_leaves_it_alone(data, encoder):
    folder = data_index(data, encoder=encoder)
    made, texts = listing(folder), len(encoder.texts)
    assert data_index(data, encoder=encoder) == folder
    assert len(encoder.texts) == texts
    assert listing(folder) == made


def test_another_corpus_or_encoder_is_another_index(data, encoder):
    first = data_index_folder(data, encoder)
    (data / "queries.jsonl").write_text("")
    assert data_index_folder(data, encoder) == first
    other = type(encoder)(fingerprint="e" * 64)
    assert data_index_folder(data, other) != first
    with (data / "corpus.jsonl").open("a") as file:
        file.write(json.dumps({"id": "d", "text": ""}) + "\n")
    assert data_index_folder(data, encoder) != first


def test_an_interrupted_build_is_no_index_and_goes_on(data, encoder):
    encoder.stop_after = 3
    with pytest.raises(KeyboardInterrupt):
        data_index(data, encoder=encoder)
    folder = data_index_folder(data, encoder)
    assert not (folder / "manifest.json").exists()
    encoder.stop_after = None
    data_index(data, encoder=encoder)
    assert encoder.texts == [*encoder.texts[:3], "Apples: Red.", "Apples: Round.", "Clouds: White."]
    assert not (folder / "partial").exists()


def test_a_damaged_index_is_made_again(data, encoder):
    folder = data_index(data, encoder=encoder)
    next(folder.rglob("passages.jsonl")).write_text("")
    data_index(data, encoder=encoder)
    assert len(open_index(folder).passages) == 3
    assert len(list((folder / "snapshots").iterdir())) == 1


def test_a_corpus_without_sentences_has_an_index(data, encoder):
    (data / "corpus.jsonl").write_text('{"id": "t", "title": "Title only", "text": ""}\n')
    index = open_index(data_index(data, encoder=encoder))
    assert index.sentences.shape == (0, 16)


def test_no_corpus_and_a_build_under_way_are_errors(data, encoder):
    folder = data_index_folder(data, encoder)
    folder.mkdir(parents=True)
    with FolderLock(folder), pytest.raises(Exception, match="is being written by process"):
        data_index(data, encoder=encoder)
    (data / "corpus.jsonl").unlink()
    with pytest.raises(EvaluationDataError, match="has no corpus"):
        data_index(data, encoder=encoder)


def test_vectors_of_sentences_come_when_they_are_first_needed(data, encoder):
    folder = data_index(data, encoder=encoder, sentences=False)
    assert not open_index(folder).has_sentence_vectors
    assert encoder.texts == ["Apples\nRed. Round.", "", "Clouds\nWhite."]
    encoder.texts.clear()
    assert data_index(data, encoder=encoder, sentences=False) == folder
    assert encoder.texts == []
    assert data_index(data, encoder=encoder) == folder
    index = open_index(folder)
    assert index.has_sentence_vectors
    assert index.sentence_vectors(index.passages["a"]).shape == (2, encoder.dim)
    assert not any("\n" in text for text in encoder.texts), "passages keep their vectors"
    encoder.texts.clear()
    data_index(data, encoder=encoder, sentences=False)
    assert open_index(folder).has_sentence_vectors, "what is there stays"
    assert encoder.texts == []


def test_an_index_of_data_gets_its_graph_and_keeps_its_sentences(data, encoder):
    folder = data_index(data, encoder=encoder)
    assert not open_index(folder).has_graph
    encoder.texts.clear()
    assert data_index(data, encoder=encoder, sentences=False, graph=True) == folder
    index = open_index(folder, thorough=True)
    assert encoder.texts == []
    assert index.has_sentence_vectors
    assert index.graph.ids.all() == sorted(passage.id for passage in read_corpus(data))
