"""Scores kept through interrupts."""

from pipelines.evaluating.score_log import ScoreLog


def test_values_come_back_and_a_line_cut_short_is_passed_over(tmp_path):
    path = tmp_path / "made" / "scores.jsonl"
    log = ScoreLog(path)
    assert log.get("a") is None
    log.put("a", [0.1, 1.0])
    log.put("b", [])
    with path.open("a") as file:
        file.write('{"key": "c", "val')
    again = ScoreLog(path)
    assert (again.get("a"), again.get("b"), again.get("c")) == ([0.1, 1.0], [], None)
    again.put("c", [0.5])
    assert ScoreLog(path).get("c") == [0.5]
