"""Preparing examples: retrieved and pruned as inference would, and nothing that is held out."""

import json
from dataclasses import replace

import pytest

from pipelines.adapting.prepare import prepare
from pipelines.adapting.pruned import in_order, readable_title
from pruners.sentences import SentenceMix
from pruners.threshold import ThresholdPruner
from rag.adaptation.examples import read_examples, write_examples
from rag.evaluation.data import EvaluationDataError
from rag.records import Query


def plainly(sources, **options):
    return prepare(sources, **({"pruner": "none", "search": "bm25"} | options))


class Log:
    def __init__(self):
        self.stages = {}

    def stage(self, name, total):
        self.name = name
        self.stages.setdefault(name, []).append([total, 0])

    def advance(self, steps=1):
        self.stages[self.name][-1][1] += steps


def test_a_folder_gives_pruned_passages_with_the_gold_one_and_a_share_of_refusals(towns, encoder):
    log = Log()
    found = prepare([towns], pruner="sentences", encoder=encoder, refusals=0.25, watcher=log)
    assert [one.unanswerable for one in found.examples] == [False] * 12 + [True] * 4
    for one in found.examples:
        assert len(one.passages) == 5
        assert one.gold.keys() <= {passage.document for passage in one.passages}
        assert all(passage.kept is not None for passage in one.passages)
        assert any(passage.kept_rows for passage in one.passages)
    assert found.licences == ("towns: CC BY 4.0 (towns); MIT",)
    assert found.counts == {"towns": 16}
    assert found.left_out == {}
    assert log.stages["search"] == [[16, 16]]
    assert log.stages["prune"] == [[16, 16]]
    assert all(total == done for part in log.stages.values() for total, done in part)


def test_the_decision_is_the_pruners_on_all_passages_together(towns, encoder):
    found = prepare([towns], pruner="sentences", encoder=encoder).examples
    pruner = ThresholdPruner(SentenceMix(encoder), threshold=SentenceMix.threshold)
    for one in found:
        whole = [replace(passage, kept=None) for passage in one.passages]
        assert list(one.passages) == pruner(one.query, whole)


def test_passages_are_those_of_the_hybrid_search_but_for_gold_ones(towns, encoder):
    from pipelines.catalogue.retrieval import hybrid
    from pipelines.evaluating.data_index import data_index
    from pipelines.open_index import OpenIndex

    found = prepare([towns], pruner="none", encoder=encoder, passages=3, refusals=0.0).examples
    search = hybrid(OpenIndex(data_index(towns, encoder=encoder), encoder=encoder), top_k=3)
    assert len(found) == 12
    for one in found:
        ids = [passage.id for passage in search(one.query)]
        [gold] = one.gold
        wanted = ids if gold in ids else [*ids[:2], gold]
        assert [passage.id for passage in one.passages] == wanted


def test_a_question_whose_gold_passage_was_missed_is_left_out_if_it_is_not_put_in(towns):
    missed = prepare([towns], pruner="none", search="bm25", passages=1, gold_always=False)
    held = plainly([towns], passages=1)
    assert 0 < len(missed.examples) <= len(held.examples)
    assert missed.left_out.get("gold passages not among those read", 0) == len(held.examples) - len(
        missed.examples
    )
    assert all(one.passages[0].document in one.gold for one in held.examples)


def test_paragraphs_that_are_shown_are_read_in_place_of_others(towns):
    found = {one.id: one for one in plainly([towns], shown=True, passages=10).examples}
    assert {p.id for p in found["q-Beck-river"].passages} == {
        "Beck-river",
        "Beck-mayor",
        "Aton-river",
    }
    assert found["q-Beck-river"].passages[0].id == "Beck-river"


def test_each_text_is_encoded_once_and_only_where_it_is_read(towns, encoder):
    options = {"pruner": "sentences", "encoder": encoder, "passages": 2, "refusals": 0.0}
    log = Log()
    found = prepare([towns], **options, search="bm25", limit=2, watcher=log)
    read = {f"{p.title}: {s.of(p.text).strip()}" for e in found.examples for p in e.passages
            for s in p.sentences}  # fmt: skip
    sentences = [text for text in encoder.texts if ": " in text]
    assert sorted(sentences) == sorted(read)
    assert log.stages["encode"] == [[len(read), len(read)]]


def test_a_threshold_takes_the_place_of_the_pruners_own(towns, encoder):
    options = {"pruner": "sentences", "encoder": encoder, "limit": 3}
    whole = prepare([towns], **options, threshold=0.0).examples
    assert all(p.kept.keep_ratio == 1.0 for one in whole for p in one.passages)
    own = prepare([towns], **options).examples
    assert {p.kept.threshold for one in own for p in one.passages} == {SentenceMix.threshold}


def test_nothing_of_what_is_left_out_is_trained_on(towns, tmp_path):
    test = plainly([towns], only=["q-Aton-river", "u-Beck"])
    assert {one.id for one in test.examples} == {"q-Aton-river", "u-Beck"}
    path = tmp_path / "test.jsonl.gz"
    write_examples(path, test.examples)
    train = plainly([towns], leave_out=[path], refusals=0.4)
    assert {one.data for one in train.examples} == {"towns"}
    read = {passage.text for one in test.examples for passage in one.passages}
    for one in train.examples:
        assert not {"Aton", "Beck"} & {passage.title for passage in one.passages}
        assert not read & {passage.text for passage in one.passages}
    assert sum(train.left_out.values()) + len(train.examples) <= 16
    assert train.left_out["question held out"] == 2
    reasons = {"question held out", "article held out", "gold passage held out"}
    assert train.left_out.keys() <= reasons
    assert len(train.examples) >= 3
    assert plainly([towns], leave_out=[towns]).examples == []


def test_labelled_rows_read_their_own_passages_and_hard_ones_of_their_source(tmp_path, lines, row):
    rows = [
        row("g", "Who built the bridge?", ["Bridges are old.", "Ada built the bridge."], [1],
            ["Ada", "Ada B."]),
        row("n", "Who built the bridge?", ["An unrelated river."], [], ["Ada"], "wiki-neg"),
        row("with-answer", "How old is Ada?", ["Ada, who built a bridge, is 9."], [0], ["9"]),
        row("hard", "How long is a bridge?", ["A bridge is 80 m long."], [0], ["80 m"]),
        row("else", "Who built a bridge here?", ["The bridge was built by Bob."], [0], ["Bob"],
            "other"),
    ]  # fmt: skip
    path = tmp_path / "train.jsonl.gz"
    lines(path, rows)
    (tmp_path / "meta.json").write_text(json.dumps({"licence": "MIT"}))
    found = plainly([tmp_path], passages=3)
    first, second, *_ = found.examples
    assert [(one.id, one.data) for one in found.examples] == [
        ("g", "wiki"), ("with-answer", "wiki"), ("hard", "wiki"), ("else", "other"),
    ]  # fmt: skip
    assert {passage.id for passage in first.passages} == {"g", "n", "hard"}
    assert first.passages[0].id == "g"
    assert first.passages[0].title == "Some page"
    assert first.answers == ("Ada", "Ada B.")
    assert first.gold == {"g": (1,)}
    assert {passage.id for passage in second.passages} == {"with-answer", "g"}
    assert found.licences == ("MIT",)
    assert plainly([path], passages=3).examples == found.examples


def test_rows_without_answers_are_left_to_the_teacher_if_wanted(tmp_path, lines, row):
    path = tmp_path / "train.jsonl"
    rows = [
        row("silent", "What is it like?", ["It is fine."], [0], []),
        row("lost", "Where?", ["No."], [], ["x"]),
        row("long", "Why?", ["Because."], [0], ["word " * 13]),
        row("good", "Who?", ["Ada."], [0], ["Ada"]),
        row("twice", "who", ["Ada did."], [0], ["Ada"], "z"),
    ]
    lines(path, rows)
    found = plainly([path])
    assert [one.id for one in found.examples] == ["good"]
    assert found.left_out == {"no answer": 1, "no gold passage": 1, "long answer": 1}
    both = plainly([path], without_answers=True, answer_words=13)
    assert [one.id for one in both.examples] == ["silent", "long", "good"]
    assert both.examples[0].target is None


def test_a_question_that_was_asked_before_is_left_out(towns, tmp_path, lines, row):
    path = tmp_path / "more.jsonl"
    lines(path, [row("again", "what is the MAYOR of Aton called", ["X."], [0], ["X"])])
    found = plainly([towns, path], refusals=0.0)
    assert len(found.examples) == 12
    assert found.left_out == {"asked before": 1}
    assert plainly([path, towns], refusals=0.0).examples[0].id == "again"


def test_prepared_examples_stay_as_they_are(towns, tmp_path, encoder):
    made = prepare([towns], pruner="sentences", encoder=encoder).examples
    path = tmp_path / "some.jsonl.gz"
    write_examples(path, made)
    again = plainly([path])
    assert again.examples == read_examples(path)
    assert again.licences == ()
    (tmp_path / "meta.json").write_text(json.dumps({"licence": "MIT; CC0"}))
    assert plainly([path]).licences == ("MIT", "CC0")
    assert plainly([path], refusals=0.0).examples == again.examples
    few = plainly([path], limit=5)
    assert len(few.examples) == 5
    assert all(one in again.examples for one in few.examples)


def test_the_same_data_gives_the_same_examples_and_hash(towns, tmp_path, encoder):
    options = {"pruner": "sentences", "encoder": encoder, "limit": 6, "refusals": 0.2}
    first, second = (prepare([towns], **options) for _ in range(2))
    assert first == second
    for name, found in (("a", first), ("b", second)):
        write_examples(tmp_path / f"{name}.jsonl.gz", found.examples)
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()
    assert prepare([towns], **(options | {"seed": 1})).examples != first.examples
    write_examples(tmp_path / "a.jsonl", first.examples)
    zipped, plain = (plainly([tmp_path / name]).data_sha for name in ("a.jsonl.gz", "a.jsonl"))
    assert zipped == plain != first.data_sha


@pytest.mark.parametrize(
    ("answers", "wanted"),
    [
        (["grey", "red"], ("red", "grey")),  # the first that stands there
        (["red one", "a red", " red "], ("a red", "red one", "red")),
        (["yes"], ("yes",)),
        (["grey", "white", "grey"], ("grey", "white")),  # what is pruned does not count
        (["It is red.", "It is red", "red"], ("It is red", "It is red.", "red")),
        (["grey", "red."], ("red.", "grey")),
        ([], ()),
    ],
)
def test_the_answer_to_learn_stands_in_what_is_kept(passage, answers, wanted):
    pruner = ThresholdPruner(SentenceMix(None), threshold=0.1)
    one = passage("a", "It is red.")
    pruned = passage("b", "It is white.")
    selection = pruner.select(Query("x"), [passage("c", "")])[0]
    assert selection.kept_rows == ()
    gone = replace(selection, sentences=(), text_sha=sha(pruned.text))
    assert in_order(answers, [one, replace(pruned, kept=gone)]) == wanted


def sha(text):
    from rag.records import text_sha

    return text_sha(text)


@pytest.mark.parametrize(
    ("title", "wanted"),
    [
        ("Drum_and_bass", "Drum and bass"),
        ("A%E2%80%93B", "A–B"),
        ("snake_case in Python", "snake_case in Python"),
    ],
)
def test_a_title_reads_as_people_write_it(title, wanted):
    assert readable_title(title) == wanted


def test_the_shipped_pruner_wants_its_own_encoder(towns, encoder):
    with pytest.raises(ValueError, match="head was trained with encoder 'minilm'"):
        prepare([towns], encoder=encoder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"passages": 0}, "passages must be at least 1, got 0"),
        ({"answer_words": 0}, "answer_words must be at least 1, got 0"),
        ({"limit": 0}, "limit must be at least 1, got 0"),
        ({"refusals": 1.0}, r"refusals must be in \[0, 1\), got 1.0"),
        ({"search": "dense"}, "search must be one of .*, got 'dense'"),
        ({"pruner": "best"}, "pruner must be 'features', .*, got 'best'"),
        ({"threshold": -1.0}, "threshold must be at least 0, got -1.0"),
    ],
)
def test_arguments_have_a_range(options, message):
    with pytest.raises(ValueError, match=message):
        plainly([], **options)


def test_a_source_that_is_nothing_is_named(tmp_path):
    from pruners.training.labelled import LabelledDataError

    (tmp_path / "empty").mkdir()
    for name in ("empty", "none.jsonl"):
        with pytest.raises(LabelledDataError, match=name):
            plainly([tmp_path / name])
    with pytest.raises(EvaluationDataError):
        plainly([], leave_out=[tmp_path / "empty"])
    nothing = plainly([])
    assert (nothing.examples, nothing.left_out) == ([], {})
