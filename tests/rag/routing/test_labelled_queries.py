"""Labelled queries: both layouts, folders and gzip, every mistake with file and line."""

import gzip
import json

import pytest

from rag.routing import LabelledQuery, read_labelled_queries
from rag.routing.labelled_queries import LabelledQueryError, queries_hash


def write(path, *lines):
    path.write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines))
    return path


def test_each_spelling_of_question_and_labels_is_read(tmp_path):
    path = write(
        tmp_path / "q.jsonl",
        {"id": "a", "question": "Who?", "route": "paragraph", "source": "squad", "more": 1},
        "",
        {"id": "b", "text": "How?", "routes": ["video", "paragraph"]},
        {"id": "c", "text": "Why?", "labels": ["none"]},
    )
    assert read_labelled_queries(path) == [
        LabelledQuery("a", "Who?", ("paragraph",), "squad"),
        LabelledQuery("b", "How?", ("video", "paragraph")),
        LabelledQuery("c", "Why?", ("none",)),
    ]


@pytest.mark.parametrize("zipped", [False, True])
def test_a_folder_is_read_by_its_file(tmp_path, zipped):
    line = json.dumps({"id": "a", "question": "Who?", "route": "x"}).encode()
    name, content = ("queries.jsonl.gz", gzip.compress(line)) if zipped else ("queries.jsonl", line)
    (tmp_path / name).write_bytes(content)
    assert [one.id for one in read_labelled_queries(tmp_path)] == ["a"]


GOOD = {"id": "a", "question": "Who?", "route": "x"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "Expecting property name"),
        ("[]", r"a line must be an object, got \[\]"),
        (GOOD, "id must be unique, got 'a' twice"),
        (GOOD | {"id": 3}, "id must be a text that is not empty, got 3"),
        (GOOD | {"id": "b", "question": None}, "question must be a text, got None"),
        (GOOD | {"id": "b", "question": " "}, "question must be a text that is not empty"),
        (GOOD | {"id": "b", "source": 1}, "source must be a text, got 1"),
        (GOOD | {"id": "b", "routes": ["x"]}, "one of route, routes and labels must be there, got"),
        ({"id": "b", "question": "Who?"}, "labels must be there, got none"),
        (GOOD | {"id": "b", "route": ["x"]}, r"route must be one label, got \['x'\]"),
        (GOOD | {"id": "b", "route": ""}, "route must be one label or more, none empty"),
        ({"id": "b", "text": "Who?", "labels": "x"}, "labels must be a list of labels, got 'x'"),
        ({"id": "b", "text": "Who?", "labels": [1]}, r"labels must hold texts only, got \[1\]"),
        ({"id": "b", "text": "Who?", "labels": []}, "route must be one label or more"),
        ({"id": "b", "text": "Who?", "labels": ["x", "x"]}, "routes must hold each label once"),
    ],
)
def test_a_mistake_is_named_with_file_and_line(tmp_path, line, message):
    path = write(tmp_path / "q.jsonl", GOOD, line)
    with pytest.raises(LabelledQueryError, match=rf"q\.jsonl:2: .*{message}"):
        read_labelled_queries(path)


def test_nothing_to_read_is_said(tmp_path):
    with pytest.raises(LabelledQueryError, match=r"must be a \.jsonl or \.jsonl\.gz file, or a"):
        read_labelled_queries(tmp_path)
    with pytest.raises(LabelledQueryError, match="must hold at least one line, got none"):
        read_labelled_queries(write(tmp_path / "q.jsonl", ""))
    (tmp_path / "q.jsonl.gz").write_bytes(b"no gzip")
    with pytest.raises(LabelledQueryError, match="cannot be read"):
        read_labelled_queries(tmp_path / "q.jsonl.gz")


def test_the_hash_depends_on_ids_texts_and_labels_only():
    one = LabelledQuery("a", "Who?", ("x",), "s")
    same = queries_hash([one])
    assert queries_hash([LabelledQuery("a", "Who?", ("x",))]) == same
    for other in (("b", "Who?", ("x",)), ("a", "Why?", ("x",)), ("a", "Who?", ("y",))):
        assert queries_hash([LabelledQuery(*other)]) != same
