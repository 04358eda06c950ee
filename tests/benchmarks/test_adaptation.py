"""The benchmark of base and adapted model: rows of a tiny model, hand-worked figures, a page."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rag.adaptation.examples import ReadingExample, write_examples
from rag.records import Answer, Citation, Passage, Query, Selection, SentenceScore, Span, text_sha

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TEXTS = ("Anna went to Rome. She was glad. It rained.", "Ben stayed. He read a book.")


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Benchmarks are scripts that import each other by name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def passage(row, kept=None):
    text = TEXTS[row]
    ends = [at + 2 for at, letter in enumerate(text) if letter == "."]
    ends[-1] = len(text)
    spans = tuple(Span(*pair) for pair in zip([0, *ends], ends, strict=False))
    found = Passage(f"p{row}", f"d{row}", text, Span(0, len(text)), spans, f"Title {row}")
    if kept is None:
        return found
    scores = tuple(SentenceScore(span, 0.5, at in kept) for at, span in enumerate(spans))
    return replace(found, kept=Selection(found.id, text_sha(text), scores, "test"))


def example(id_, data="squad", *, kept=((0, 2), (1,)), **changes):
    fields = {"answers": ("Ben",), "gold": {"d1": (1,)}} | changes
    passages = tuple(passage(row, rows) for row, rows in enumerate(kept))
    return ReadingExample(id_, data, Query(f"Who read {id_}?"), passages, **fields)


def unanswerable(id_, data="squad"):
    return example(id_, data, answers=(), gold={"d1": ()}, unanswerable=True)


@pytest.fixture
def judge(checkpoint):
    from adaptation_rows import Judge

    return Judge(str(checkpoint), "none", block=4)


def named(name):
    from adaptation_settings import SETTINGS

    return next(setting for setting in SETTINGS if setting.name == name)


MODES = ("sequential", "parallel", "ape", "ape-serial-gaps", "block", "graph")


def generator(judge, name):
    from quality_rows import LONGEST

    from rag.generation.cached import GenerateCached
    from rag.generation.decoding import Sampling

    setting = named(name)
    prompt = judge.model.prompt_of(setting.prompt)
    engine = judge.model.engine(None)
    return GenerateCached(engine, prompt, sampling=Sampling(LONGEST), **setting.options)


@pytest.mark.parametrize("name", [*MODES, "sequential-instruct", "whole-ape"])
def test_a_row_says_what_the_generator_answers_alone(judge, name):
    whole = name.startswith("whole")
    asked = [example("q0"), unanswerable("q1"), example("q2", kept=((1,), (0, 1)))]
    rows = judge.rows(named(name), asked)
    assert [row["id"] for row in rows] == ["q0", "q1", "q2"]
    for one, row in zip(asked, rows, strict=True):
        passages = [replace(p, kept=None) if whole else p for p in one.passages]
        generate = generator(judge, name)
        answer = generate(one.query, passages)
        plan = generate.plan(one.query, passages)
        assert row["text"] == answer.text
        assert row["cited"] == [[c.document, c.quote] for c in answer.citations]
        assert row["answer_tokens"] == answer.tokens.generated
        assert (row["cached"], row["computed"]) == (plan.cached_tokens, plan.computed_tokens)


@pytest.mark.parametrize("name", [*MODES, "whole-block"])
def test_the_likelihood_is_that_of_the_first_answer_after_the_prompt(judge, name):
    asked = [example("q0", answers=("Ben read", "Ben")), example("q1", answers=("a book",))]
    rows = judge.rows(named(name), asked)
    for one, row in zip(asked, rows, strict=True):
        generate = generator(judge, name)
        passages = one.passages
        if name.startswith("whole"):
            passages = [replace(p, kept=None) for p in passages]
        state = generate.engine.prefill(generate.plan(one.query, passages))
        ids = generate.prompt.ids(f" {one.answers[0]}")
        expected = 0.0
        with torch.inference_mode():
            for token in ids:
                expected -= float(state.logits.double().log_softmax(-1)[token]) / len(ids)
                state = generate.engine.advance(state, token)
        assert row["nll"] == pytest.approx(expected, abs=2e-3)


def test_a_row_of_a_question_without_answer_is_judged_by_its_refusal_alone(judge):
    (row,) = judge.rows(named("sequential"), [unanswerable("q")])
    assert row["refused"] == 0.0
    assert not {"em", "f1", "contains", "nll", "lost", "cite_sentence"} & row.keys()
    (row,) = judge.rows(named("sequential"), [example("q")])
    assert row["lost"] == 0.0
    assert "refused" not in row


def test_refusals_and_unsupported_answers_are_told_apart(judge):
    def told(one, text, *, abstained):
        answer = Answer(text, one.passages, abstained=abstained)
        row = judge._row(named("ape"), one, one.passages, answer, None, None)
        return {name: row[name] for name in ("lost", "refused", "unsupported") if name in row}

    assert told(example("q"), "Unanswerable.", abstained=True) == {"lost": 1.0, "unsupported": 0.0}
    assert told(example("q"), "Mars", abstained=True) == {"lost": 0.0, "unsupported": 1.0}
    assert told(example("q"), "Ben", abstained=False) == {"lost": 0.0, "unsupported": 0.0}
    refused = {"refused": 1.0, "unsupported": 0.0}
    assert told(unanswerable("q"), "unanswerable", abstained=True) == refused


def test_figures_of_an_answer_by_hand(judge):
    one = example("q", answers=("Ben Smith", "Benjamin"))
    citation = Citation(1, "p1", "d1", 12, 27, "He read a book.", 0, 9, 0.9)
    first = replace(citation, start=0, end=11, quote="Ben stayed.")
    other = Citation(2, "p0", "d0", 0, 18, "Anna went to Rome.", 0, 9, 0.9)
    answer = Answer("Ben the Smith Jones", one.passages, citations=(citation, first, other))
    row = judge._row(named("ape"), one, one.passages, answer, None, 1.23456)
    assert (row["em"], row["contains"], row["nll"]) == (0.0, 1.0, 1.2346)
    assert row["f1"] == pytest.approx(0.8)
    assert row["cite_document"] == pytest.approx(2 / 3, abs=1e-4)
    assert row["cite_sentence"] == pytest.approx(1 / 3, abs=1e-4)
    assert row["gold_kept"] == 1.0
    assert row["gold"] == "2"


def test_citations_of_unlabelled_documents_count_by_document_alone(judge):
    from adaptation_rows import cited_gold

    one = example("q", gold={"d1": ()})
    citation = Citation(1, "p1", "d1", 12, 27, "He read a book.", 0, 9, 0.9)
    found = cited_gold(one, one.passages, Answer("Ben", citations=(citation,)))
    assert found == {"cite_document": 1.0, "cite_sentence": None}
    none = cited_gold(example("q", gold={}), one.passages, Answer("Ben", citations=(citation,)))
    assert none == {"cite_document": None, "cite_sentence": None}


def test_a_question_of_which_nothing_is_kept_is_asked_of_no_model(judge):
    asked = [example("q0", kept=((), ())), example("q1")]
    nothing, something = judge.rows(named("block"), asked)
    assert (nothing["text"], nothing["f1"], nothing["unsupported"]) == ("", 0.0, 1.0)
    assert (nothing["cached"], nothing["computed"]) == (0, 0)
    assert "nll" not in nothing
    assert something == judge.rows(named("block"), asked[1:])[0]
    assert "nll" in judge.rows(named("whole-block"), asked[:1])[0]


def test_questions_of_all_kinds_come_in_turn_and_a_limit_counts_each_kind():
    from adaptation_rows import in_turn

    asked = [example("a"), example("b"), unanswerable("c"), example("d", "hotpotqa"), example("e")]
    assert [one.id for one in in_turn(asked, None)] == ["a", "c", "d", "b", "e"]
    assert [one.id for one in in_turn(asked, 1)] == ["a", "c", "d"]
    assert [one.id for one in in_turn(asked, 9)] == ["a", "c", "d", "b", "e"]


@pytest.mark.parametrize(
    ("one", "message"),
    [
        (example("q", answers=()), "question 'q' of squad must have an answer, got none"),
        (example("q 1"), "ids must have no white space, got 'q 1' in squad"),
    ],
)
def test_refuses_questions_that_cannot_be_judged_or_told_apart(one, message):
    from adaptation_rows import in_turn

    with pytest.raises(ValueError, match=message):
        in_turn([one], None)


def test_the_base_alone_is_asked_with_other_prompts():
    from adaptation_settings import chosen_settings

    def names(*wanted, adapted, has_chat=True):
        return [one.name for one in chosen_settings(wanted, adapted=adapted, has_chat=has_chat)]

    prompts = {"sequential-chat-examples", "sequential-instruct"}
    base = names(adapted=False)
    assert set(base) - set(names(adapted=True)) == prompts
    assert set(base) - set(names(adapted=False, has_chat=False)) == {"sequential-chat-examples"}
    assert names("block", "sequential", adapted=True) == ["sequential", "block"]
    with pytest.raises(ValueError, match=r"settings must be of sequential, .*, got 'blok'"):
        names("blok", adapted=True)
    with pytest.raises(ValueError, match="needs a tokenizer with a chat template"):
        names("sequential-chat-examples", adapted=False, has_chat=False)


def test_every_setting_reads_what_its_name_says():
    from adaptation_settings import SETTINGS

    for setting in SETTINGS:
        assert setting.pruned is not setting.name.startswith("whole-")
        assert setting.name.removeprefix("whole-").startswith(setting.options["mode"])
    gaps = named("ape-serial-gaps").options
    assert (gaps["positions"], gaps["repack"]) == ("serial", False)
    assert named("ape").options == {"mode": "ape"}
    assert named("graph").options["graph"].k == 1


@pytest.fixture
def asked(tmp_path):
    path = tmp_path / "examples.jsonl"
    some = [example(f"q{row}") for row in range(3)]
    write_examples(path, [*some, unanswerable("u0"), example("h0", "hotpotqa")])
    return path


def run_of(asked, checkpoint, out, **changes):
    from adaptation_rows import Run

    return replace(Run(asked, out, str(checkpoint), block=2), **changes)


def test_generates_a_row_of_each_setting_once_and_goes_on(asked, checkpoint, tmp_path, capsys):
    from adaptation_rows import generate
    from quality_rows import read_rows

    out = tmp_path / "rows"
    out.mkdir()
    run = run_of(asked, checkpoint, out)
    generate(replace(run, limit=1, settings=("block", "ape")))
    assert len(read_rows(out)) == 3 * 2
    first = (out / "rows-none-00.jsonl").read_bytes()
    # As a process that was killed leaves it.
    (out / "rows-none-00.jsonl").write_bytes(first[:-20])
    generate(run)
    rows = read_rows(out)
    assert len(rows) == 5 * 10
    assert len({(row["setting"], row["data"], row["id"]) for row in rows}) == len(rows)
    assert (out / "rows-none-00.jsonl").read_bytes().startswith(first[: first[:-1].rfind(b"\n")])
    written = (out / "rows-none-00.jsonl").read_bytes()
    generate(run)
    assert (out / "rows-none-00.jsonl").read_bytes() == written
    assert "5 of 5 questions in 10 settings, 0 new rows" in capsys.readouterr().err
    assert {row["model"] for row in rows} == {checkpoint.name}


@pytest.fixture
def adapter(checkpoint, tmp_path):
    """A folder with an adapter that changes what the tiny model says."""
    from rag.adaptation.adapter import AdapterConfig, save_adapter
    from rag.models.language_model import load_language_model
    from rag.training.lora import DECODER_LINEARS, LoRA, lora_layers

    loaded = load_language_model(str(checkpoint), dtype="float32")
    lora = LoRA(2, 4.0, DECODER_LINEARS)
    generator = torch.Generator().manual_seed(0)
    layers = lora.apply(loaded.model, generator)
    with torch.no_grad():
        for layer in lora_layers(loaded.model).values():
            layer.lora_b.normal_(0, 0.3, generator=generator)
    folder = tmp_path / "adapter"
    save_adapter(folder, loaded.model, AdapterConfig.of(loaded.identity, lora, layers))
    return folder


def test_base_and_adapter_share_a_folder_and_are_judged_side_by_side(
    asked, adapter, checkpoint, tmp_path
):
    from adaptation_rows import generate
    from quality_rows import read_rows

    from rag.adaptation.adapter import load_adapter_config

    run = run_of(asked, checkpoint, tmp_path / "rows")
    run.out.mkdir()
    for which in ("none", str(adapter)):
        generate(replace(run, adapter=which))
    sha = load_adapter_config(adapter).adapter
    sides = {}
    for row in read_rows(run.out):
        sides.setdefault(row["part"], {})[row["setting"], row["data"], row["id"]] = row
    assert set(sides) == {"none", sha}
    assert len(sides[sha]) == 5 * 9
    both = [(sides["none"][key], row) for key, row in sides[sha].items()]
    assert all(base["asked"] == row["asked"] for base, row in both)
    assert all(base["nll"] != row["nll"] for base, row in both if "nll" in row)
    page = page_of(tmp_path, run.out)
    assert f"adapter {sha[:12]};" in page
    header = page.split("\n## squad\n")[1].split("| ---")[0]
    assert "F1, base | F1, adapted" in header
    assert cells(page.split("\n## squad\n")[1], "`whole-block`")[1] == "3"


def test_stops_before_a_block_that_would_end_too_late(
    asked, checkpoint, tmp_path, monkeypatch, capsys
):
    import adaptation_rows
    from quality_rows import read_rows

    clock = [0.0]
    judged = adaptation_rows.Judge.rows

    def slow(judge, setting, examples):
        clock[0] += 10.0
        return judged(judge, setting, examples)

    monkeypatch.setattr(adaptation_rows.Judge, "rows", slow)
    monkeypatch.setattr(adaptation_rows.time, "monotonic", lambda: clock[0])
    run = run_of(asked, checkpoint, tmp_path, settings=("ape", "block"), minutes=50 / 60)
    adaptation_rows.generate(run)
    rows = read_rows(tmp_path)
    per_setting = {
        name: [r["id"] for r in rows if r["setting"] == name] for name in ("ape", "block")
    }
    assert per_setting["ape"] == per_setting["block"]
    assert len(per_setting["ape"]) == 4
    assert "stops in time" in capsys.readouterr().err


def test_refuses_rows_of_another_base_or_of_other_passages(asked, checkpoint, tmp_path):
    from adaptation_rows import generate

    run = run_of(asked, checkpoint, tmp_path, settings=("ape",))
    generate(run)
    path = tmp_path / "rows-none-00.jsonl"
    whole = path.read_text()
    weights = json.loads(whole.split("\n")[0])["weights"]
    path.write_text(whole.replace(weights, "0" * 12))
    with pytest.raises(ValueError, match=f"with weights {'0' * 12}, not {weights}"):
        generate(run)
    path.write_text(whole)
    write_examples(asked, [example("q0", kept=((0,), (1,)))])
    with pytest.raises(ValueError, match="question 'q0' of squad was asked with other passages"):
        generate(run)


def row_of(part, data, setting, id_, **values):
    return {
        "part": part,
        "data": data,
        "setting": setting,
        "id": id_,
        "cached": 90,
        "computed": 10,
        "gold": "1",
        "unsupported": 0.0,
        "answer_tokens": 2,
        "model": "tiny",
        "weights": "w" * 12,
        "asked": f"{data}-{id_}",
        "device": "cpu",
        **values,
    }


ADAPTER = "abcdef012345" + "6" * 52
F1 = {
    "none": {
        "sequential": 0.3,
        "ape": 0.2,
        "sequential-chat-examples": 0.35,
        "sequential-instruct": 0.1,
    },
    ADAPTER: {
        "sequential": 0.74,
        "ape": 0.73,
        "block": 0.72,
        "graph": 0.7,
        "parallel": 0.5,
        "whole-sequential": 0.6,
        "whole-ape": 0.4,
    },
}


def made_rows(*, questions=12, f1=None, refused=None, **more):
    """Rows whose F1 differs by .1 from question to question, with the means that are given.

    `refused` is of 10 unanswerable questions how many are refused.
    """
    rows = []
    for part, of_part in (f1 or F1).items():
        for data in ("hotpotqa", "squad"):
            for setting, mean in of_part.items():
                for row in range(questions):
                    shift = 0.05 if row % 2 else -0.05
                    values = {"em": float(row % 2), "f1": round(mean + shift, 4), "nll": 2 - mean}
                    cited = {"cite_sentence": 0.5 + 0.3 * (setting == "ape"), "cite_document": 1.0}
                    values |= {**cited, "contains": 1.0, "lost": 0.0, **more}
                    rows.append(row_of(part, data, setting, f"q{row}", **values))
                for row in range(10 if refused is not None and data == "squad" else 0):
                    said = float(row < refused)
                    rows.append(row_of(part, data, setting, f"u{row}", refused=said))
    return rows


def write_rows(folder, rows):
    folder.mkdir(exist_ok=True)
    (folder / "rows-00.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "run.json").write_text(json.dumps({"cpu": "torch 2"}))
    return folder


def page_of(tmp_path, *folders):
    from adaptation_page import write_page

    return write_page(folders, tmp_path).read_text()


def cells(page, begins):
    line = next(one for one in page.splitlines() if one.startswith(f"| {begins}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_goals_by_hand(tmp_path):
    page = page_of(tmp_path, write_rows(tmp_path / "r", made_rows(refused=7)))
    order = ("sequential", "parallel", "ape", "ape-serial-gaps", "block", "graph")

    def told(begins):
        _, n, *found = cells(page, begins)
        return n, dict(zip(order, found, strict=True))

    n, close = told("squad: F1 at most 0.02 below")
    assert n == "12"
    assert close["sequential"] == close["ape-serial-gaps"] == ""
    assert close["ape"] == "-0.010 [-0.010, -0.010]: **met**"
    assert close["block"] == "-0.020 [-0.020, -0.020]: **met**"
    assert close["graph"] == "-0.040 [-0.040, -0.040]: **missed**"
    _, whole = told("squad, whole: F1 at most 0.02 below adapted `whole-sequential`")
    assert {name for name, cell in whole.items() if cell} == {"ape"}
    assert whole["ape"].startswith("-0.200")
    _, high = told("squad: F1 at least 0.7")
    assert [high["graph"], high["parallel"]] == ["0.700: **met**", "0.500: **missed**"]
    _, gain = told("hotpotqa: F1 at least 0.25 above base `sequential-chat-examples`")
    assert gain["sequential"] == "+0.390 [+0.390, +0.390]: **met**"
    assert gain["parallel"] == "+0.150 [+0.150, +0.150]: **missed**"
    _, cited = told("squad: citation precision at least 0.8")
    assert [cited["ape"], cited["block"]] == ["0.800: **met**", "0.500: **missed**"]
    n, refused = told("squad: refusals of unanswerable")
    assert (n, refused["ape"]) == ("10", "70%, lost 0.0%: **met**")
    assert "hotpotqa: refusals" not in page


@pytest.mark.parametrize(
    ("refused", "lost", "verdict"),
    [(6, 0, "met"), (5, 0, "missed"), (9, 2, "missed"), (6, 1, "met")],
)
def test_refusals_must_be_many_and_their_price_small(refused, lost, verdict):
    from adaptation_goals import goals
    from quality_values import Measured

    values = {
        "lost": [float(row < lost) for row in range(20)] + [None] * 10,
        "refused": [None] * 20 + [float(row < refused) for row in range(10)],
    }
    one = Measured([f"q{row}" for row in range(30)], [()] * 30, {"adapted: ape": values})
    (goal,) = goals({"squad": one})
    assert goal.found["ape"].verdict == verdict


def test_too_few_questions_leave_a_goal_open(tmp_path):
    page = page_of(tmp_path, write_rows(tmp_path / "r", made_rows(questions=9)))
    assert "**open**" in page
    assert "**met**" not in page
    assert "**missed**" not in page


def test_tables_tell_means_intervals_and_n(tmp_path):
    rows = made_rows(refused=7)
    rows = [r for r in rows if not (r["part"] != "none" and r["id"] in {"q0", "q1"})]
    page = page_of(tmp_path, write_rows(tmp_path / "r", rows))
    squad = page.split("\n## squad\n")[1].split("\n## hotpotqa\n")[0]
    answers, differences, evidence, refusals = (
        part for part in squad.split("\n\n") if part.startswith("| ")
    )
    assert cells(answers, "`ape`")[:2] == ["`ape`", "10 to 12"]
    header = [cell.strip() for cell in answers.splitlines()[0].strip("|").split("|")]
    by = dict(zip(header, cells(answers, "`ape`"), strict=True))
    assert by["F1, base"].startswith("0.200 [")
    assert by["F1, adapted"].startswith("0.730 [")
    assert by["EM, base"].startswith("0.500 [")
    assert by["NLL, adapted"] == "1.270 [1.270, 1.270]"
    assert cells(answers, "`sequential-instruct`")[-1] == ""
    assert cells(differences, "`ape`") == [
        "`ape`",
        "10 to 12",
        "+0.530 [+0.530, +0.530]",
        "-0.100 [-0.100, -0.100]",
        "-0.010 [-0.010, -0.010]",
        "+0.100 [+0.100, +0.100]",
        "+0.010 [+0.010, +0.010]",
        "10",
    ]
    assert cells(differences, "`whole-ape`")[4] == "-0.200 [-0.200, -0.200]"
    assert cells(evidence, "`ape`")[2:4] == ["0.800 [0.800, 0.800]"] * 2
    assert cells(evidence, "`ape`")[-2:] == ["2.0", "2.0"]
    assert cells(refusals, "`ape`")[1] == "10"
    assert cells(refusals, "`ape`")[2].startswith("0.700 [")


def test_the_page_is_remade_from_its_values_and_two_folders_are_one(tmp_path):
    rows = made_rows(refused=3)
    for name in "ab":
        (tmp_path / name).mkdir()
    both = page_of(tmp_path / "a", write_rows(tmp_path / "r", rows))
    parts = [
        write_rows(tmp_path / f"r{place}", [row for row in rows if row["part"] == part])
        for place, part in enumerate(("none", ADAPTER))
    ]
    assert page_of(tmp_path / "b", *parts) == both
    chart = (tmp_path / "b" / "adaptation-results.svg").read_text()
    (tmp_path / "b" / "adaptation-results.svg").unlink()
    assert page_of(tmp_path / "b") == both
    assert (tmp_path / "b" / "adaptation-results.svg").read_text() == chart


def test_in_short_says_what_the_values_say(tmp_path):
    page = page_of(tmp_path, write_rows(tmp_path / "r", made_rows(refused=7)))
    short = " ".join(page.split("## In short")[1].split("![")[0].split())
    assert (
        "squad, pruned passages in one prompt: F1 is 0.740 adapted and 0.300 with the base's"
        " `sequential`: +0.440 [+0.440, +0.440] (n = 12)." in short
    )
    assert "0.350 with the base's `sequential-chat-examples` with its best prompt: +0.390" in short
    assert "an F1 of 0.500 (`parallel`) to 0.730 (`ape`), one prompt 0.740 (n = 12)." in short
    assert (
        "squad, base: reading pruned passages from the cache gives an F1 of 0.200 (`ape`)," in short
    )
    assert "squad, adapted: pruning changes the F1 of one prompt by +0.140" in short
    assert "squad, adapted, `sequential`: 70% of 10 unanswerable questions are refused" in short
    assert "Goals met in every way to read, 1 of 9: squad: refusals of unanswerable" in short
    assert "Goals missed in every way to read, 2 of 9: squad, whole: F1" in short
    assert "Goals met in some ways to read and missed in others, 6 of 9: squad: F1" in short


def test_a_page_of_the_base_alone_claims_nothing_of_an_adapter(tmp_path):
    page = page_of(tmp_path, write_rows(tmp_path / "r", made_rows(f1={"none": F1["none"]})))
    assert "There are no rows of an adapted model yet" in page
    assert "## The goals" not in page
    assert "no adapter yet" in page
    assert "F1, adapted" not in page
    chart = (tmp_path / "adaptation-results.svg").read_text()
    assert 'class="base"' in chart
    assert 'class="adapted"' not in chart


def test_a_page_of_an_adapter_alone_has_no_gain(tmp_path):
    page = page_of(tmp_path, write_rows(tmp_path / "r", made_rows(f1={ADAPTER: F1[ADAPTER]})))
    assert "base's best prompt" not in page
    assert "F1, base" not in page
    assert "adapter abcdef012345;" in page


def test_bars_are_as_long_as_their_means(tmp_path):
    page_of(tmp_path, write_rows(tmp_path / "r", made_rows()))
    import adaptation_chart

    scale = adaptation_chart.WIDTH - adaptation_chart.LEFT - adaptation_chart.RIGHT
    chart = (tmp_path / "adaptation-results.svg").read_text()
    panels = chart.split("<g ")[1:]
    assert len(panels) == 2
    bars = re.findall(r'<rect class="(\w+)" x="144.0" y="[\d.]+" width="([\d.]+)"', panels[0])
    told = [(kind, round(float(width) / scale, 2)) for kind, width in bars]
    assert told[:4] == [("base", 0.3), ("adapted", 0.74), ("adapted", 0.5), ("base", 0.2)]
    assert panels[0].index("squad") < panels[0].index("sequential")
    assert "(n = 12)" in panels[0]
    texts = re.findall(r">(0\.\d\d)</text>", panels[0])
    assert texts[:4] == ["0.30", "0.74", "0.50", "0.20"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"weights": "v" * 12}, "ROWS must be of one base model, got tiny v+, tiny w+"),
        ({"part": "f" * 64}, "ROWS must be of one adapter, got abcdef.*, f+"),
        ({"asked": "other"}, "question 'q0' of squad was asked with different passages"),
    ],
)
def test_refuses_rows_that_do_not_belong_together(tmp_path, changed, message):
    rows = made_rows()
    other = write_rows(tmp_path / "o", [row_of("none", "squad", "block", "q0") | changed])
    with pytest.raises(ValueError, match=message):
        page_of(tmp_path, write_rows(tmp_path / "r", rows), other)


def test_refuses_folders_without_rows(tmp_path):
    with pytest.raises(ValueError, match="ROWS must have rows, got none in"):
        page_of(tmp_path, write_rows(tmp_path / "r", []))


def test_the_best_prompt_is_judged_over_the_questions_that_all_were_asked():
    from adaptation_values import best_prompt
    from quality_values import Measured

    values = {
        "base: sequential": {"f1": [0.5, 0.5, None]},
        "base: sequential-instruct": {"f1": [0.4, 0.4, 1.0]},
        "base: sequential-chat-examples": {"f1": [0.5, 0.5, 1.0]},
    }
    one = Measured(["a", "b", "c"], [(), (), ()], values)
    assert best_prompt(one) == "sequential"
    assert best_prompt(Measured(["a"], [()], {})) == ""


def test_the_commands_go_from_examples_to_a_page(asked, checkpoint, tmp_path, monkeypatch, capsys):
    import adaptation

    rows, docs = tmp_path / "rows", tmp_path / "docs"
    commands = [
        ["generate", str(asked), "-o", str(rows), "--model", str(checkpoint), "--limit", "2"],
        ["page", str(rows), "-o", str(docs)],
    ]
    for command in commands:
        monkeypatch.setattr(sys, "argv", ["adaptation.py", *command])
        adaptation.main()
    page = (docs / "adaptation-results.md").read_text()
    assert capsys.readouterr().out.strip() == str(docs / "adaptation-results.md")
    assert cells(page.split("## hotpotqa")[1], "`whole-block`")[1] == "1"
    assert str(tmp_path) not in page
    assert (docs / "adaptation-results.svg").read_text().startswith("<svg")
