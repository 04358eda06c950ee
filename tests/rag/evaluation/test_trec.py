"""TREC runs: what is written falls strictly, what is read is what was written, errors by line."""

from itertools import pairwise

import pytest
from hypothesis import given as given_any
from hypothesis import strategies as st

from rag.evaluation.data import EvaluationDataError
from rag.evaluation.trec import read_run, run_lines
from rag.records import Hit


@pytest.fixture
def run_file(tmp_path):
    def write(text):
        path = tmp_path / "run.txt"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_ranks_count_from_1_and_scores_fall():
    assert list(run_lines("q1", ["a", "b"], "mine")) == [
        "q1 Q0 a 1 1.00000000 mine",
        "q1 Q0 b 2 0.50000000 mine",
    ]
    scores = [line.split()[4] for line in run_lines("q", [f"d{n}" for n in range(1000)], "t")]
    assert len(set(scores)) == 1000
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("n", [9_999, 10_000, 99_999, 100_000])
def test_scores_fall_as_written_however_many_there_are(n):
    written = [line.split()[4] for line in run_lines("q", list(map(str, range(n))), "t")]
    scores = list(map(float, written))
    assert all(a > b for a, b in pairwise(scores))


def test_a_document_has_one_line():
    with pytest.raises(ValueError, match="documents must hold each id once, got 'a' again"):
        list(run_lines("q", ["a", "b", "a"], "t"))


@pytest.mark.parametrize("given", [("q 1", ["a"], "t"), ("q", ["a b"], "t"), ("q", ["a"], "")])
def test_white_space_has_no_place_in_a_line(given):
    with pytest.raises(ValueError, match="must be a word without white space"):
        list(run_lines(*given))


def test_reads_what_others_write(run_file):
    text = "\ufeffq2 Q0 b 0 1.5 x\r\n\r\nq1\t0\tb\t7\t-3e-2\tx\r\nq2 Q0 c 1 2 x\nq2 Q0 a 9 1.50 x\n"
    assert read_run(run_file(text)) == {
        "q2": [Hit("c", 2.0), Hit("a", 1.5), Hit("b", 1.5)],
        "q1": [Hit("b", -0.03)],
    }
    assert list(read_run(run_file(text))) == ["q2", "q1"]
    assert read_run(run_file("")) == {}


IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4).filter(
    lambda id_: id_.split() == [id_] and not id_.startswith("\ufeff")
)


@given_any(
    rankings=st.dictionaries(IDS, st.lists(IDS, unique=True, min_size=1, max_size=6), max_size=3)
)
def test_a_run_read_back_is_the_run_written(rankings, tmp_path_factory):
    lines = [line for question, ids in rankings.items() for line in run_lines(question, ids, "t")]
    path = tmp_path_factory.getbasetemp() / "written.txt"
    path.write_bytes("\n".join(lines).encode())
    found = read_run(path)
    assert list(found) == list(rankings)
    assert {question: [hit.id for hit in hits] for question, hits in found.items()} == rankings


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("q Q0 b 2 0.5", r"txt:2 must hold six fields \(question Q0 .* tag\), got 5"),
        ("q Q0 b 2 0.5 my tag", "txt:2 .*got 7"),
        ("q Q0 b 2 high t", "txt:2 must hold a finite score, got 'high'"),
        ("q Q0 b 2 nan t", "txt:2 must hold a finite score, got 'nan'"),
        ("q Q0 b 2 inf t", "txt:2 must hold a finite score, got 'inf'"),
        ("q Q0 a 2 0.5 t", "txt:2 names document 'a' of question 'q' again"),
    ],
)
def test_a_line_that_is_none_is_named(run_file, line, message):
    with pytest.raises(EvaluationDataError, match=message):
        read_run(run_file(f"q Q0 a 1 1.0 t\n{line}\n"))


def test_a_file_that_is_no_text_is_named(run_file, tmp_path):
    with pytest.raises(EvaluationDataError, match=r"run\.txt cannot be read"):
        read_run(run_file(b"q Q0 \xff 1 1.0 t"))
    with pytest.raises(EvaluationDataError, match="nowhere cannot be read"):
        read_run(tmp_path / "nowhere")


def test_trec_eval_s_relatives_rank_a_written_run_alike(tmp_path):
    ir_measures = pytest.importorskip("ir_measures")
    ids = [f"d{n}" for n in range(300)]
    path = tmp_path / "run.txt"
    path.write_text("".join(f"{line}\n" for line in run_lines("q", ids, "t")))
    run = sorted(ir_measures.read_trec_run(str(path)), key=lambda hit: -hit.score)
    assert [hit.doc_id for hit in run] == [hit.id for hit in read_run(path)["q"]] == ids
