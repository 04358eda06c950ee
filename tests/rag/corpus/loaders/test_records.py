"""Records: one document a line, metadata, bad lines by number."""

import pytest

from rag.corpus.loaders import records
from rag.errors import CorpusError


def load(text):
    return records.load(text.encode(), "d/a.jsonl", "a")


def test_each_line_is_a_document():
    first, second, third = load(
        '{"id": "x", "title": "T", "text": "One.", "year": 2020, "tags": ["no"], "by": null}\n\n'
        '{"contents": "Two."}\n{"id": 7, "body": "Three.", "ok": true}\n'
    )
    assert (first.id, first.title, first.text) == ("d/a.jsonl#x", "T", "One.")
    assert first.metadata == {"encoding": "utf-8", "year": 2020}
    assert (second.id, second.title, second.text) == ("d/a.jsonl#3", "a", "Two.")
    assert (third.id, third.metadata["ok"]) == ("d/a.jsonl#7", True)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not valid JSON"),
        ("[1]", "line 2: must be a JSON object, got list"),
        ('{"title": "x"}', "line 2: needs a key among text, contents, body, got none"),
        ('{"text": 3}', "line 2: 'text' must be a string that is not blank"),
        ('{"text": " "}', "line 2: 'text' must be a string that is not blank"),
        ('{"id": 1, "text": "b"}', "line 2: the id of 'd/a.jsonl#1' came before"),
    ],
)
def test_a_bad_line_is_an_error_with_its_number(line, message):
    with pytest.raises(CorpusError, match=message):
        load(f'{{"id": 1, "text": "a"}}\n{line}\n')


def test_the_text_of_a_table_is_marked_as_one():
    (table,) = load(
        '{"text": " Story.\\nA | B\\n1 | 2 ", "modality": "table", "table": {"rows": []}}'
    )
    assert [span.of(table.text) for span in table.tables] == ["Story.\nA | B\n1 | 2"]
    assert table.text == " Story.\nA | B\n1 | 2 "
    assert table.metadata["modality"] == "table"
    (text,) = load('{"text": "A | B", "modality": "text", "table": {"rows": []}}')
    assert text.tables == ()
