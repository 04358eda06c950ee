"""Labelled queries: both layouts, folders and gzip, every mistake with file and line."""

import gzip
import json

import pytest

from rag.routing import LabelledQuery, read_labelled_queries
from rag.routing.labelled_queries import LabelledQueryError, labelled_line, queries_hash


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
        (GOOD | {"id": "b", "outcomes": [1]}, r"outcomes must be an object of numbers, got \[1\]"),
        (GOOD | {"id": "b", "outcomes": {"x": True}}, "outcomes must be an object of numbers, got"),
        (GOOD | {"id": "b", "costs": {"x": "1"}}, "costs must be an object of numbers, got"),
        (GOOD | {"id": "b", "outcomes": {"x": 1.1}}, r"outcomes\.x must be in \[0, 1\], got 1.1"),
        (GOOD | {"id": "b", "outcomes": {"y": 1}}, "every label of the question, got none of 'x'"),
        (
            GOOD | {"id": "b", "outcomes": {"x": 1}, "costs": {"x": -1}},
            r"costs\.x must be at least 0 and finite, got -1",
        ),
        (
            GOOD | {"id": "b", "outcomes": {"x": 1}, "costs": {"x": 1, "y": 1}},
            "costs must be of the same routes as outcomes, got x, y and x",
        ),
        (GOOD | {"id": "b", "costs": {"x": 1}}, "as outcomes, got x and none"),
    ],
)
def test_a_mistake_is_named_with_file_and_line(tmp_path, line, message):
    path = write(tmp_path / "q.jsonl", GOOD, line)
    with pytest.raises(LabelledQueryError, match=rf"q\.jsonl:2: .*{message}"):
        read_labelled_queries(path)


@pytest.mark.parametrize(
    "query",
    [
        LabelledQuery("a", "Wie groß?", ("x",)),
        LabelledQuery("a", "Who?", ("x", "y"), "s", {"x": 1, "y": 0.25}, {"y": 7, "x": 0}),
    ],
)
def test_a_line_is_read_as_it_was_written(tmp_path, query):
    path = tmp_path / "q.jsonl"
    path.write_text(labelled_line(query))
    assert read_labelled_queries(path) == [query]


def test_a_line_says_no_more_than_is_known():
    assert labelled_line(LabelledQuery("a", "Groß?", ("x",))) == (
        '{"id": "a", "question": "Groß?", "route": "x"}\n'
    )


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
    assert same.startswith("952293f46ec734fb")
    assert queries_hash([LabelledQuery("a", "Who?", ("x",))]) == same
    assert queries_hash([LabelledQuery("a", "Who?", ("x",), outcomes={"x": 1.0})]) == same
    for other in (("b", "Who?", ("x",)), ("a", "Why?", ("x",)), ("a", "Who?", ("y",))):
        assert queries_hash([LabelledQuery(*other)]) != same
