"""The benchmark of cached rows that a pruner keeps: its plans, its decisions, and its verdicts."""

import gzip
import json
import pickle
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from rag.records import Passage, Query, Span

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TEXTS = ("Anna went to Rome. She was glad. It rained.", "Ben stayed. He read a book.")
KEPT = ((0, 2), (1,))


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Benchmarks are scripts that import each other by name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.fixture
def asked():
    from quality_data import Asked

    passages = []
    for row, text in enumerate(TEXTS):
        ends = [at + 2 for at, letter in enumerate(text) if letter == "."]
        ends[-1] = len(text)
        spans = tuple(Span(*pair) for pair in zip([0, *ends], ends, strict=False))
        whole = Span(0, len(text))
        passages.append(Passage(f"p{row}", f"p{row}", text, whole, spans, f"Title {row}"))
    return Asked(
        "squad",
        "q",
        Query("Who read?"),
        ("Ben",),
        frozenset({"p1"}),
        tuple(passages),
        calibrating=False,
        supporting={"p1": [1], "elsewhere": [0]},
        decisions={"features": {2: KEPT, 5: KEPT}, "none": {2: ((), (1,))}},
    )


@pytest.fixture
def bench(checkpoint):
    from quality_rows import Bench

    return Bench(str(checkpoint), plain=False, block=2)


def planned(bench, asked, name, **changes):
    from quality_kv_settings import part_of

    part = replace(part_of(["features"]), passages=2)
    (setting,) = (one for one in part.settings if one.name == name)
    return bench.read(part, replace(setting, **changes), asked).plan


def read_rows_of(plan):
    """Return every token that is read from the cache, with its position, in order."""
    return [
        pair
        for placed in plan.context
        for pair in zip(placed.token_ids, placed.positions, strict=True)
    ]


def test_reads_what_a_pruner_kept_when_it_was_given_so_many_passages(asked):
    read = asked.read(2, pruned=False, pruner="features")
    assert [passage.kept_rows for passage in read] == [(0, 2), (1,)]
    assert [passage.id for passage in asked.read(2, pruned=False, pruner="none")] == ["p1"]
    assert all(passage.kept is None for passage in asked.read(2, pruned=False))


def test_the_oracle_keeps_the_gold_sentences_and_one_more_of_each_passage(asked):
    from quality_kv_data import oracle

    first, second = oracle(asked, 2)
    assert second == (0, 1)
    assert len(first) == 1
    assert oracle(asked, 2) == [first, second]
    drawn = {oracle(replace(asked, id=f"q{seed}"), 1)[0] for seed in range(40)}
    assert drawn == {(0,), (1,), (2,)}


def test_a_pruners_text_is_asked_before_what_is_compared_with_it():
    from quality_kv_settings import PRUNERS, part_of

    part = part_of(PRUNERS)
    names = [setting.name for setting in part.settings]
    assert len(names) == len(set(names))
    exact = {}
    for place, setting in enumerate(part.settings):
        if setting.exact:
            exact[setting.read_alike] = place
        assert exact[setting.read_alike] <= place
    assert len(exact) == 1 + len(PRUNERS)
    assert pickle.loads(pickle.dumps(part)) == part


def test_without_context_the_model_reads_prefix_and_question_alone(bench, asked):
    prompt = bench.generate.prompt
    plan = planned(bench, asked, "no context")
    assert plan.prefill == (*prompt.prefix().token_ids, *prompt.question(asked.query))
    assert not plan.context


def test_sentences_alone_stand_where_their_rows_would_and_were_encoded_apart(bench, asked):
    rows = planned(bench, asked, "features: block")
    alone = planned(bench, asked, "features: block, sentences alone")
    assert read_rows_of(alone) == read_rows_of(rows)
    assert alone.prefill == rows.prefill
    assert alone.prefill_start == rows.prefill_start
    assert len(alone.context) > len(rows.context)
    assert all(placed.rows is None for placed in alone.context)
    assert all(placed.segment.parents == (alone.prefix.segment,) for placed in alone.context)
    sentence = bench.generate.prompt.ids(" He read a book.")
    assert any(placed.segment.token_ids == sentence for placed in alone.context)


def test_gaps_leave_rows_where_the_whole_passages_have_them(bench, asked):
    whole = set(read_rows_of(planned(bench, asked, "block")))
    gaps = planned(bench, asked, "features: block, gaps")
    packed = planned(bench, asked, "features: block")
    assert set(read_rows_of(gaps)) < whole
    assert [token for token, _ in read_rows_of(gaps)] == [t for t, _ in read_rows_of(packed)]
    assert not set(read_rows_of(packed)) < whole


def test_the_planner_finds_everything_cached_and_spends_its_slack_on_text(bench, asked):
    from rag.generation.context_planner import ContextPlanner

    plan = planned(bench, asked, "features: auto, 150 ms")
    assert {step.step for step in plan.steps} == {"text"}
    assert all("slack" in step.reason for step in plan.steps)
    cost = bench_cost()
    for slack, steps in ((0.0, ["rows", "rows"]), (12 / cost.prefill_tokens_per_s, ["rows"])):
        options = {"mode": "block", "context": ContextPlanner("auto", cost, slack)}
        plan = planned(bench, asked, "features: auto, 150 ms", options=options)
        assert [step.step for step in plan.steps][: len(steps)] == steps


def bench_cost():
    from quality_kv_settings import COST

    return COST


def write_question(folder, asked, sizes):
    """Write a question as `prepare` does, with the same decision for every size."""
    from quality_data import SUFFIX

    line = {
        "id": asked.id,
        "question": asked.query.text,
        "answers": asked.answers,
        "gold": asked.supporting,
        "documents": ["p1"],
        "passages": [
            {
                "id": passage.id,
                "title": passage.title,
                "text": passage.text,
                "ends": [span.end for span in passage.sentences],
                "score": 1.0,
            }
            for passage in asked.passages
        ],
        "edges": [],
        "calibrating": False,
        "decisions": {"features": dict.fromkeys(sizes, KEPT)},
    }
    folder.mkdir(exist_ok=True)
    with gzip.open(folder / f"squad{SUFFIX}", "wt") as file:
        file.write(json.dumps(line) + "\n")


def test_generates_a_row_of_each_setting_once(checkpoint, asked, tmp_path):
    from quality_kv_settings import part_of
    from quality_rows import Run, generate, read_rows

    write_question(tmp_path, asked, [5])
    part = part_of(["features"])
    run = Run(tmp_path, tmp_path, str(checkpoint), 1, None, 2, None, False, False, None, (part,))
    generate(run)
    rows = read_rows(tmp_path)
    assert {row["setting"] for row in rows} == {setting.name for setting in part.settings}
    before = (tmp_path / "rows-00.jsonl").read_bytes()
    generate(run)
    assert (tmp_path / "rows-00.jsonl").read_bytes() == before
    by = {row["setting"]: row for row in rows}
    assert by["features: block"]["gold_kept"] == 1.0
    assert "gold_kept" not in by["block"]
    question = by["features: block"]["computed"]
    assert by["features: block, sentences alone"]["computed"] == question
    assert by["features: sequential"]["computed"] == by["features: block"]["cached"] + question
    assert by["features: sequential"]["kl"] < 1e-3


def test_times_every_setting_once_and_adds_the_pruner_where_there_is_one(
    checkpoint, asked, tmp_path, monkeypatch
):
    import quality_kv_timing
    from quality_kv_settings import SIZES, timed_part
    from quality_rows import read_rows

    write_question(tmp_path / "timing", asked, SIZES)
    expected = {setting.name for setting in timed_part(["features"], 2).settings}
    for prune, more in ((None, set()), (lambda query, passages: passages, {"pruner features"})):
        monkeypatch.setattr(quality_kv_timing, "_pruner", lambda prune=prune: prune)
        quality_kv_timing.timing(tmp_path, tmp_path, str(checkpoint), rounds=1, limit=None)
        rows = read_rows(tmp_path, "timing-*.jsonl")
        assert {row["setting"] for row in rows} == expected | more
        assert len(rows) == len(SIZES) * len(expected | more)
    assert len((tmp_path / "timing-00.jsonl").read_text().splitlines()) == len(rows)
    assert all(row["ttft_ms"] > 0 for row in rows if row["setting"] in expected)
    assert {row["setting"] for row in rows if "stock_ms" in row} == {
        "sequential",
        "features: sequential",
    }


def rows_of(folder, scores, questions=12):
    """Write rows whose F1 and NLL depend on the setting alone, and times of two contexts."""
    rows = [
        {
            "part": "rows",
            "data": data,
            "setting": setting,
            "id": f"q{row}",
            "nll": nll + 0.01 * row,
            "kl": 0.1,
            "cached": 10,
            "computed": computed,
            "gold": "1",
            "gold_kept": 0.9,
            "device": "cpu",
            "em": 0.0,
            "f1": f1,
            "contains": 0.0,
        }
        for data in ("squad", "hotpotqa")
        for setting, (f1, nll, computed) in scores.items()
        for row in range(questions)
    ]
    (folder / "rows-00.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "run.json").write_text(json.dumps({"cpu": "torch 2"}))


SCORES = {
    "sequential": (0.5, 2.0, 1000),
    "no context": (0.1, 5.0, 100),
    "block": (0.3, 2.5, 20),
    "ape, serial": (0.4, 2.4, 20),
    "into_top_1": (0.5, 2.1, 200),
    "features: sequential": (0.6, 1.5, 400),
    "features: block": (0.55, 1.9, 20),
    "features: ape, serial": (0.45, 1.9, 20),
    "features: into_top_1": (0.55, 2.1, 100),
    "features: block, gaps": (0.5, 2.0, 20),
    "features: ape, serial, gaps": (0.5, 2.0, 20),
    "features: block, sentences alone": (0.5, 2.0, 20),
}


def verdicts(page):
    return {
        line.split("`")[1]: line.split(": ")[1].split(".")[0]
        for line in page.splitlines()
        if line.startswith("- `") and any(f"`: {word}." in line for word in WORDS)
    }


WORDS = ("met", "missed", "open")


def test_states_the_goal_as_met_or_missed_by_the_numbers(tmp_path):
    from quality_kv_page import write_page

    rows_of(tmp_path, SCORES)
    page = write_page(tmp_path, tmp_path).read_text()
    assert verdicts(page) == {"block": "open", "ape, serial": "missed", "into_top_1": "missed"}
    assert "keeps 33% of the tokens" in page
    assert "| `features` | 90% | 33% | 90% | 33% |" in page


@pytest.mark.parametrize(
    ("first", "long", "own", "verdict"),
    [(24.0, 9.0, 0.0, "met"), (26.0, 9.0, 0.0, "missed"), (24.0, 9.0, 1.5, "missed")],
)
def test_counts_pruning_into_the_time_to_the_first_token(tmp_path, first, long, own, verdict):
    from quality_kv_page import write_page

    rows_of(tmp_path, SCORES)
    times = []
    for part, tokens, rows_ms in (("2 passages", 450, first), ("10 passages", 2000, long)):
        for setting, ms, computed in (
            ("sequential", 100.0, tokens + 50),
            ("no context", 10.0, 50),
            ("features: block", rows_ms, 20),
            ("pruner features", own, None),
        ):
            row = {"part": part, "data": "squad", "setting": setting, "id": "q0", "gold": ""}
            row |= {"device": "cpu", "threads": 1, "ttft_ms": ms}
            times.append(row if computed is None else {**row, "computed": computed})
    (tmp_path / "timing-00.jsonl").write_text("".join(json.dumps(row) + "\n" for row in times))
    page = write_page(tmp_path, tmp_path).read_text()
    assert verdicts(page)["block"] == verdict
    assert "| tokens of the passages | 450 | 2000 |" in page


def test_counts_only_questions_that_every_setting_was_asked(tmp_path):
    from quality_kv_page import write_page

    rows_of(tmp_path, SCORES)
    path = tmp_path / "rows-00.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not ('"block"' in line and '"q3"' in line)))
    page = write_page(tmp_path, tmp_path).read_text()
    assert "Measured on 22 questions of squad and hotpotqa" in page
    again = write_page(None, tmp_path).read_text()
    assert again == page


def test_a_page_of_no_rows_yet_says_how_it_will_be_measured(tmp_path):
    from quality_kv_page import write_page

    rows_of(tmp_path, SCORES, questions=3)
    page = write_page(tmp_path, tmp_path).read_text()
    assert "## How it was measured" in page
    assert "Measured on" not in page


def test_generate_needs_no_encoder(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "pruners"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pruners", None)
    for name in ("kv_rows", "quality_rows", "quality_kv_settings", "quality_data"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import kv_rows
    import quality_kv_settings
    import quality_rows

    assert kv_rows.main
    assert quality_rows.generate
    assert quality_kv_settings.part_of(["features"])
