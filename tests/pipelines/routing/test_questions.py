"""Questions of a folder and of a file, their sources, and every mistake with file and line."""

import gzip
import json

import pytest

from pipelines.routing.questions import read_judged_questions
from rag.evaluation.data import EvaluationDataError, Question

LINES = [
    {"id": "a", "question": "Who?", "answers": ["Olaf"], "source": "history"},
    {"id": "b", "question": "What?", "supporting": [{"doc_id": "d", "sentence_ids": [0]}]},
]


def write(path, *lines):
    path.write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines))
    return path


def test_a_file_gives_questions_and_sources(tmp_path):
    path = write(tmp_path / "q.jsonl", *LINES)
    expected = [Question("a", "Who?", ("Olaf",)), Question("b", "What?", (), {"d": ()})]
    assert read_judged_questions(path) == (expected, {"a": "history"})
    packed = tmp_path / "q.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read_judged_questions(packed)[0] == expected


def test_a_data_folder_gives_its_judgements_too(tmp_path):
    write(tmp_path / "queries.jsonl", *LINES)
    (tmp_path / "qrels.tsv").write_text("a\t0\tx\t1\n")
    questions, sources = read_judged_questions(tmp_path)
    assert questions[0].gold_documents == {"x"}
    assert questions[1].supporting == {"d": (0,)}
    assert sources == {"a": "history"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[]", r"a line must be an object, got \[\]"),
        (LINES[0], "id must be unique, got 'a' twice"),
        ({"id": 1, "question": "x"}, "id must be a text that is not empty, got 1"),
        ({"id": "c", "question": " "}, "question must be a text that is not empty"),
        ({"id": "c", "question": "x", "answers": "y"}, "answers must be a list of texts, got 'y'"),
        ({"id": "c", "question": "x", "supporting": ["d"]}, "supporting must be objects with doc"),
    ],
)
def test_a_mistake_is_named_with_file_and_line(tmp_path, line, message):
    path = write(tmp_path / "q.jsonl", LINES[0], line)
    with pytest.raises(EvaluationDataError, match=rf"q\.jsonl:2: .*{message}"):
        read_judged_questions(path)


def test_nothing_to_read_is_said(tmp_path):
    with pytest.raises(EvaluationDataError, match="must hold at least one question, got none"):
        read_judged_questions(write(tmp_path / "q.jsonl"))
    with pytest.raises(EvaluationDataError, match="does not exist"):
        read_judged_questions(tmp_path / "nowhere")
