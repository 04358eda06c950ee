"""Labels by outcomes with made-up corpora: hand-worked, failures, several, interrupts."""

import pytest

from pipelines.routing import outcomes
from pipelines.routing.journal import OutcomeJournal
from pipelines.routing.outcomes import label_by_outcomes
from pipelines.routing.scores import evidence
from pipelines.routing.summary import summary
from rag.records import Query
from rag.routing.labelled_queries import LabelledQuery, labelled_line

ROUTES = ("document", "paragraph", "table")


def label(questions, retrieve, score=evidence, **options):
    return label_by_outcomes(
        questions, retrieve, score, **({"routes": ROUTES, "count": len} | options)
    )


def test_hand_worked_labels_and_what_fails_is_left_out(questions, retrieve):
    found = label(questions, retrieve, sources={"king": "history"})
    long = len("The tower is 330 m tall. " * 5 + "Olaf was king.")
    assert found.queries == (
        LabelledQuery(
            "tower",
            "How tall is the tower?",
            ("table",),
            "",
            {"document": 1.0, "paragraph": 0.0, "table": 1.0},
            {"document": long, "paragraph": 0, "table": 23},
        ),
        LabelledQuery(
            "king",
            "Who was king?",
            ("table",),
            "history",
            {"document": 1.0, "paragraph": 1.0, "table": 1.0},
            {"document": long, "paragraph": 24, "table": 23},
        ),
    )
    assert found.failed == ("never",)
    assert [one.score for one in found.outcomes["never"]] == [0.0, 0.0, 0.0]


def test_summary_counts_labels_and_scores_over_all_that_was_tried(questions, retrieve):
    found = summary(label(questions, retrieve), unjudged=4)
    assert found["labels"] == {"table": 2}
    assert (found["tried"], found["labelled"]) == (3, 2)
    assert found["left_out"] == {"every route fails": 1, "nothing to judge by": 4}
    assert found["routes"]["paragraph"] == {"score": pytest.approx(1 / 3), "cost": 8.0}
    assert found["oracle"] == pytest.approx(2 / 3)
    assert found["best_single"] == {"route": "table", "score": pytest.approx(2 / 3)}


def test_equal_costs_go_by_the_declared_order(questions, retrieve):
    found = label(questions[:2], retrieve, count=lambda _: 0)
    assert [one.labels for one in found.queries] == [("table",), ("paragraph",)]
    found = label(questions[:2], retrieve, count=lambda _: 0, order=("document",))
    assert [one.labels for one in found.queries] == [("document",), ("document",)]


def test_several_labels_are_all_that_tie_from_cheap_to_dear(questions, retrieve):
    found = label(questions, retrieve, several=True)
    labels = [one.labels for one in found.queries]
    assert labels == [("table", "document"), ("table", "paragraph", "document")]


def test_a_tolerance_lets_a_cheaper_route_win(questions, retrieve):
    def score(asked, route, passages):
        return [{"document": 1.0, "paragraph": 0.0, "table": 0.8}[route]] * len(asked)

    assert label(questions, retrieve, score).queries[0].labels == ("document",)
    assert label(questions, retrieve, score, tolerance=0.2).queries[0].labels == ("table",)


def test_no_retrieval_is_tried_without_asking_a_corpus(questions, retrieve):
    scores = {"none": {"king": 0.5}, "table": {"king": 0.5, "tower": 1.0}}

    def score(asked, route, passages):
        assert route != "none" or passages == [[]] * len(asked)
        return [scores[route].get(one.id, 0.0) for one in asked]

    found = label(questions, retrieve, score, routes=("none", "table"))
    assert [one.labels for one in found.queries] == [("table",), ("none",)]
    assert found.queries[1].costs == {"none": 0, "table": 23}
    assert {name for name, _ in retrieve.asked} == {"table"}


def test_batches_give_what_one_at_a_time_gives(questions, retrieve, monkeypatch):
    whole = label(questions, retrieve)
    monkeypatch.setattr(outcomes, "BATCH", 1)
    assert label(questions, retrieve) == whole


def test_an_interrupted_run_goes_on_and_gives_the_same_lines(
    questions, retrieve, monkeypatch, tmp_path
):
    monkeypatch.setattr(outcomes, "BATCH", 1)
    whole = "".join(map(labelled_line, label(questions, retrieve).queries))
    path = tmp_path / "out.journal"
    retrieve.asked.clear()
    retrieve.stop_after = 5
    with pytest.raises(KeyboardInterrupt), OutcomeJournal(path, config="c") as journal:
        label(questions, retrieve, journal=journal)
    retrieve.asked.clear()
    retrieve.stop_after = None
    with OutcomeJournal(path, config="c") as journal:
        assert list(journal.done) == ["tower"]
        found = label(questions, retrieve, journal=journal)
    assert "".join(map(labelled_line, found.queries)) == whole
    assert [texts for _, texts in retrieve.asked] == [["Who was king?"]] * 3 + [
        ["What is never said?"]
    ] * 3


class Steps:
    def __init__(self):
        self.stages, self.done = [], 0

    def stage(self, name, total):
        self.stages.append(total)

    def advance(self, steps=1):
        self.done += steps


def test_progress_counts_questions_and_routes(questions, retrieve):
    steps = Steps()
    label(questions, retrieve, progress=steps)
    assert (steps.stages, steps.done) == ([9], 9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"routes": ()}, r"routes must be one label or more, each once, got \[\]"),
        ({"routes": ("table", "table")}, "each once, got"),
        ({"tolerance": 2.0}, r"tolerance must be in \[0, 1\], got 2.0"),
        ({"score": lambda *_: [1.0]}, "must give 3 results for 'document', got 3 and 1"),
        ({"score": lambda *_: [2.0] * 3}, r"score of 'document' must be in \[0, 1\], got 2.0"),
        ({"retrieve": lambda *_: [[]], "score": lambda *_: [1.0] * 3}, "got 1 and 3"),
    ],
)
def test_mistakes_are_named(questions, retrieve, options, message):
    given = {"questions": questions, "retrieve": retrieve} | options
    with pytest.raises(ValueError, match=message):
        label(given.pop("questions"), given.pop("retrieve"), **given)


def test_queries_reach_the_retriever_as_records(questions):
    seen = []

    def retrieve(queries, label):
        seen.extend(queries)
        return [[] for _ in queries]

    label(questions[:1], retrieve, routes=("table",))
    assert seen == [Query("How tall is the tower?")]
