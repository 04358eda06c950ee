"""Rows: round trip, resuming, summaries, and comparing two runs."""

import json

import pytest

from rag.evaluation import (
    Outcome,
    Question,
    Row,
    RowLog,
    RowsError,
    compare_rows,
    read_rows,
    summarise,
)
from rag.records import Answer, Hit


def row(id_, error=None, config="c", **metrics):
    return Row(id_, "Who?", "She", ("She",), ("a", "b"), metrics, error, config=config)


def log(path, *ids, config="c"):
    return RowLog(path, config=config, ids=ids)


def test_a_row_holds_what_programs_read_and_comes_back(tmp_path):
    question = Question("q", "Où?", ("Paris",))
    outcome = Outcome([Hit("a", 1.0)] * 2 + [Hit(f"d{n}", 0.0) for n in range(200)])
    made = Row.of(question, outcome, {"AP": 0.5}, "c")
    fields = json.loads(made.line())
    assert {"id", "question", "answer", "gold_answers", "ranking", "metrics", "error"} < set(fields)
    assert fields["ranking"][:2] == ["a", "d0"]
    assert len(fields["ranking"]) == 100
    assert fields["answer"] is fields["error"] is None
    (tmp_path / "rows").write_text(made.line())
    assert read_rows(tmp_path / "rows") == [made]


def test_what_an_answer_that_abstains_said_is_kept_apart():
    answer = Answer("Maybe.", abstained=True)
    made = Row.of(Question("q", "Who?"), Outcome(answer=answer), {}, "c")
    assert (made.answer, made.abstained, made.withheld) == ("", True, "Maybe.")


def test_a_log_goes_on_where_it_was_and_drops_a_torn_line(tmp_path):
    path = tmp_path / "rows.jsonl"
    with log(path, "a", "b") as first:
        assert first.done == {}
        first.append([row("a", EM=1.0)])
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"id": "b", "que')
    with log(path, "a", "b", "z") as second:
        assert second.done == {"a": row("a", EM=1.0)}
        assert path.read_bytes() == whole
        second.append([row("b", EM=0.0)])
    assert read_rows(path) == [row("a", EM=1.0), row("b", EM=0.0)]


def test_rows_are_on_disk_before_append_returns(tmp_path):
    with log(tmp_path / "rows", "a") as opened:
        opened.append([row("a")])
        assert read_rows(tmp_path / "rows") == [row("a")]


def test_rows_of_another_run_are_refused_and_left_alone(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(row("a").line() + '{"torn')
    before = path.read_bytes()
    with pytest.raises(RowsError, match="holds rows of another recipe, option, model or data"):
        log(path, "a", config="d")
    with pytest.raises(RowsError, match="holds 1 rows of questions that this run does not ask"):
        log(path, "b")
    assert path.read_bytes() == before


def test_one_run_at_a_time_holds_a_file(tmp_path):
    with log(tmp_path / "rows", "a"), pytest.raises(RowsError, match="written by another run"):
        log(tmp_path / "rows", "a")
    log(tmp_path / "rows", "a").close()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no rows"),
        ("x\n", ":1: not a row of `dovetail eval`: Expecting value"),
        ('{"id": "a"}\n', ":1: not a row of `dovetail eval`: row lacks question"),
        (row("a").line() * 2, ":2: not a row of `dovetail eval`: id 'a' occurs twice"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, content, message):
    (tmp_path / "rows").write_text(content)
    with pytest.raises(RowsError, match=message):
        read_rows(tmp_path / "rows")


def test_files_that_cannot_be_opened_are_named(tmp_path):
    with pytest.raises(RowsError, match="cannot be read: No such file"):
        read_rows(tmp_path / "nowhere")
    with pytest.raises(RowsError, match="cannot be written: Is a directory"):
        log(tmp_path, "a")


def test_a_summary_takes_the_questions_that_have_a_metric():
    found = summarise([row("a", EM=1.0, AP=0.5), row("b", EM=0.0), row("c", EM=0.5)])
    assert list(found) == ["AP", "EM"]
    assert (found["EM"].mean, found["EM"].n) == (0.5, 3)
    assert (found["AP"].mean, found["AP"].low, found["AP"].n) == (0.5, 0.5, 1)


def test_failed_questions_count_zero_but_bring_no_metric_of_their_own():
    failed = row("b", "no", EM=0.0, AP=0.0)
    found = summarise([row("a", EM=1.0), failed])
    assert list(found) == ["EM"]
    assert found["EM"].mean == 0.5
    assert summarise([failed]) == {}


def test_a_comparison_pairs_by_id():
    a = [row(f"q{n}", EM=0.0, AP=n / 10) for n in range(8)]
    b = [row(f"q{n}", EM=1.0, AP=n / 10, F1=1.0) for n in range(8)]
    found = compare_rows(a, b[::-1])
    assert list(found) == ["AP", "EM"]
    em, ap = found["EM"], found["AP"]
    assert (em.a, em.b, em.difference, em.low, em.high, em.n) == (0.0, 1.0, 1.0, 1.0, 1.0, 8)
    assert em.p == 2 / 2**8
    assert em.p_holm == 2 * em.p
    assert (ap.difference, ap.p, ap.p_holm) == (0.0, 1.0, 1.0)
    assert (em.p_t, em.robustness) == (0.0, 1.0)
    assert (ap.p_t, ap.robustness) == (1.0, 0.0)
    assert compare_rows(b, a)["EM"].difference == compare_rows(b, a)["EM"].robustness == -1.0


def test_a_comparison_leaves_out_questions_that_lack_the_metric_in_one_run():
    a = [row("q", EM=0.0), row("r", EM=1.0)]
    found = compare_rows(a, [row("q", EM=1.0), row("r", AP=1.0)])
    assert (found["EM"].n, found["EM"].a, found["EM"].b) == (1, 0.0, 1.0)


def test_unmatched_questions_are_listed():
    a = [row(f"q{n}", EM=0.0) for n in range(7)]
    with pytest.raises(RowsError) as caught:
        compare_rows(a, [row("q0", EM=0.0), row("z", EM=0.0)])
    assert str(caught.value) == (
        "A and B must hold the same questions, got 6 only in A (q1, q2, q3, q4, q5, …) "
        "and 1 only in B (z)"
    )


def test_runs_without_a_common_metric_are_refused():
    with pytest.raises(RowsError, match="the two runs have no metric in common"):
        compare_rows([row("q", EM=0.0)], [row("q", AP=0.0)])
