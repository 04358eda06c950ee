"""Data folders: what a line becomes, sampling, and mistakes with file and line."""

import gzip
import json
from pathlib import Path

import pytest

from rag.evaluation.data import (
    EvaluationDataError,
    Question,
    corpus_sha,
    data_sha,
    read_corpus,
    read_questions,
    sample,
)
from rag.records import Span

SHARED = Path(__file__).parents[4] / "shared" / "data"


def write(path, *lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def corpus(folder, **fields):
    write(folder / "corpus.jsonl", {"id": "d", "title": "T", "text": "", **fields})
    return read_corpus(folder)[0]


def test_a_line_is_one_passage_and_its_sentences_partition_the_text(tmp_path):
    passage = corpus(tmp_path, text=" One.  Two. \n", sentences=["One.", "Two."])
    assert (passage.id, passage.document, passage.title) == ("d", "d", "T")
    assert passage.span == Span(0, 13)
    assert passage.sentences == (Span(0, 7), Span(7, 13))
    assert "".join(span.of(passage.text) for span in passage.sentences) == passage.text


def test_metadata_of_a_line_is_that_of_its_passage(tmp_path):
    facts = {"year": 2024, "lang": "en", "draft": False, "share": 0.5}
    assert corpus(tmp_path, metadata=facts).metadata == facts
    assert corpus(tmp_path).metadata == {}
    for wrong, message in (([], "metadata must be an object"), ({"a": [1]}, "metadata.a must be")):
        with pytest.raises(EvaluationDataError, match=message):
            corpus(tmp_path, metadata=wrong)


def test_a_repeated_sentence_is_found_after_the_one_before(tmp_path):
    passage = corpus(tmp_path, text="Yes. No. Yes.", sentences=["Yes.", "No.", "Yes."])
    assert [span.start for span in passage.sentences] == [0, 5, 9]


def test_an_empty_text_has_no_sentence_and_a_blank_one_has_one(tmp_path):
    assert corpus(tmp_path, text="", sentences=[]).sentences == ()
    assert corpus(tmp_path, text="  ", sentences=[]).sentences == (Span(0, 2),)


def test_a_table_without_sentences_has_one_a_row(tmp_path):
    passage = corpus(tmp_path, text="About it.\n | A | B\n1 | 2", modality="table", table={})
    assert passage.modality == "table"
    assert [s.of(passage.text) for s in passage.sentences] == ["About it.\n ", "| A | B\n", "1 | 2"]


def test_a_text_without_sentences_is_split_by_rule(tmp_path):
    passage = corpus(tmp_path, text="One is here. Two is there.")
    assert [s.of(passage.text) for s in passage.sentences] == ["One is here. ", "Two is there."]


def test_gzip_reads_like_plain_and_hashes_alike(tmp_path):
    write(tmp_path / "corpus.jsonl", {"id": "d", "text": "Über.", "sentences": ["Über."]})
    plain, sha = read_corpus(tmp_path), corpus_sha(tmp_path)
    content = (tmp_path / "corpus.jsonl").read_bytes()
    (tmp_path / "corpus.jsonl").unlink()
    (tmp_path / "corpus.jsonl.gz").write_bytes(gzip.compress(content))
    assert read_corpus(tmp_path) == plain
    assert corpus_sha(tmp_path) == sha


def test_questions_carry_their_judgements(tmp_path):
    support = [
        {"doc_id": "a", "sentence_ids": [2, 0]},
        {"doc_id": "a", "sentence_ids": [1]},
        {"doc_id": "b", "sentence_ids": []},
    ]
    write(
        tmp_path / "queries.jsonl",
        {"id": "q", "question": "Who?", "answers": ["She"], "supporting": support, "level": "x"},
        {"id": "r", "question": "Where?"},
    )
    (tmp_path / "qrels.tsv").write_text("q 0 a 2\nq 0 c 0\nz 0 a 1\nr\t0\tc\t1\nr 0 d 0\n")
    first, second = read_questions(tmp_path)
    assert first.answers == ("She",)
    assert first.supporting == {"a": (0, 1, 2), "b": ()}
    assert first.relevant == {"a": 2, "c": 0}
    assert first.gold_documents == {"a", "b"}
    assert second == Question("r", "Where?", relevant={"c": 1, "d": 0})
    assert second.gold_documents == {"c"}


def test_unanswerable_questions_are_read_when_asked_for(tmp_path):
    write(tmp_path / "queries.jsonl", {"id": "q", "question": "Who?"})
    extra = {"id": "u", "question": "Why?", "unanswerable": True}
    write(tmp_path / "unanswerable.jsonl", extra)
    assert [q.id for q in read_questions(tmp_path)] == ["q"]
    read = read_questions(tmp_path, unanswerable=True)
    assert [(q.id, q.unanswerable) for q in read] == [("q", False), ("u", True)]
    write(tmp_path / "unanswerable.jsonl", extra | {"id": "q"})
    with pytest.raises(EvaluationDataError, match=r"unanswerable.jsonl:1: id 'q' occurs twice"):
        read_questions(tmp_path, unanswerable=True)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"corpus.jsonl:2: Expecting"),
        ("[]", "corpus.jsonl:2: must be a JSON object"),
        ('{"text": ""}', "id must be a string that is not empty, got None"),
        ('{"id": "x"}', "text must be a string, got None"),
        ('{"id": "a", "text": ""}', "id 'a' occurs twice"),
        ('{"id": "x", "text": "", "title": 3}', "title must be a string, got 3"),
        ('{"id": "x", "text": "A b.", "sentences": ["A"]}', "must cover text, left out 'b.'"),
        ('{"id": "x", "text": "A b.", "sentences": ["b."]}', r"sentences\[0\] must follow in text"),
        ('{"id": "x", "text": "A", "sentences": [""]}', r"sentences\[0\] must follow in text"),
        ('{"id": "x", "text": "A", "sentences": [1]}', "sentences must be a list of strings"),
    ],
)
def test_a_bad_corpus_line_is_named(tmp_path, line, message):
    (tmp_path / "corpus.jsonl").write_text(f'{{"id": "a", "text": ""}}\n{line}\n')
    with pytest.raises(EvaluationDataError, match=message) as caught:
        read_corpus(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}/corpus.jsonl:2: ")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"question": " "}, "question must be a string that is not empty"),
        ({"answers": "one"}, "answers must be a list of strings, got 'one'"),
        ({"supporting": ["a"]}, "supporting must be a list of objects"),
        ({"supporting": [{"doc_id": "a", "sentence_ids": [-1]}]}, "sentence_ids must be a list"),
    ],
)
def test_a_bad_question_line_is_named(tmp_path, fields, message):
    write(tmp_path / "queries.jsonl", {"id": "q", "question": "Who?", **fields})
    with pytest.raises(EvaluationDataError, match=f"queries.jsonl:1: {message}"):
        read_questions(tmp_path)


def test_a_bad_judgement_is_named(tmp_path):
    write(tmp_path / "queries.jsonl", {"id": "q", "question": "Who?"})
    (tmp_path / "qrels.tsv").write_text("q\t0\ta\t1\n\nq\t0\ta\n")
    with pytest.raises(EvaluationDataError, match=r"qrels.tsv:3: must be question id, 0, document"):
        read_questions(tmp_path)


def test_missing_and_empty_files_are_named(tmp_path):
    with pytest.raises(EvaluationDataError, match=r"has no corpus.jsonl or corpus.jsonl.gz"):
        read_corpus(tmp_path)
    with pytest.raises(EvaluationDataError, match="does not exist; give a folder"):
        read_questions(tmp_path / "nowhere")
    (tmp_path / "corpus.jsonl").write_text("\n")
    with pytest.raises(EvaluationDataError, match="has an empty corpus"):
        read_corpus(tmp_path)
    (tmp_path / "queries.jsonl.gz").write_bytes(gzip.compress(b"x" * 99)[:20])
    with pytest.raises(EvaluationDataError, match="cannot be read"):
        read_questions(tmp_path)


def test_a_sample_depends_on_ids_and_seed_and_a_larger_one_holds_it():
    questions = [Question(f"q{n}", "Who?") for n in range(50)]
    ten = sample(questions, 10, 3)
    assert len(ten) == 10
    assert ten == sorted(ten, key=questions.index)
    assert sample(questions[::-1], 10, 3) == ten[::-1]
    assert set(map(id, ten)) < set(map(id, sample(questions, 20, 3)))
    assert sample(questions, 10, 4) != ten
    assert sample(questions, 99) == sample(questions, None) == questions
    with pytest.raises(ValueError, match="limit must be at least 1, got 0"):
        sample(questions, 0)


def test_the_hash_of_data_changes_with_every_file(tmp_path):
    seen = {data_sha(tmp_path)}
    for name in ("corpus.jsonl", "queries.jsonl", "qrels.tsv", "unanswerable.jsonl"):
        (tmp_path / name).write_text("x")
        seen.add(data_sha(tmp_path))
    assert len(seen) == 5


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared evaluation data are not here")
@pytest.mark.parametrize("name", ["qed", "clapnq", "ottqa_tables"])
def test_shared_data_read_whole(name):
    passages = {passage.id: passage for passage in read_corpus(SHARED / name)}
    for passage in passages.values():
        assert "".join(span.of(passage.text) for span in passage.sentences) == passage.text
    counts = json.loads((SHARED / name / "meta.json").read_text())["counts"]
    questions = read_questions(SHARED / name)
    assert (len(passages), len(questions)) == (counts["docs"], counts["queries"])
    for question in questions:
        for document, rows in question.supporting.items():
            assert max(rows, default=-1) < len(passages[document].sentences)
