"""Questions out of data folders and labelled passages, samples of them, and what is held out."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.adapting.held_out import held_out
from pipelines.adapting.left_out import LeftOut, article_key
from pipelines.adapting.questions import (
    AskedQuestion,
    drawn,
    folder_questions,
    labelled_questions,
    limited,
)
from pruners.training.labelled import LabelledPassage
from rag.adaptation.examples import ReadingExample, write_examples
from rag.evaluation.data import EvaluationDataError, Question, sample
from rag.records import Query


def test_a_folder_gives_answerable_questions_and_then_unanswerable_ones(towns):
    found = folder_questions(towns)
    assert [one.unanswerable for one in found] == [False] * 12 + [True] * 4
    first, last = found[0], found[-1]
    assert (first.id, first.data, first.answers) == (
        "q-Aton-mayor",
        "towns",
        ("the mayor0", "mayor0"),
    )
    assert first.gold == {"Aton-mayor": (1,)}
    assert [one.document for one in first.must] == ["Aton-mayor"]
    assert not first.shown
    assert (last.id, last.answers, last.gold) == ("u-Dale", (), {"Dale-river": ()})
    assert [one.document for one in last.must] == ["Dale-river"]


def test_an_unanswerable_question_among_the_others_stands_last_too(towns, lines):
    marked = {"id": "m", "question": "x?", "unanswerable": True, "near_doc_id": "Dale-river"}
    asked = {
        "id": "q",
        "question": "y?",
        "answers": ["y"],
        "supporting": [{"doc_id": "Dale-river"}],
    }
    (towns / "queries.jsonl.gz").unlink()
    (towns / "unanswerable.jsonl").unlink()
    lines(towns / "queries.jsonl", [marked, asked, {**marked, "id": "no", "near_doc_id": ""}])
    assert [one.id for one in folder_questions(towns)] == ["q", "m"]


def test_paragraphs_that_are_shown_come_without_the_gold_ones(towns):
    found = {one.id: one for one in folder_questions(towns, shown=True)}
    shown = [one.document for one in found["q-Beck-river"].shown]
    assert shown == ["Beck-mayor", "Aton-river"]
    assert not found["u-Beck"].shown


def test_gold_documents_keep_the_order_of_hops_and_questions_without_any_are_left_out(towns, lines):
    hops = {
        "id": "hops",
        "question": "Which?",
        "answers": [" ", "x"],
        "supporting": [{"doc_id": "Dale-river"}, {"doc_id": "Aton-mayor", "sentence_ids": [0]}],
    }
    judged = {"id": "judged", "question": "Which one?", "answers": ["x"]}
    nothing = {"id": "nothing", "question": "Who?", "answers": ["x"]}
    silent = {**hops, "id": "silent", "answers": []}
    (towns / "queries.jsonl.gz").unlink()
    (towns / "unanswerable.jsonl").unlink()
    lines(towns / "queries.jsonl", [hops, judged, nothing, silent])
    (towns / "qrels.tsv").write_text("judged\t0\tBeck-river\t1\njudged\t0\tBeck-mayor\t0\n")
    found = {one.id: one for one in folder_questions(towns)}
    assert list(found) == ["hops", "judged"]
    assert [one.document for one in found["hops"].must] == ["Dale-river", "Aton-mayor"]
    assert found["hops"].gold == {"Dale-river": (), "Aton-mayor": (0,)}
    assert found["hops"].answers == ("x",)
    assert found["judged"].gold == {"Beck-river": ()}


def test_what_answers_another_question_with_the_same_terms_is_barred(towns, lines):
    same = {
        "id": "u",
        "question": "What is it called, the mayor of Aton?",
        "unanswerable": True,
        "near_doc_id": "Beck-mayor",
    }
    lines(towns / "unanswerable.jsonl", [same])
    found = {one.id: one for one in folder_questions(towns)}
    assert found["u"].barred == {"Aton-mayor"}
    assert not found["q-Aton-mayor"].barred


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"supporting": [{"doc_id": "none"}]}, "'odd' names document 'none'"),
        ({"context_ids": ["Dale-river", "gone"]}, "'odd' names document 'gone'"),
        ({"context_ids": "Dale-river"}, r"jsonl:1: near_doc_id must be"),
        ({"near_doc_id": 3}, r"jsonl:1: near_doc_id must be"),
    ],
)
def test_a_question_that_names_what_is_not_there_is_refused(towns, lines, changes, message):
    odd = {"id": "odd", "question": "x?", "answers": ["x"]}
    (towns / "queries.jsonl.gz").unlink()
    lines(towns / "queries.jsonl", [odd | {"supporting": [{"doc_id": "Dale-river"}]} | changes])
    with pytest.raises(EvaluationDataError, match=message):
        folder_questions(towns)


def labelled(id_, question, text, gold=(), answers=("x",), source="wiki"):
    return LabelledPassage(id_, source, question, "T", tuple(text), frozenset(gold), answers)


def test_rows_of_a_question_are_its_passages_whatever_their_source():
    rows = [
        labelled("n1", "Who is it?", ["No.", "Help."], source="wiki-neg"),
        labelled("g1", "who is it", ["A.", "B."], [1]),
        labelled("n2", "Who is it?", ["no", "help"], source="wiki-neg"),
        labelled("g2", "Who is it?", ["C."], [0]),
        labelled("other", "Where?", ["D."], [0], answers=()),
        labelled("lost", "When?", ["E."]),
    ]
    first, second = labelled_questions(rows)
    assert (first.id, first.data, first.text) == ("g1", "wiki", "who is it")
    assert [one.id for one in first.must] == ["g1", "g2"]
    assert first.gold == {"g1": (1,), "g2": (0,)}
    assert [one.id for one in first.shown] == ["n1"]
    assert first.answers == ("x",)
    assert (second.id, second.answers) == ("other", ())


def test_a_passage_marked_in_one_row_is_gold_and_not_shown_again():
    rows = [
        labelled("a", "Who?", ["A."]),
        labelled("b", "Who?", ["A."], [0]),
        labelled("c", "Who?", ["a"], [0]),
    ]
    [found] = labelled_questions(rows)
    assert [one.id for one in found.must] == ["b"]
    assert found.shown == ()


def some(count, refused, data="d"):
    return [
        AskedQuestion(f"{data}{n}", data, f"{n}?", (), (), unanswerable=n >= count)
        for n in range(count + refused)
    ]


@pytest.mark.parametrize(
    ("count", "refused", "limit", "wanted"),
    [
        (17, 9, None, (17, 3)),  # 3 of 20 are 15 %
        (17, 2, None, (17, 2)),
        (40, 40, 20, (17, 3)),
        (40, 0, 20, (20, 0)),
        (5, 40, 20, (5, 1)),
        (0, 4, None, (0, 4)),
        (3, 0, 9, (3, 0)),
    ],
)
def test_a_sample_has_its_share_of_unanswerable_questions(count, refused, limit, wanted):
    found = limited(some(count, refused), refusals=0.15, limit=limit, seed=0)
    assert (
        sum(not one.unanswerable for one in found),
        sum(one.unanswerable for one in found),
    ) == wanted


def test_a_limit_holds_for_each_data_set_and_a_larger_sample_holds_a_smaller_one():
    questions = [*some(30, 0), *some(4, 0, "e")]
    small, large = (limited(questions, refusals=0.15, limit=limit, seed=5) for limit in (10, 20))
    assert [len([one for one in small if one.data == data]) for data in "de"] == [10, 4]
    assert {one.id for one in small} <= {one.id for one in large}
    assert [one.id for one in large] == [one.id for one in questions if one in large]
    other = limited(questions, refusals=0.15, limit=10, seed=6)
    assert {one.id for one in other} != {one.id for one in small}


@given(ids=st.sets(st.text(max_size=3), min_size=1, max_size=9), seed=st.integers(0, 3))
def test_the_draw_is_that_of_the_evaluation(ids, seed):
    questions = [Question(id_, "x") for id_ in sorted(ids)]
    for count in range(1, len(ids) + 1):
        taken = {one.id for one in sample(questions, count, seed)}
        assert set(drawn(ids, seed)[:count]) == taken


@pytest.mark.parametrize(
    ("title", "key"),
    [
        ("Sound City (film) - Critical response", "sound city film"),
        ("Sound_City_(film)", "sound city film"),
        ("Rust > Traits", "rust"),
        ("Spider-Man", "spider man"),
        ("Marxism%E2%80%93Leninism", "marxism leninism"),
        ("", ""),
    ],
)
def test_the_article_of_a_title_has_no_section(title, key):
    assert article_key(title) == key


def test_what_a_folder_holds_is_left_out(towns, passage):
    apart = LeftOut.read([towns])
    old = passage("x", "the mayor of ATON is old it is called mayor0")
    assert apart.reason("what is the river of Dale called", []) == "question held out"
    assert apart.reason("Who paid for the river of Dale?", []) == "question held out"
    assert apart.reason("Else?", [passage("y"), old]) == "gold passage held out"
    assert apart.reason("Else?", [passage("y", title="Aton - Rivers")]) == "article held out"
    assert apart.reason("Else?", [passage("y", title="Eton")]) is None
    assert apart.holds(old)
    assert apart.holds(passage("y", title="aton"))
    assert not apart.holds(passage("y", title="Eton"))
    assert LeftOut.read([]).reason("Else?", [old]) is None


def test_of_examples_only_the_articles_of_gold_passages_are_left_out(tmp_path, passage):
    read = (passage("a", title="Aton"), passage("b", title="Beck"), passage("c"))
    one = ReadingExample("q", "d", Query("Which?"), read, ("x",), gold={"a": (0,), "c": ()})
    path = tmp_path / "test.jsonl"
    write_examples(path, [one])
    apart = LeftOut.read([path])
    assert apart.articles == {"aton"}
    assert apart.reason("which", []) == "question held out"
    assert apart.reason("Else?", [passage("b", title="Beck")]) == "gold passage held out"
    assert apart.reason("Else?", [passage("x", title="Beck")]) is None


def test_few_questions_an_article_are_drawn_alone_and_name_their_articles(towns):
    ids, articles = held_out(towns, 3, unanswerable=1)
    assert ids[:3] == drawn((f"q-{t}-{x}" for t in TOWNS for x in THINGS), 0)[:3]
    assert ids[3:] == drawn((f"u-{t}" for t in TOWNS), 0)[:1]
    assert articles == {id_.split("-")[1].lower() for id_ in ids}
    more, others = held_out(towns, 9, apart_from=articles)
    assert not articles & others
    assert not {id_ for id_ in more if id_.split("-")[1].lower() in articles}


TOWNS = ("Aton", "Beck", "Corby", "Dale")
THINGS = ("mayor", "river", "bridge")


@pytest.fixture
def large(towns, lines):
    """The towns with twelve questions an article."""
    asked = [
        {
            "id": f"{town}-{n}",
            "question": f"What is {n} in {town}?",
            "answers": ["x"],
            "supporting": [{"doc_id": f"{town}-{THINGS[n % 3]}"}],
        }
        for town in TOWNS
        for n in range(12)
    ]
    (towns / "queries.jsonl.gz").unlink()
    lines(towns / "queries.jsonl", asked)
    return towns


@pytest.mark.parametrize(
    ("count", "unanswerable", "share", "articles"),
    [(5, 0, 0.25, 1), (5, 0, 0.3, 2), (5, 0, 0.5, 2), (13, 0, 0.25, 2), (1, 3, 0.25, 3)],
)
def test_many_questions_an_article_are_held_out_by_whole_articles(
    large, count, unanswerable, share, articles
):
    ids, held = held_out(large, count, unanswerable=unanswerable, share=share)
    assert len(held) == articles
    assert len(ids) == count + unanswerable == len(set(ids))
    assert {id_.removeprefix("u-").split("-")[0].lower() for id_ in ids} <= held
    again = held_out(large, count, unanswerable=unanswerable, share=share)
    assert again == (ids, held)
    _, other = held_out(large, 5, share=0.25, apart_from=held)
    assert not held & other
    assert other


def test_another_seed_holds_out_others(large):
    assert len({tuple(held_out(large, 9, seed=seed)[0]) for seed in range(3)}) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "count must be at least 1 .* got 0 and 0"),
        ({"count": 1, "unanswerable": -1}, "got 1 and -1"),
        ({"count": 1, "share": 1.0}, r"share must be in \(0, 1\), got 1.0"),
    ],
)
def test_counts_and_share_have_a_range(towns, options, message):
    with pytest.raises(ValueError, match=message):
        held_out(towns, **options)


def test_the_layout_of_a_line_is_that_of_the_evaluation(towns):
    (towns / "unanswerable.jsonl").write_text(json.dumps({"id": "u"}) + "\n")
    with pytest.raises(EvaluationDataError, match=r"unanswerable.jsonl:1: question must be"):
        folder_questions(towns)
