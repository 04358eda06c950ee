"""`dovetail calibrate` in process: what it measures, writes, says, resumes and refuses."""

import json
import math

import pytest
import yaml

from pipelines.cli.main import main
from pipelines.evaluating.calibration import choice, report
from pipelines.evaluating.calibration.measure import Measuring
from pipelines.loading import load_pipeline
from rag.evaluation.answers import token_f1
from rag.generation.engine import Engine

QUICK = ("--try", "mode=ape,block,prefix")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "calibrated.yaml"


@pytest.fixture
def calibrate(index, checkpoint, out, capsys):
    """Return a function: arguments -> (exit status, standard output, standard error)."""

    def run(*more, folder=index, model=checkpoint, quick=QUICK, limit="6"):
        arguments = ["calibrate", "-i", str(folder), "-o", str(out), "--model", str(model)]
        status = main([*arguments, "--dtype", "float32", "--limit", limit, *quick, *more])
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def calibrate_json(calibrate):
    def run(*more, **options):
        status, told, err = calibrate("--json", *more, **options)
        assert (status, err) == (0, "")
        return json.loads(told)

    return run


@pytest.fixture
def data(tmp_path):
    """Six questions with answers, without a corpus of their own."""
    folder = tmp_path / "asked"
    folder.mkdir()
    lines = [
        {"id": f"q{n}", "question": f"What is sentence {n} about?", "answers": [" apples ", "pie"]}
        for n in range(6)
    ]
    (folder / "queries.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture
def longer(notes, encoder, index, tmp_path):
    """An index of notes with enough headings to ask about."""
    from pipelines.indexing import build_index

    for name in ("dunes", "eagles", "forests", "geysers"):
        text = " ".join(f"Sentence {n} is about the {name} of the world." for n in range(4))
        (notes / f"{name}.md").write_text(f"# About {name} here\n\n{text}\n")
    folder = tmp_path / "longer.idx"
    build_index([str(notes)], folder, encoder=encoder)
    return folder


@pytest.fixture
def strict(monkeypatch):
    """Let no cached mode of a random model be close enough."""
    monkeypatch.setattr(choice, "NATS", 1e-5)


def test_without_answers_the_divergence_from_sequential_is_measured(
    calibrate_json, longer, out, capsys, strict
):
    told = calibrate_json(folder=longer)
    assert told["labelled"] is False
    assert told["choosing"] + told["held_out"] + told["left_out"] == 6
    assert {one["name"] for one in told["tried"]} == {
        "sequential", told["own"], "ape T=0.8 S=1", "block", "prefix",
    }  # fmt: skip
    by_name = {one["name"]: one for one in told["tried"]}
    assert by_name["sequential"]["kl"]["mean"] == pytest.approx(0, abs=1e-7)
    # The prefix from the cache is exact; cached passages are not.
    assert by_name["prefix"]["kl"]["mean"] == pytest.approx(0, abs=1e-6)
    assert by_name["block"]["kl"]["mean"] > 1e-4
    assert by_name["ape T=0.8 S=1"]["kl"]["mean"] > 1e-4
    assert all(one["ttft_ms"] > 0 and one["f1"] is None for one in told["tried"])
    assert all(one["loss"] == one["kl"]["mean"] for one in told["tried"])
    assert any(
        one.startswith(f"No cached mode is within {report.NATS} nats") for one in told["says"]
    )
    assert told["chosen"] in ("sequential", "prefix")
    calibrated = load_pipeline(out)
    assert calibrated.check() == []
    assert calibrated.checked.steps["generate"].options == {"mode": told["chosen"]}
    assert calibrated.checked.steps["generate"].options == told["options"]
    assert main(["check", str(out)]) == 0
    assert "no mistakes" in capsys.readouterr().err
    text = out.read_text()
    assert text.startswith("# Made by: dovetail calibrate -i ")
    assert "# No cached mode is within 0.05 nats" in text


def test_the_file_answers_wherever_a_recipe_does(
    calibrate_json, data, index, out, checkpoint, capsys
):
    told = calibrate_json("--data", str(data), quick=("--try", "mode=block"), limit="4")
    assert main(["ask", "What is it about?", "-i", str(index), "-p", str(out), "--json",
                 "--model", str(checkpoint), "--dtype", "float32"]) == 0  # fmt: skip
    assert json.loads(capsys.readouterr().out)["mode"] == told["options"]["mode"]
    assert load_pipeline(out).checked.steps["generate"].options == told["options"]


def test_with_answers_their_likelihood_and_f1_are_measured(calibrate_json, data, monkeypatch):
    judged = []

    def f1(text, gold):
        judged.append(gold)
        return token_f1(text, gold)

    monkeypatch.setattr("pipelines.evaluating.calibration.measure.token_f1", f1)
    rows, real = {}, Measuring.measure

    def measure(self, settings, of_rows, name="settings"):
        rows[name] = set(of_rows)
        return real(self, settings, of_rows, name)

    monkeypatch.setattr(Measuring, "measure", measure)
    told = calibrate_json("--data", str(data))
    assert told["labelled"] is True
    assert (told["choosing"], told["held_out"], told["left_out"]) == (3, 3, 0)
    # What is told is from questions that did not choose.
    assert rows["settings"] | rows["questions held out"] == set(range(6))
    assert not rows["settings"] & rows["questions held out"]
    assert all(0 <= one["f1"] <= 1 for one in told["results"])
    exact = next(one for one in told["results"] if one["name"] == "sequential")
    assert (exact["gap"]["mean"], exact["f1_gap"]["mean"], exact["kl"]["n"]) == (0, 0, 3)
    for one in told["results"]:
        assert one["gap"]["mean"] == pytest.approx(one["loss"] - exact["loss"])
        assert one["gap"]["low"] <= one["gap"]["mean"] <= one["gap"]["high"]
    assert set(map(tuple, judged)) == {(" apples ", "pie")}


def test_the_measurements_are_those_of_the_engine(calibrate_json, data, index, checkpoint):
    """Parity with the definition: prompts run whole, in mode sequential, and read literally."""
    from pipelines.open_index import OpenIndex
    from rag.generation.local_model import LocalModel
    from rag.records import Query

    told = calibrate_json("--data", str(data), quick=("--try", "mode=ape"))
    ape = next(one for one in told["tried"] if one["mode"] == "ape")
    opened = OpenIndex(index)
    lm = LocalModel.open(str(checkpoint), "float32")
    pipeline = load_pipeline("ask", sets=["generate.mode=ape"]).bind(index=opened, lm=lm)
    from rag.evaluation.cross_validation import fold_rows

    ids = [f"q{n}" for n in range(6)]
    kl, nll = [], []
    for row in fold_rows(ids, 2, 0)[0]:
        query = Query(f"What is sentence {row} about?")
        passages = pipeline.run(query).answer.passages
        kept = [passage for passage in passages if passage.kept_rows]
        generate = pipeline.operator("generate")
        exact = generate.with_mode("sequential")
        engine = generate.engine
        p = engine.prefill(exact.plan(query, kept))
        q = engine.prefill(generate.plan(query, kept))
        ids_, state = [], engine.prefill(exact.plan(query, kept))
        while len(ids_) < 8:
            ids_.append(int(state.logits.argmax()))
            if ids_[-1] in generate.prompt.stop_ids:
                break
            state = engine.advance(state, ids_[-1])
        of_p, of_q = (engine.following(one, ids_).double().softmax(-1) for one in (p, q))
        kl.append(float((of_p * (of_p / of_q).log()).sum(-1).mean()))
        gold = generate.prompt.ids(" apples")
        chances = engine.following(q, gold).double().softmax(-1)
        nll.append(-sum(math.log(chances[n, token]) for n, token in enumerate(gold)) / len(gold))
    assert ape["kl"]["mean"] == pytest.approx(sum(kl) / 3, abs=1e-4)
    assert ape["loss"] == pytest.approx(sum(nll) / 3, abs=1e-4)
    pipeline.close()
    opened.close()


def test_the_usual_search_goes_through_modes_weights_and_repairs(calibrate, data):
    status, shown, err = calibrate("--data", str(data), quick=(), limit="4")
    assert status == 0
    for stage in (
        "modes",
        "weights and positions",
        "repairs",
        "answers of the best",
        "questions held out",
    ):
        assert stage in err
    assert "sequential" in shown
    assert "> chosen, * nothing is both faster" in shown
    assert "Chosen: " in shown


def test_a_second_run_measures_nothing_again(calibrate_json, data, monkeypatch):
    first = calibrate_json("--data", str(data))

    def refused(*_):
        raise AssertionError("measured again")

    monkeypatch.setattr(Engine, "prefill", refused)
    assert calibrate_json("--data", str(data)) == first


def test_an_interrupted_run_goes_on_and_times_nothing_twice(calibrate, data, monkeypatch):
    timed, real = [], Measuring._timed

    def counted(self, generate, asked):
        timed.append((generate.mode, asked.question.id))
        if len(timed) == 5 and not interrupted:
            interrupted.append(True)
            raise KeyboardInterrupt
        return real(self, generate, asked)

    interrupted = []
    monkeypatch.setattr(Measuring, "_timed", counted)
    assert calibrate("--data", str(data))[0] == 130
    cut = timed.pop()
    assert calibrate("--data", str(data), "--json")[0] == 0
    assert cut in timed
    assert len(timed) == len(set(timed)) >= 4 * 3 + 3


@pytest.mark.parametrize("change", ["index", "model", "prompt"])
def test_what_a_measurement_depends_on_is_measured_anew(
    change, calibrate_json, data, notes, index, encoder, checkpoint, tmp_path, monkeypatch,
    tiny_model, tiny_tokenizer, capsys,
):  # fmt: skip
    measured, real = [], Measuring._timed

    def counted(self, generate, asked):
        measured.append(generate.mode)
        return real(self, generate, asked)

    monkeypatch.setattr(Measuring, "_timed", counted)
    few = ("--data", str(data))
    calibrate_json(*few)
    count = len(measured)
    options = {}
    if change == "index":
        from pipelines.indexing import build_index

        (notes / "more.md").write_text("# More\n\nA sentence that was not there before.\n")
        build_index([str(notes)], index, encoder=encoder)
    elif change == "model":
        options["model"] = tmp_path / "other"
        tiny_model(max_position_embeddings=4096, seed=1).save_pretrained(options["model"])
        tiny_tokenizer.save_pretrained(options["model"])
        capsys.readouterr()
    else:
        mine = tmp_path / "mine.yaml"
        mine.write_text(
            "version: 1\nextends: ask\nsteps: [{id: generate, with: {prompt: instruct}}]\n"
        )
        few = (*few, "-p", str(mine))
    calibrate_json(*few, **options)
    assert len(measured) >= count + 4 * 3


def test_the_recipes_own_setting_is_measured_and_what_it_set_is_set_back(
    calibrate_json, data, tmp_path, out
):
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "version: 1\nextends: ask\nsteps:\n"
        "  - {id: generate, with: {mode: graph, k: 2, positions: serial, max_tokens: 5}}\n"
    )
    told = calibrate_json("--data", str(data), "-p", str(mine))
    assert told["own"] == "graph into_top_2, serial"
    assert told["own"] in {one["name"] for one in told["tried"]}
    assert yaml.safe_load(out.read_text())["extends"] == "mine.yaml"
    chosen = load_pipeline(out)
    assert chosen.check() == []
    options = chosen.checked.steps["generate"].options
    assert options["max_tokens"] == 5
    if options["mode"] != "graph":
        assert options["k"] == 1
    if options["mode"] in ("sequential", "prefix", "block"):
        assert options["positions"] == "shared"


def test_a_recipe_that_ends_with_passages_is_continued(calibrate_json, data, out):
    calibrate_json("--data", str(data), "-p", "bm25")
    written = yaml.safe_load(out.read_text())
    assert written["extends"] == "bm25"
    assert written["steps"][0] == "prune.features"
    pipeline = load_pipeline(out)
    assert pipeline.check() == []
    assert list(pipeline.checked.steps) == ["retrieve", "prune", "generate"]


def test_a_budget_that_is_too_small_is_told_and_the_fastest_chosen(calibrate_json, data):
    told = calibrate_json("--data", str(data), "--budget", "0.001")
    assert told["rule"] == "fastest of all"
    assert "nothing answers within 0.001 ms: the budget is too small" in told["says"][0]
    fastest = min(told["tried"], key=lambda one: one["ttft_ms"])
    assert told["chosen"] == fastest["name"]


def test_a_picture_is_written_beside_the_file(calibrate, data, tmp_path):
    picture = tmp_path / "front.svg"
    status, _, err = calibrate("--data", str(data), "--picture", str(picture))
    assert status == 0
    assert picture.read_text().startswith('<svg class="dovetail-front"')
    assert f"and {picture}" in err


def test_a_store_without_room_is_told(calibrate, data):
    _, _, err = calibrate("--data", str(data), "--kv-ram", "0", "--kv-disk", "0")
    assert "the KV store is too small for the" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--limit", "3"], "--limit must be at least 4, got 3"),
        (["--seed", "-1"], "--seed must be at least 0, got -1"),
        (["--budget", "0"], "--budget must be above 0 ms, got 0"),
        (["--budget", "nan"], "--budget must be above 0 ms, got nan"),
        (["-p", "nonesuch"], "no recipe 'nonesuch'"),
        (["-p", "replug"], "must end with generate.cached, outside loops and arms, got generate."),
        (["--try", "mode"], "--try takes OPTION=A,B,…, got 'mode'"),
        (["--try", "max_tokens=1"], "options to try must be of mode, "),
        (["--try", "mode=fast"], "got 'fast'"),
        (["--try", "mode=block", "--try", "recompute_top_r=2"], "must be in [0, 1], got 2"),
        (["--model", "http://127.0.0.1:1/v1#x"], "calibrate needs a model that runs here"),
        (["--picture", "/nonesuch/x.svg"], "--picture must be a file in a folder that exists"),
        (["--data", "/nonesuch"], "/nonesuch does not exist"),
        (["-i", "/nonesuch"], "/nonesuch"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(calibrate, out, arguments, message):
    status, shown, err = calibrate(*arguments, quick=())
    assert status == 2
    assert message in err
    assert shown == ""
    assert not out.exists()


def test_the_file_must_be_one(index, tmp_path, capsys):
    paths = ((tmp_path, "must be a file"), (tmp_path / "no" / "x", "must be in a folder that"))
    for path, message in paths:
        assert main(["calibrate", "-i", str(index), "-o", str(path)]) == 2
        assert f"--out {message}" in capsys.readouterr().err


def test_data_without_answers_is_refused(calibrate, data, out):
    text = (data / "queries.jsonl").read_text().replace('[" apples ", "pie"]', "[]")
    (data / "queries.jsonl").write_text(text)
    status, _, err = calibrate("--data", str(data))
    assert status == 2
    assert "has no question with `answers`" in err
    assert not out.exists()


def test_too_few_questions_are_refused(calibrate, data, index, out):
    text = (data / "queries.jsonl").read_text().splitlines(keepends=True)
    (data / "queries.jsonl").write_text("".join(text[:3]))
    status, _, err = calibrate("--data", str(data))
    assert status == 2
    assert "needs passages for at least 4 questions, got 3 of 3" in err
    # Three documents of one passage each: a question of each, and no more.
    status, _, err = calibrate()
    assert status == 2
    assert "needs passages for at least 4 questions, got 3 of 3" in err
