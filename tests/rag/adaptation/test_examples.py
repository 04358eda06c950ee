"""Examples to learn reading from: what they hold, and the file they come back from."""

import gzip
import json
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.adaptation.examples import ExampleError, ReadingExample, read_examples, write_examples
from rag.records import Edge, Passage, Query, Selection, SentenceScore, Span, text_sha


def passage(id_, sentences, kept=None, **fields):
    ends = [0]
    for sentence in sentences:
        ends.append(ends[-1] + len(sentence))
    spans = tuple(Span(*pair) for pair in pairwise(ends))
    text = "".join(sentences)
    start = fields.pop("start", 0)
    made = Passage(id_, f"{id_}.md", text, Span(start, start + len(text)), spans, **fields)
    if kept is None:
        return made
    scores = tuple(
        SentenceScore(span, round(0.9 - row / 7, 4), row in kept) for row, span in enumerate(spans)
    )
    return replace(made, kept=Selection(id_, text_sha(text), scores, "features", 0.25))


def example(**changes):
    fields = {
        "id": "q1",
        "data": "small",
        "query": Query("Which colour?"),
        "passages": (
            passage("a", ["It is red. ", "It is round."], [1], title="Apples", score=0.5),
            passage("b", ["Über ", "white", "."], [], start=7, edges=(Edge("b", "a", "seq", 0.5),)),
            passage("c", [], score=0.0),
        ),
        "answers": ("red", "a red"),
        "gold": {"a.md": (0,), "z.md": ()},
    }
    return ReadingExample(**(fields | changes))


@pytest.mark.parametrize("name", ["some.jsonl", "some.jsonl.gz"])
def test_what_was_written_is_read_in_order(tmp_path, name):
    examples = [
        example(),
        example(id="q2", answers=(), unanswerable=True, gold={"b.md": ()}),
        example(data="other", answers=(), gold={}),
    ]
    write_examples(tmp_path / name, examples)
    assert read_examples(tmp_path / name) == examples


def test_equal_examples_give_equal_bytes_whatever_the_order_of_gold(tmp_path):
    for name, gold in (("a", {"x": (1,), "a.md": ()}), ("b", {"a.md": (), "x": (1,)})):
        write_examples(tmp_path / f"{name}.jsonl.gz", [example(gold=gold)])
    written = (tmp_path / "a.jsonl.gz").read_bytes()
    assert written == (tmp_path / "b.jsonl.gz").read_bytes()
    assert written[4:8] == bytes(4)  # no time of day


def test_a_line_holds_what_its_layout_says(tmp_path):
    write_examples(tmp_path / "some.jsonl", [example()])
    line = json.loads((tmp_path / "some.jsonl").read_text())
    assert list(line) == ["id", "data", "question", "passages", "answers", "gold"]
    assert line["passages"][0] == {
        "id": "a",
        "document": "a.md",
        "title": "Apples",
        "text": "It is red. It is round.",
        "ends": [11, 23],
        "score": 0.5,
        "kept": {"rows": [1], "scores": [0.9, 0.7571], "method": "features", "threshold": 0.25},
    }
    assert line["passages"][2] == {"id": "c", "document": "c.md", "text": "", "score": 0.0}


@given(
    lengths=st.lists(st.lists(st.integers(1, 4), max_size=4), min_size=1, max_size=3),
    kept=st.sets(st.integers(0, 3)),
    pruned=st.booleans(),
)
def test_any_partition_and_decision_comes_back(tmp_path_factory, lengths, kept, pruned):
    passages = tuple(
        passage(f"p{n}", ["é" * one for one in sizes], kept if pruned else None)
        for n, sizes in enumerate(lengths)
    )
    path = tmp_path_factory.mktemp("any") / "some.jsonl"
    write_examples(path, [example(passages=passages)])
    [back] = read_examples(path)
    assert back.passages == passages
    assert [one.kept_rows for one in back.passages] == [one.kept_rows for one in passages]


def test_the_target_is_the_first_answer_or_a_refusal_or_nothing():
    from rag.generation.refusal import REFUSAL

    assert example().target == "red"
    assert example(answers=(), unanswerable=True).target == REFUSAL
    assert example(answers=()).target is None


def test_gold_passages_are_those_of_gold_documents_best_first():
    found = example(gold={"c.md": (), "a.md": (1,)}).gold_passages
    assert [one.id for one in found] == ["a", "c"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"passages": ()}, "at least one"),
        ({"passages": (passage("a", ["x"]), passage("a", ["y"]))}, "different ids"),
        ({"answers": ("red", " ")}, "answers must not be empty"),
        ({"unanswerable": True}, "unanswerable question must be none"),
    ],
)
def test_an_example_that_makes_no_sense_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        example(**changes)


GOOD = {"id": "a", "text": "ab", "ends": [1, 2]}
ASKED = {"id": "q", "data": "d", "question": "x?"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "Expecting"),
        ("[]", "must be a JSON object"),
        (ASKED, "passages must be a list"),
        (ASKED | {"passages": []}, "at least one"),
        (ASKED | {"passages": [GOOD], "question": " "}, "must not be empty"),
        (ASKED | {"passages": [GOOD], "id": 7}, "id must be str"),
        (ASKED | {"passages": [GOOD], "gold": {"a": ["0"]}}, r"gold.a\[0\] must be int"),
        (ASKED | {"passages": [GOOD | {"ends": [1]}]}, r"passages\[0\].ends must rise to the 2"),
        (ASKED | {"passages": [GOOD | {"ends": [2, 1, 2]}]}, "must rise"),
        (
            ASKED | {"passages": [GOOD | {"kept": {"rows": [2], "scores": [0, 1], "method": "m"}}]},
            r"kept must hold 2 scores and rows of as many sentences, got 2 scores and rows \[2\]",
        ),
        (
            ASKED | {"passages": [GOOD | {"kept": {"rows": [0], "scores": [0], "method": "m"}}]},
            "got 1 scores",
        ),
    ],
)
def test_a_line_out_of_the_layout_is_named(tmp_path, line, message):
    path = tmp_path / "some.jsonl"
    good = json.dumps(ASKED | {"passages": [GOOD], "id": "first"})
    path.write_text(f"{good}\n\n{line if isinstance(line, str) else json.dumps(line)}\n")
    with pytest.raises(ExampleError, match=rf"some\.jsonl:3: .*{message}"):
        read_examples(path)


def test_an_id_may_occur_once_in_a_data_set(tmp_path):
    path = tmp_path / "some.jsonl"
    write_examples(path, [example(), example(data="other"), example()])
    with pytest.raises(ExampleError, match=r"jsonl:3: id must be unique, got 'q1' of 'small'"):
        read_examples(path)


@pytest.mark.parametrize("name", ["none.jsonl", "some.txt"])
def test_a_file_that_is_no_file_of_examples_is_named(tmp_path, name):
    (tmp_path / "some.txt").write_text("")
    with pytest.raises(ExampleError, match=name):
        read_examples(tmp_path / name)


def test_a_cut_file_is_named(tmp_path):
    path = tmp_path / "some.jsonl.gz"
    path.write_bytes(gzip.compress(b"{}" * 500)[:-9])
    with pytest.raises(ExampleError, match="cannot be read"):
        read_examples(path)


def test_what_the_layout_cannot_hold_is_refused_and_the_file_stays(tmp_path):
    path = tmp_path / "some.jsonl"
    write_examples(path, [example()])
    before = path.read_bytes()
    holes = replace(passage("a", ["x", "y"]), sentences=(Span(0, 1),))
    words = passage("a", ["two words"], [0])
    halves = tuple(SentenceScore(span, 0.5, True) for span in (Span(0, 4), Span(4, 9)))
    words = replace(words, kept=replace(words.kept, sentences=halves, unit="word"))
    for wrong, message in ((holes, "must partition"), (words, "decide on its sentences")):
        with pytest.raises(ValueError, match=message):
            write_examples(path, [example(passages=(wrong,))])
    with pytest.raises(ValueError, match=r"must end with .jsonl"):
        write_examples(tmp_path / "some.json", [])
    assert path.read_bytes() == before
