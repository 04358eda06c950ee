"""Adapting a tiny random model: its loss falls, it resumes bit-equal, and it writes what it says."""

import importlib.util
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rag.adaptation.adapt import adapt
from rag.adaptation.adaptation_card import DataFacts
from rag.adaptation.adapter import adapted, load_adapter_config
from rag.adaptation.recipe import ReadingRecipe
from rag.errors import AdapterError, UnsupportedModelError
from rag.generation.cached import GenerateCached
from rag.generation.decoding import Sampling
from rag.generation.local_model import LocalModel
from rag.models.language_model import LoadedModel
from rag.records import ModelIdentity
from rag.training.journal import of_steps, read_journal
from rag.training.lora import DECODER_LINEARS, LoRA
from rag.training.run_state import TrainingStateError
from rag.training.training_run import TrainingFailedError
from rag.training.watching import Unwatched

_spec = importlib.util.spec_from_file_location(
    "made_examples", Path(__file__).with_name("made_examples.py")
)
made = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(made)
TEMPLATE = made.TEMPLATE
example = made.example


def recipe(**changes):
    plain = {
        "steps": 20, "batch_size": 4, "learning_rate": 2e-2, "warmup": 0.1,
        "tuning": LoRA(4, 8.0, DECODER_LINEARS), "looks": 2, "precision": "float32",
        "stored": "float32", "sequential_first": 0.2,
    }  # fmt: skip
    return ReadingRecipe(**{**plain, **changes})


@pytest.fixture
def loaded(tiny_model, tiny_tokenizer):
    """Return a function -> a fresh copy of the same tiny model."""

    def load(dtype=torch.float32, **changes):
        model = tiny_model("llama", dtype, **changes)
        config = json.dumps({"a": 1})
        identity = ModelIdentity("tiny", "w" * 64, config, str(dtype), "t" * 64)
        return LoadedModel(model, tiny_tokenizer, identity)

    return load


EXAMPLES = [example(row) for row in range(8)]


def adapter_bytes(folder):
    return (folder / "adapter.safetensors").read_bytes()


@pytest.mark.parametrize("teacher", ["self", "base", "none"])
def test_twenty_steps_lower_the_loss_of_every_encoding(loaded, tmp_path, teacher):
    told = adapt(EXAMPLES, EXAMPLES, loaded(), recipe(teacher=teacher), tmp_path, template=TEMPLATE)
    before, after = told.course.before, told.course.after
    assert set(before) == {
        "nll", "nll_sequential", "nll_ape", "nll_ape-serial", "nll_block", "nll_parallel",
        "nll_graph", "said",
    }  # fmt: skip
    assert all(after[name] < 0.7 * before[name] for name in before if name != "said")
    assert after["said"] >= before["said"] == 0.0
    assert told.course.best_step == told.course.steps == 20
    losses = of_steps(read_journal(tmp_path / "losses.jsonl"), "answer")
    assert len(losses) == 20
    assert sum(v for _, v in losses[-4:]) < 0.8 * sum(v for _, v in losses[:4])
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        "adapter.safetensors", "config.json", "README.md", "losses.jsonl", "losses.svg",
    }  # fmt: skip


def short(folder, loaded, *, steps=6, watcher=None, **more):
    """Run a short training with a look every second step, and return what it came to."""
    wanted = recipe(**({"steps": steps, "looks": 3, "batch_size": 3} | more.pop("recipe", {})))
    return adapt(
        more.pop("examples", EXAMPLES),
        more.pop("held_out", EXAMPLES[:2]),
        loaded,
        wanted,
        folder,
        template=TEMPLATE,
        watcher=watcher,
        **more,
    )


class StopsAfter(Unwatched):
    """Interrupts a training from the keyboard once it has done some steps."""

    def __init__(self, steps):
        self.name, self.left = "", steps

    def stage(self, name, total):
        self.name = name

    def advance(self, steps=1):
        self.left -= steps if self.name == "train" else 0
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("teacher", "at"), [("self", 1), ("self", 4), ("base", 3)])
def test_an_interrupted_training_resumes_to_the_same_bits(loaded, tmp_path, teacher, at):
    changes = {"recipe": {"teacher": teacher, "whole": 0.3}}
    examples = [*EXAMPLES, example(9, answers=())]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    one = short(whole, loaded(), examples=examples, **changes)
    with pytest.raises(KeyboardInterrupt):
        short(parts, loaded(), examples=examples, watcher=StopsAfter(at), **changes)
    assert (parts / "state.safetensors").exists()
    assert not (parts / "adapter.safetensors").exists()
    assert (parts / "teacher.safetensors").exists() == (teacher == "base")
    other = short(parts, loaded(), examples=examples, resume=True, **changes)
    assert other.course.steps == one.course.steps == 6
    assert adapter_bytes(parts) == adapter_bytes(whole)
    assert read_journal(parts / "losses.jsonl") == read_journal(whole / "losses.jsonl")
    assert {path.name for path in parts.iterdir()} == {path.name for path in whole.iterdir()}


def test_an_adapter_is_trained_further_from_where_it_was(loaded, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    one = short(first, loaded())
    two = short(second, loaded(), start=first)
    assert two.course.before == pytest.approx(one.course.after, rel=1e-6)
    assert two.course.after["nll"] < two.course.before["nll"]
    config, again = load_adapter_config(first), load_adapter_config(second)
    assert again.adapter != config.adapter
    assert again.recipe["start"] == {"adapter": config.adapter, "recipe": config.recipe}
    assert (
        f"trained further from adapter `{config.adapter[:16]}`"
        in (second / "README.md").read_text()
    )


def test_a_training_that_starts_from_an_adapter_resumes_to_the_same_bits(loaded, tmp_path):
    first, whole, parts = (tmp_path / name for name in ("first", "whole", "parts"))
    short(first, loaded())
    short(whole, loaded(), start=first)
    with pytest.raises(KeyboardInterrupt):
        short(parts, loaded(), start=first, watcher=StopsAfter(3))
    with pytest.raises(TrainingStateError, match="start was"):
        short(parts, loaded(), resume=True)
    short(parts, loaded(), start=first, resume=True)
    assert adapter_bytes(parts) == adapter_bytes(whole)


def test_refuses_to_start_from_what_does_not_fit(loaded, tmp_path):
    first = tmp_path / "first"
    short(first, loaded())
    with pytest.raises(AdapterError, match="nowhere is no adapter"):
        short(tmp_path / "x", loaded(), start=tmp_path / "nowhere")
    other = loaded()
    other = replace(other, identity=replace(other.identity, weights="v" * 64))
    with pytest.raises(AdapterError, match="was trained on tiny with weights wwwwwwwwwwww"):
        short(tmp_path / "x", other, start=first)
    wanted = {"tuning": LoRA(2, 4.0, DECODER_LINEARS)}
    with pytest.raises(ValueError, match=r"tuning must be that of .*first, LoRA\(rank=4"):
        short(tmp_path / "x", loaded(), start=first, recipe=wanted)


def test_gradients_reach_nothing_but_the_adapter(loaded, tmp_path):
    base, trained = loaded(), loaded()
    short(tmp_path, trained)
    before = dict(base.model.named_parameters())
    updates = 0
    for name, one in trained.model.named_parameters():
        if ".lora_" in name:
            assert one.requires_grad
            updates += 1
        else:
            assert not one.requires_grad
            assert one.grad is None
            assert torch.equal(one, before[name.replace(".base.", ".")])
    assert updates == 2 * 7 * 3


def test_what_is_saved_reads_as_what_was_trained(loaded, tmp_path):
    """The file holds the weights of the best look: merged, their answers' losses are those told."""
    told = short(tmp_path, loaded(torch.float64), recipe={"stored": "float32"})
    assert load_adapter_config(tmp_path).recipe["best_step"] == told.course.best_step
    merged = adapted(loaded(torch.float64), tmp_path)
    model = LocalModel(merged, template=TEMPLATE)
    generate = GenerateCached(model.engine(), model.prompt, mode="block")
    losses = []
    for one in EXAMPLES[:2]:
        state = model.engine().prefill(generate.plan(one.query, one.passages))
        answer = (*model.prompt.ids(f" {one.target}"), *model.prompt.ids("\n"))
        losses.append(-float(model.engine().score(state, answer).mean()))
    assert math.isclose(sum(losses) / 2, told.course.after["nll_block"], rel_tol=1e-4)


def test_learns_to_answer_and_to_stop(loaded, tmp_path):
    """After enough steps greedy decoding says the answer and then the stop text, and ends."""
    tuned = loaded()
    wanted = recipe(steps=60, batch_size=8, readings=1, looks=1, sequential_first=0.0)
    adapt(EXAMPLES, (), tuned, wanted, tmp_path, template=TEMPLATE)
    model = LocalModel(adapted(loaded(), tmp_path), template=TEMPLATE)
    for mode in ("sequential", "block", "graph"):
        generate = GenerateCached(
            model.engine(), model.prompt, mode=mode, sampling=Sampling(max_tokens=24)
        )
        said = [generate(one.query, one.passages) for one in EXAMPLES]
        right = sum(a.text == one.target for a, one in zip(said, EXAMPLES, strict=True))
        assert right >= 6
        assert all(answer.finish == "stop" for answer in said)


def test_refusals_are_learned_as_answers(loaded, tmp_path):
    examples = [example(row, unanswerable=True) for row in range(4)]
    told = short(tmp_path, loaded(), examples=examples, held_out=examples, steps=20)
    assert told.course.after["nll"] < 0.5 * told.course.before["nll"]
    assert "4 of them unanswerable" in (tmp_path / "README.md").read_text()


def test_an_example_without_an_answer_learns_the_models_own(loaded, tmp_path):
    examples = [example(row, answers=()) for row in range(3)]
    base = LocalModel(loaded(), template=TEMPLATE)
    generate = GenerateCached(base.engine(), base.prompt, mode="sequential", sampling=Sampling(32))
    said = [generate(one.query, one.passages).text.strip() for one in examples]
    seen = StopsAfter(1)
    with pytest.raises(KeyboardInterrupt):
        short(tmp_path, loaded(), examples=examples, held_out=(), watcher=seen)
    known = json.loads((tmp_path / "own_answers.json").read_text())
    assert list(known.values()) == said


def test_the_learning_rate_is_named_where_the_loss_is_no_number(loaded, tmp_path):
    broken = loaded()
    with torch.no_grad():
        broken.model.model.norm.weight.fill_(math.nan)
    with pytest.raises(TrainingFailedError, match=r"loss of step 1 is nan; .* than 0.02 may help"):
        short(tmp_path, broken, held_out=())


def test_time_that_is_over_keeps_the_state(loaded, tmp_path):
    told = short(tmp_path, loaded(), minutes=1e-9)
    assert (told.course.stopped, told.course.steps) == ("time", 0)
    assert (tmp_path / "state.safetensors").exists()
    told = short(tmp_path, loaded(), resume=True)
    assert (told.course.stopped, told.course.steps) == ("done", 6)
    assert not (tmp_path / "state.safetensors").exists()


def test_ends_where_nothing_is_gained(loaded, tmp_path):
    told = short(
        tmp_path, loaded(), steps=30, recipe={"learning_rate": 1e-12, "looks": 30, "patience": 2}
    )
    assert told.course.stopped == "no gain"
    assert told.course.steps < 30


def test_checkpointing_and_small_passes_change_nothing(loaded, tmp_path):
    """The gradients of a step add up to the same, however it is cut into passes."""
    losses = []
    for name, changes in {
        "one": {},
        "cut": {"pass_tokens": 1},
        "less": {"checkpointing": True},
    }.items():
        short(tmp_path / name, loaded(torch.float64), recipe=changes)
        losses.append(
            [v for _, v in of_steps(read_journal(tmp_path / name / "losses.jsonl"), "loss")]
        )
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert losses[2] == pytest.approx(losses[0], rel=1e-5)


def test_the_card_says_what_was_done(loaded, tmp_path):
    facts = DataFacts("dovetail adapt x", ("x: CC BY",), "abcd", {"long answer": 3})
    short(tmp_path, loaded(), facts=facts)
    card = (tmp_path / "README.md").read_text()
    for part in (
        "# Reading adapter for tiny", "    dovetail adapt x", "SHA-256 of it: `abcd`",
        "8 examples (made 8)", "left out: 3, long answer", "licence: x: CC BY", "seed: 0",
        "| ape-serial |", "| tuning.rank | 4 |", "## Limits",
    ):  # fmt: skip
        assert part in card


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"minutes": 0.0}, "minutes must be above 0, got 0.0"),
        ({"state_every": 0}, "state_every must be at least 1, got 0"),
        ({"examples": []}, "examples must hold one that can be learned from, got 0"),
    ],
)
def test_refuses_what_does_not_fit(loaded, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        short(tmp_path, loaded(), **changes)


def test_refuses_to_resume_nothing_or_another_training(loaded, tmp_path):
    with pytest.raises(TrainingStateError, match="nothing to resume"):
        short(tmp_path, loaded(), resume=True)
    with pytest.raises(KeyboardInterrupt):
        short(tmp_path, loaded(), watcher=StopsAfter(1))
    with pytest.raises(TrainingStateError, match="held out was"):
        short(tmp_path, loaded(), resume=True, held_out=EXAMPLES[:1])


def test_refuses_a_model_that_has_an_adapter_or_whose_kv_cannot_be_reused(loaded, tmp_path):
    one = loaded()
    with pytest.raises(ValueError, match="loaded must have no adapter"):
        short(tmp_path, replace(one, identity=replace(one.identity, adapter="a" * 64)))
    for layer in one.model.model.layers:
        layer.self_attn.odd = layer.self_attn.k_proj
        del layer.self_attn.k_proj
    with pytest.raises(UnsupportedModelError, match="KV reuse is not possible"):
        short(tmp_path, one)


def test_passages_that_were_dropped_or_do_not_fit_are_counted(loaded, tmp_path):
    nothing = replace(
        EXAMPLES[0], id="none", passages=(made.passage("Ada", "So.", "It is.", kept=set()),)
    )
    long = replace(EXAMPLES[0], id="long", passages=(made.passage("Ada", "a b " * 400),))
    told = short(tmp_path, loaded(), examples=[*EXAMPLES, nothing, long])
    assert told.dropped == {"no sentence kept": 1, "longer than the model's window": 1}
    assert told.learned == 8
