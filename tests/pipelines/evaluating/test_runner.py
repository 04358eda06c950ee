"""The runner: batches, rows as soon as they are known, resuming, failures."""

import pytest

from pipelines.evaluating.runner import run_questions, write_run
from rag.evaluation import Outcome, Question, RowLog, read_rows, summarise
from rag.records import Answer, Hit

QUESTIONS = [Question(f"q{n:02}", "Who?", ("She",), relevant={"a": 1}) for n in range(20)]
IDS = [question.id for question in QUESTIONS]


class Asker:
    """Gives every question one outcome; counts batches, and can fail or stop."""

    def __init__(self, stop_at=None, fail=()):
        self.batches = []
        self.stop_at = stop_at
        self.fail = fail

    def __call__(self, questions):
        if len(self.batches) == self.stop_at:
            raise KeyboardInterrupt
        self.batches.append([question.id for question in questions])
        return [
            Outcome(error="broken")
            if question.id in self.fail
            else Outcome([Hit("b", 2.0), Hit("a", 1.0)], (), Answer("she"), 5.0, 10)
            for question in questions
        ]


def test_questions_are_asked_eight_at_a_time_and_rows_keep_their_order():
    asker = Asker()
    rows = run_questions(QUESTIONS, asker, config="c")
    assert [len(batch) for batch in asker.batches] == [8, 8, 4]
    assert [row.id for row in rows] == IDS
    assert rows[0].ranking == ("b", "a")
    assert rows[0].metrics["EM"] == 1.0
    assert rows[0].metrics["RR@10"] == 0.5
    assert rows[0].config == "c"


def test_an_interrupted_run_asks_only_what_is_left(tmp_path):
    path = tmp_path / "rows.jsonl"
    with pytest.raises(KeyboardInterrupt), RowLog(path, config="c", ids=IDS) as log:
        run_questions(QUESTIONS, Asker(stop_at=1), config="c", log=log)
    assert [row.id for row in read_rows(path)] == IDS[:8]
    asker = Asker()
    with RowLog(path, config="c", ids=IDS) as log:
        rows = run_questions(QUESTIONS, asker, config="c", log=log)
    assert asker.batches == [IDS[8:16], IDS[16:]]
    assert read_rows(path) == rows == run_questions(QUESTIONS, Asker(), config="c")
    with RowLog(path, config="c", ids=IDS) as log:
        assert run_questions(QUESTIONS, Asker(stop_at=0), config="c", log=log) == rows


def test_a_failed_question_is_a_row_that_counts_zero():
    rows = run_questions(QUESTIONS[:4], Asker(fail={"q01"}))
    assert [row.error for row in rows] == [None, "broken", None, None]
    found = summarise(rows)
    assert found["EM"].mean == found["R@5"].mean == 0.75
    assert found["TTFT_ms"].n == 3


def test_time_is_projected_once_after_the_first_batch():
    told = []
    run_questions(QUESTIONS, Asker(), projected=told.append)
    assert len(told) == 1
    assert told[0] >= 0
    run_questions(QUESTIONS[:8], Asker(), projected=told.append)
    assert len(told) == 1


def test_progress_counts_what_is_asked():
    class Watch:
        def __init__(self):
            self.seen = []

        def stage(self, name, total):
            self.seen.append((name, total))

        def advance(self, steps=1):
            self.seen.append(steps)

    watch = Watch()
    run_questions(QUESTIONS, Asker(), progress=watch)
    assert watch.seen == [("questions", 20), 8, 8, 4]


def test_another_number_of_outcomes_is_an_error():
    with pytest.raises(ValueError, match="outcomes must be one a question, got 0 for 8"):
        run_questions(QUESTIONS, lambda _: [])


def test_a_run_file_gives_the_metrics_that_were_reported(tmp_path):
    ir_measures = pytest.importorskip("ir_measures")
    rows = run_questions(QUESTIONS[:3], Asker())
    write_run(tmp_path / "run.txt", rows, "mine")
    assert (tmp_path / "run.txt").read_text().splitlines()[:2] == [
        "q00 Q0 b 1 1.00000000 mine",
        "q00 Q0 a 2 0.50000000 mine",
    ]
    run = list(ir_measures.read_trec_run(str(tmp_path / "run.txt")))
    qrels = {question.id: question.relevant for question in QUESTIONS[:3]}
    found = ir_measures.calc_aggregate([ir_measures.AP], qrels, run)
    assert found[ir_measures.AP] == summarise(rows)["AP"].mean
