"""The routing benchmark: resumed rows, statistics of known routes, and a page that follows them."""

import importlib.util
import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from rag.records import Query, Route

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Benchmarks are scripts that import each other by name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))


class Says:
    """Sends a query to the label that its text begins with, or always to the same."""

    def __init__(self, always=None, p=0.9):
        self.always, self.p, self.asked = always, p, 0

    def batch(self, queries):
        self.asked += len(queries)
        found = []
        for query in queries:
            top = self.always or query.text.split()[0]
            found.append(Route((top,), {top: self.p, "none": 1.0 - self.p}, "says"))
        return found


class Second:
    """An ensemble that repeats its second member."""

    def __init__(self, routers):
        self.routers = routers

    def batch(self, queries):
        return self.routers[1].batch(queries)


@pytest.fixture
def queries():
    """Two sources of paragraphs, one of tables."""
    from rag.routing.labelled_queries import LabelledQuery

    return [
        LabelledQuery(f"{source}{n}", f"{label} {source} {n}", (label,), source)
        for source, label, count in (
            ("squad", "paragraph", 6),
            ("nq", "paragraph", 4),
            ("ottqa", "table", 5),
        )
        for n in range(count)
    ]


@pytest.fixture
def routers(monkeypatch):
    """The routers of the benchmark, replaced: the classifier knows all, descriptions one label."""
    import routing_rows

    made = Counter()

    def knows_all(some, encoder):
        made["classifier"] += 1
        return Says()

    def says_one(some, encoder):
        made["descriptions"] += 1
        return Says("paragraph", 0.6)

    fakes = {"descriptions": says_one, "classifier": knows_all}
    monkeypatch.setattr(routing_rows, "learned_routers", lambda: fakes)
    monkeypatch.setattr(
        routing_rows,
        "ensembles",
        lambda of: {"ensemble": Second([of["classifier"], of["descriptions"]])},
    )
    return made


def test_rows_are_made_once_and_ensembles_replay_their_members(queries, routers, tmp_path, encoder):
    from routing_rows import read_rows, route

    route(queries, encoder, tmp_path)
    assert routers == {"classifier": 5 + 2 + 1, "descriptions": 5 + 2 + 1}
    rows = read_rows(tmp_path)
    counts = {key: len(of) for key, of in rows.items()}
    for name in ("classifier", "descriptions", "ensemble"):
        assert [counts[name, split] for split in ("folds", "left out", "unseen")] == [15, 10, 5]
    assert [one.id for one in rows["classifier", "folds"]] == [one.id for one in queries]
    assert {one.source for one in rows["classifier", "unseen"]} == {"ottqa"}
    first = rows["ensemble", "folds"][0]
    assert (first.route.labels, first.route.probs["paragraph"]) == (("paragraph",), 0.6)
    (tmp_path / "classifier-left-out.jsonl").unlink()
    route(queries, encoder, tmp_path)
    assert routers == {"classifier": 8 + 2, "descriptions": 8}
    assert read_rows(tmp_path) == rows


def test_statistics_are_those_of_the_routes(queries, routers, tmp_path, encoder):
    from pruning_values import as_csv, read_csv
    from routing_rows import route
    from routing_values import Results, values

    route(queries, encoder, tmp_path)
    found = Results(list(values(tmp_path, resamples=50)))
    assert found.get("all", "folds", "classifier", "accuracy").value == 1.0
    assert found.get("all", "folds", "classifier", "ECE").value == pytest.approx(0.1)
    assert found.get("all", "folds", "descriptions", "accuracy").value == pytest.approx(2 / 3)
    gain = found.get("all", "folds", "descriptions", "accuracy", "classifier")
    assert (gain.value, gain.n) == (pytest.approx(-1 / 3), 15)
    assert found.get("source", "folds", "descriptions", "ottqa").value == 0.0
    assert found.get("source", "folds", "ensemble", "ottqa", "classifier").value == -1.0
    assert found.get("all", "unseen", "ensemble", "accuracy").value == 0.0
    assert found.get("all", "left out", "ensemble", "accuracy").value == 1.0
    assert found.get("F1", "folds", "descriptions", "paragraph").value == pytest.approx(0.8)
    assert found.get("confusion", "folds", "descriptions", "table > paragraph").value == 5.0
    assert found.get("corpora", "folds", "classifier", "single").value == 1.0
    assert found.get("corpora", "folds", "classifier", "two below 0.8").value == 1.0
    assert found.get("corpora", "folds", "classifier", "two below 0.95").value == 2.0
    again = Results(read_csv(as_csv(list(values(tmp_path, resamples=50)))))
    assert again.statistics("F1", "folds") == ["paragraph", "table"]
    assert again.get("all", "folds", "classifier", "macro-F1").value == 1.0


def test_the_page_says_what_the_statistics_say(queries, routers, tmp_path, encoder, monkeypatch):
    from routing_page import write_page
    from routing_rows import TIMING, route, timing

    rows, docs = tmp_path / "rows", tmp_path / "docs"
    rows.mkdir()
    docs.mkdir()
    route(queries, encoder, rows)
    timing(queries, encoder, rows, about={"cpu": "a cpu", "threads": "1"})
    told = json.loads((rows / TIMING).read_bytes())
    assert len(told["route_ms"]) == 15
    page = write_page(rows, docs, resamples=50).read_text()
    assert (
        "Accuracy of `classifier`, five-fold: 1.000 [1.000, 1.000]; goal at least 0.88: met" in page
    )
    assert "Its expected calibration error: 0.100; goal at most 0.03: not met." in page
    assert "hit 1.000 [1.000, 1.000] at 1.00 corpora a query; goal at least 0.96" in page
    assert "`ensemble` none (+0.000 [+0.000, +0.000]), not met" in page
    assert "1.000 of modalities right, calibration error 0.100." in page
    assert "then has no query: `classifier` 1.000." in page
    assert "| ottqa | 5 | 0.000 | 1.000 | 0.000 |" in page
    assert "a cpu, threads: 1" in page
    assert "classifier: ECE 0.100" in (docs / "routing-results.svg").read_text()
    kept = (docs / "routing-results.csv").read_text()
    assert write_page(None, docs, resamples=50).read_text() == page
    assert (docs / "routing-results.csv").read_text() == kept


def test_vectors_are_kept_and_the_model_loaded_only_for_new_texts(tmp_path, encoder):
    from routing_vectors import KeptVectors

    loaded = []

    def load():
        loaded.append(1)
        return encoder

    path = tmp_path / "vectors.npz"
    first = KeptVectors(path, load).encode_queries(["a", "b", "a"])
    again = KeptVectors(path, load)
    assert len(loaded) == 1
    assert np.array_equal(again.encode(["a", "b", "a"]), first)
    assert (again.name, again.fingerprint, again.dim) == (encoder.name, encoder.fingerprint, 16)
    assert len(loaded) == 1
    assert encoder.texts == ["a", "b"]
    assert again.encode_queries(["c"]).shape == (1, 16)
    assert (len(loaded), encoder.texts) == (2, ["a", "b", "c"])
    assert again.encode_queries([]).shape == (0, 16)


def test_ensembles_ask_routers_that_are_there():
    from routing_routers import ENSEMBLES, learned_routers

    members = {name for _, of in ENSEMBLES.values() for name in of}
    assert members <= learned_routers().keys()


def test_replayed_routes_are_those_written_down():
    from routing_routers import Replayed

    route = Route(("table",), {"table": 1.0}, "x")
    assert Replayed({"a": route}).batch([Query("a"), Query("a")]) == [route, route]


def test_the_command_parses_and_its_help_is_the_module_first_line(monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("routing_main", BENCHMARKS / "routing.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, "argv", ["routing.py", "page", "--help"])
    with pytest.raises(SystemExit) as stopped:
        module.main()
    assert stopped.value.code == 0
    assert "--resamples" in capsys.readouterr().out
