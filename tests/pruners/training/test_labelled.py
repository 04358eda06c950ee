"""Labelled passages: what is read, what is refused and where, and what is left out."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruners.training.labelled import (
    LabelledDataError,
    LabelledPassage,
    data_sha,
    licences,
    read_labelled,
    without_passages_of,
)

ROW = {
    "id": "a",
    "source": "s",
    "question": "Who?",
    "title": "T",
    "sentences": ["One. ", "Two."],
    "gold": [1],
    "answers": ["x"],
}
DATA = Path(__file__).parents[4] / "shared" / "data" / "pruner_train"


def write(path, *rows):
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def test_reads_a_row(tmp_path):
    (one,) = read_labelled(write(tmp_path / "x.jsonl", ROW))
    wanted = LabelledPassage("a", "s", "Who?", "T", ("One.", "Two."), frozenset({1}), ("x",))
    assert one == wanted
    assert one.text == "One. Two."
    passage = one.passage()
    assert [span.of(passage.text) for span in passage.sentences] == ["One. ", "Two."]
    assert passage.title == "T"


@given(st.lists(st.text(min_size=1).map(str.strip).filter(bool), min_size=1, max_size=5))
def test_sentences_partition_the_text(sentences):
    passage = LabelledPassage("a", "s", "q", "", tuple(sentences), frozenset()).passage()
    assert "".join(span.of(passage.text) for span in passage.sentences) == passage.text
    assert passage.sentences[-1].end == passage.span.end == len(passage.text)
    assert [span.of(passage.text).strip() for span in passage.sentences] == sentences


def test_a_folder_a_file_and_a_compressed_file_say_the_same(tmp_path):
    plain = write(tmp_path / "train.jsonl", ROW, "", {**ROW, "id": "b"})
    other = tmp_path / "other"
    other.mkdir()
    with gzip.open(other / "train.jsonl.gz", "wb") as file:
        file.write(plain.read_bytes())
    assert read_labelled(plain) == read_labelled(tmp_path) == read_labelled(other)
    assert data_sha(plain) == data_sha(tmp_path) == data_sha(other)


def test_the_hash_moves_with_a_label(tmp_path):
    one = data_sha(write(tmp_path / "x.jsonl", ROW))
    assert data_sha(write(tmp_path / "x.jsonl", {**ROW, "gold": []})) != one


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**ROW, "gold": [2]}, r"x\.jsonl:2: gold must be rows of the 2 sentences, from 0, got"),
        ({**ROW, "gold": [-1]}, r"x\.jsonl:2: gold must be rows"),
        ({**ROW, "gold": [True]}, r"x\.jsonl:2: gold must be a list of rows, got \[True\]"),
        ({**ROW, "gold": None}, r"x\.jsonl:2: gold must be a list of rows, got None"),
        ({**ROW, "question": " "}, r"x\.jsonl:2: question must be a string that is not empty"),
        ({**ROW, "sentences": []}, r"x\.jsonl:2: sentences must be at least one string"),
        ({**ROW, "sentences": ["a", " "]}, r"x\.jsonl:2: sentences must be at least one string"),
        ({**ROW, "sentences": "a"}, r"x\.jsonl:2: sentences must be a list of strings, got 'a'"),
        ({**ROW, "answers": [1]}, r"x\.jsonl:2: answers must be a list of strings"),
        ({**ROW, "id": "first"}, r"x\.jsonl:2: id must be unique, got 'first' twice"),
        ([], r"x\.jsonl:2: a line must be a JSON object"),
        ("{", r"x\.jsonl:2: "),
    ],
)
def test_names_file_and_line_of_a_mistake(tmp_path, row, message):
    path = write(tmp_path / "x.jsonl", {**ROW, "id": "first"}, row)
    with pytest.raises(LabelledDataError, match=message):
        read_labelled(path)


def test_refuses_paths_that_hold_nothing(tmp_path):
    with pytest.raises(LabelledDataError, match=r"must hold train.jsonl or train.jsonl.gz"):
        read_labelled(tmp_path)
    with pytest.raises(LabelledDataError, match="must be a file or folder of labelled passages"):
        read_labelled(tmp_path / "none.jsonl")
    with pytest.raises(LabelledDataError, match=r"must end with .jsonl or .jsonl.gz, got 'x.txt'"):
        read_labelled(write(tmp_path / "x.txt", ROW))
    with pytest.raises(LabelledDataError, match="at least one line, got none"):
        read_labelled(write(tmp_path / "x.jsonl", ""))
    (tmp_path / "y.jsonl.gz").write_bytes(b"no gzip")
    for read in (read_labelled, data_sha):
        with pytest.raises(LabelledDataError, match="cannot be read"):
            read(tmp_path / "y.jsonl.gz")


def test_leaves_out_passages_of_evaluation_data_and_counts_them(tmp_path):
    path = write(tmp_path / "x.jsonl", ROW, {**ROW, "id": "b", "sentences": ["Three."], "gold": []})
    held = tmp_path / "held"
    held.mkdir()
    write(held / "corpus.jsonl", {"id": "d", "text": "one - TWO!"}, {"id": "e", "text": "Thre"})
    assert [one.id for one in read_labelled(path, leave_out=[held])] == ["b"]
    examples = read_labelled(path)
    assert without_passages_of(examples, [held]) == ([examples[1]], 1)
    assert without_passages_of(examples, []) == (examples, 0)


def test_licences_are_those_that_the_data_states(tmp_path):
    path = write(tmp_path / "train.jsonl", ROW)
    assert licences(path) == licences(tmp_path) == ()
    (tmp_path / "meta.json").write_text(json.dumps({"licence": "A MIT; B CC BY 4.0;"}))
    assert licences(path) == licences(tmp_path) == ("A MIT", "B CC BY 4.0")
    (tmp_path / "meta.json").write_text("[]")
    with pytest.raises(LabelledDataError, match="must be a JSON object"):
        licences(tmp_path)


@pytest.mark.skipif(not DATA.exists(), reason="development data are not here")
def test_reads_the_development_data():
    examples = read_labelled(DATA)
    assert len(examples) == 16_579
    assert sum(not one.gold for one in examples) == 4_509
    assert len(licences(DATA)) == 6
    left, dropped = without_passages_of(examples, [DATA.parent / "clapnq"])
    assert dropped == 289
    assert not any(one.source == "clapnq" for one in left)
