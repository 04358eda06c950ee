"""The journal: kept lines, a line cut off, other runs, two writers, nothing left of nothing."""

import pytest

from pipelines.routing.journal import JournalError, OutcomeJournal
from rag.routing.outcomes import Outcome

ONE = {"a": (Outcome("table", 0.333333, 12), Outcome("none", 1.0, 0))}
TWO = {"b": (Outcome("table", 0.0, 3), Outcome("none", 0.5, 0))}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out.jsonl.journal"


def written(path, *parts, config="c"):
    with OutcomeJournal(path, config=config) as journal:
        for part in parts:
            journal.append(part)
    return path


def done(path, config="c"):
    with OutcomeJournal(path, config=config) as journal:
        return journal.done


def test_outcomes_are_read_as_they_were_written(path):
    assert done(written(path, ONE, TWO)) == ONE | TWO


def test_a_line_that_an_interrupt_cut_off_is_dropped_and_written_anew(path):
    whole = written(path, ONE, TWO).read_bytes()
    path.write_bytes(whole[:-5])
    assert done(path) == ONE
    assert written(path, TWO).read_bytes() == whole


def test_a_head_that_was_cut_off_begins_anew(path):
    path.write_bytes(b'{"conf')
    assert done(written(path, ONE)) == ONE


def test_nothing_is_left_of_a_run_that_measured_nothing(path):
    written(path)
    assert not path.exists()


def test_a_finished_journal_is_gone(path):
    with OutcomeJournal(path, config="c") as journal:
        journal.append(ONE)
        journal.finish()
    assert not path.exists()


def test_a_journal_of_another_run_is_refused_and_stays(path):
    before = written(path, ONE).read_bytes()
    with pytest.raises(JournalError, match="other questions, corpora or options; delete"):
        done(path, config="d")
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "line", [b"[]", b"{", b'{"id": "b"}', b'{"id": "b", "outcomes": [["a", 2]]}', b"\xff"]
)
def test_a_damaged_journal_is_refused(path, line):
    path.write_bytes(written(path, ONE).read_bytes() + line + b"\n")
    with pytest.raises(JournalError, match="is damaged"):
        done(path)


def test_one_run_at_a_time(path):
    with OutcomeJournal(path, config="c") as journal:
        journal.append(ONE)
        with pytest.raises(JournalError, match="is being written by another run"):
            done(path)
    assert done(path) == ONE


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(JournalError, match="cannot be written: No such file"):
        OutcomeJournal(tmp_path / "no" / "j", config="c")
