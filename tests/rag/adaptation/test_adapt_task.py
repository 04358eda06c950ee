"""A step of an adaptation: what is drawn for it, and its loss read literally."""

import importlib.util
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rag.adaptation.adapt_task import ReadingTask
from rag.adaptation.answer_loss import AnswerLoss
from rag.adaptation.encodings import CACHED, SEQUENTIAL, Plans
from rag.adaptation.lessons import lessons
from rag.adaptation.plan_pass import PlanPass
from rag.adaptation.recipe import ReadingRecipe
from rag.adaptation.teacher import BaseTeacher
from rag.generation.engine import Engine
from rag.generation.prompt import PromptEncoder
from rag.records import ModelIdentity
from rag.training.lora import DECODER_LINEARS, LoRA, without_lora
from rag.training.training_run import Place
from rag.training.watching import Unwatched

_spec = importlib.util.spec_from_file_location(
    "made_examples", Path(__file__).with_name("made_examples.py")
)
made = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(made)
IDENTITY = ModelIdentity("tiny", "w", "{}", "float64", "t")


@pytest.fixture
def parts(tiny_model, tiny_tokenizer):
    """A float64 model whose updates are not zero, lessons, and what makes a task of them."""
    model = tiny_model(dtype=torch.float64)
    LoRA(2, 4.0, DECODER_LINEARS).apply(model, torch.Generator().manual_seed(0))
    rng = torch.Generator().manual_seed(1)
    for name, one in model.named_parameters():
        if name.endswith("lora_b"):
            one.data.copy_(0.1 * torch.randn(one.shape, generator=rng))
    prompt = PromptEncoder(tiny_tokenizer, IDENTITY, made.TEMPLATE)
    plans = Plans(prompt, (SEQUENTIAL, *CACHED))
    examples = [made.example(row) for row in range(6)]
    found, _ = lessons(examples, prompt, plans, 400, Unwatched())

    def task(**changes):
        recipe = ReadingRecipe(**changes)
        reads = PlanPass(model)
        base = BaseTeacher(model, reads, 64) if recipe.teacher == "base" else None
        return ReadingTask(model, reads, plans, recipe, found, None, base)

    return model, plans, found, task


def test_the_draw_is_a_function_of_seed_step_and_row(parts):
    _, _, _, task = parts
    one, again, other = task(), task(), task(seed=1)
    places = [Place(step, 100) for step in range(30, 60)]
    assert [one.drawn(2, at) for at in places] == [again.drawn(2, at) for at in places]
    assert [one.drawn(2, at) for at in places] != [other.drawn(2, at) for at in places]
    assert [one.drawn(2, at) for at in places] != [one.drawn(3, at) for at in places]


def test_the_first_steps_read_the_sequential_prompt_alone(parts):
    _, _, _, task = parts
    one = task(sequential_first=0.2)
    drawn = [one.drawn(0, Place(step, 100)).encodings for step in range(100)]
    assert all(of_step == (SEQUENTIAL,) for of_step in drawn[:20])
    assert all(of_step[0] == SEQUENTIAL and len(of_step) == 4 for of_step in drawn[20:])


def test_of_the_later_steps_one_in_so_many_and_the_last_reads_cached_encodings(parts):
    _, _, _, task = parts
    one = task(sequential_first=0.5, cached_every=3)
    drawn = [len(one.drawn(0, Place(step, 20)).encodings) for step in range(20)]
    assert drawn == [1] * 10 + [4, 1, 1, 4, 1, 1, 4, 1, 1, 4]


def test_a_share_is_read_whole(parts):
    _, plans, found, task = parts
    one = task(whole=0.3, sequential_first=0.0)
    drawn = [one.drawn(row, Place(step, 500)) for row in range(6) for step in range(200, 300)]
    shares = Counter(each.key[2] for each in drawn)
    assert shares[True] / len(drawn) == pytest.approx(0.3, abs=0.06)
    for each in drawn[:50]:
        row = [lesson.example.id for lesson in found].index(each.key[1])
        wanted = found[row].reading(plans, each.encodings[1], whole=each.key[2])
        assert each.readings[1] == wanted


def log_probabilities(model, reading):
    """Return what the engine says of an answer's tokens, in float64: (n, vocabulary)."""
    engine = Engine(model, IDENTITY, tested=True)
    state = engine.prefill(reading.plan)
    return engine.following(state, reading.answer).log_softmax(-1)


@pytest.mark.parametrize("teacher", ["self", "base", "none"])
def test_the_loss_is_that_of_the_engine_read_literally(parts, teacher):
    model, _, _, task = parts
    one = task(teacher=teacher, distil=0.7, whole=0.5, pass_tokens=500, teacher_tokens=300)
    place, rows = Place(50, 100), [0, 3, 5]
    told = one.add_gradients(rows, place, "float32")
    total, apart_of = 0.0, []
    with torch.no_grad():
        for row in rows:
            readings = one.drawn(row, place).readings
            said = [log_probabilities(model, reading) for reading in readings]
            answer = torch.tensor(readings[0].answer)[:, None]
            answers = [-float(logs.gather(1, answer).mean()) for logs in said]
            total += sum(answers) / len(answers)
            if teacher == "none":
                continue
            if teacher == "base":
                with without_lora(model):
                    wanted = log_probabilities(model, readings[0])
                best = wanted.topk(64).indices
                students = said
            else:
                wanted, best, students = said[0], None, said[1:]
            apart = []
            for logs in students:
                if best is None:
                    apart.append(float((wanted.exp() * (wanted - logs)).sum(-1).mean()))
                    continue
                p, q = wanted.gather(1, best), logs.gather(1, best)
                rest = 1 - p.exp().sum(-1), 1 - q.exp().sum(-1)
                kept = (p.exp() * (p - q)).sum(-1) + rest[0] * (rest[0] / rest[1]).log()
                apart.append(float(kept.mean()))
            apart_of.append(sum(apart) / len(apart))
            total += 0.7 * apart_of[-1]
    assert told["loss"] == pytest.approx(total / 3, rel=1e-6)
    assert ("distil" in told) == (teacher != "none")
    if apart_of:
        assert told["distil"] == pytest.approx(sum(apart_of) / 3, rel=1e-6)


def test_gradients_add_up_to_those_of_the_mean_loss(parts):
    """A finite difference of the loss along one direction of an update."""
    model, _, _, task = parts
    one, place, rows = task(whole=0.0, teacher="none"), Place(50, 100), [1, 2]
    named = {n: p for n, p in model.named_parameters() if p.requires_grad}
    weight = named["model.layers.1.mlp.down_proj.lora_a"]
    assert weight.dtype == torch.float64
    one.add_gradients(rows, place, "float32")
    gradient = float(weight.grad[0, 0])
    losses = []
    for shift in (1e-3, -2e-3):
        weight.data[0, 0] += shift
        losses.append(one.add_gradients(rows, place, "float32")["loss"])
    # The model's own norms are computed in float32, so a smaller shift would drown.
    assert gradient == pytest.approx((losses[0] - losses[1]) / 2e-3, rel=1e-3)


def test_the_base_teacher_is_asked_once_an_example_and_remembers(parts, monkeypatch, tmp_path):
    model, plans, found, _ = parts
    reads = PlanPass(model)
    teacher = BaseTeacher(model, reads, 8)
    keys = [one.key(whole=False) for one in found]
    readings = [one.reading(plans, SEQUENTIAL) for one in found]
    first = teacher.of(keys[:4], readings[:4], "float32")
    assert [tuple(one.tokens.shape) for one in first] == [(len(o.answer), 8) for o in found[:4]]
    asked = []
    plain = reads.logits
    monkeypatch.setattr(reads, "logits", lambda some: asked.append(len(some)) or plain(some))
    again = teacher.of(keys, readings, "float32")
    assert asked == [2]
    for one, other in zip(first, again, strict=False):
        assert torch.equal(one.logprobs, other.logprobs)
    teacher.save(tmp_path)
    other = BaseTeacher(model, reads, 8)
    other.restore(tmp_path)
    for one, kept in zip(again, other.of(keys, readings, "float32"), strict=True):
        assert torch.equal(one.tokens, kept.tokens)
        assert torch.equal(one.logprobs, kept.logprobs)
    assert asked == [2]
    assert len(teacher.of([found[0].key(whole=True)], readings[:1], "float32")) == 1
    assert asked == [2, 1]


def test_a_damaged_memory_of_the_teacher_is_named(parts, tmp_path):
    from rag.training.run_state import TrainingStateError

    (tmp_path / "teacher.safetensors").write_bytes(b"no")
    with pytest.raises(TrainingStateError, match=r"teacher\.safetensors is damaged"):
        BaseTeacher(parts[0], None, 8).restore(tmp_path)


def test_held_out_losses_are_the_engines(parts):
    model, plans, found, _ = parts
    encodings = (SEQUENTIAL, CACHED[0], CACHED[2], CACHED[4])
    looks = AnswerLoss(model, PlanPass(model), plans, found[:3], encodings, 10_000)
    figures = looks.figures()
    wanted = {}
    with torch.no_grad():
        for one in encodings:
            readings = [lesson.reading(plans, one) for lesson in found[:3]]
            losses = [
                -log_probabilities(model, r).gather(1, torch.tensor(r.answer)[:, None]).mean()
                for r in readings
            ]
            wanted[f"nll_{one.name}"] = float(sum(losses) / 3)
    wanted["nll"] = sum(wanted.values()) / 4
    wanted["said"] = 0.0
    assert figures == pytest.approx(wanted, rel=1e-7)
    one_by_one = AnswerLoss(model, PlanPass(model), plans, found[:3], encodings, 1).figures()
    assert one_by_one == pytest.approx(figures, rel=1e-9)


def test_batches_hold_every_lesson_once_and_repeat(parts):
    _, _, _, task = parts
    one = task(batch_size=4)
    assert sorted(row for batch in one.batches(3) for row in batch) == list(range(6))
    assert one.batches(3) == task(batch_size=4).batches(3)


@pytest.fixture
def figures(parts):
    """Figures of lessons, read in the sequential prompt."""
    model, plans, _, _ = parts

    def of(*lessons):
        return AnswerLoss(model, PlanPass(model), plans, lessons, (SEQUENTIAL,), 1).figures()

    return of


def test_refusals_have_a_held_out_figure_of_their_own(parts, figures):
    found = parts[2]
    refused = replace(found[2], example=replace(found[2].example, answers=(), unanswerable=True))

    both = figures(found[0], refused, found[1])
    assert both.keys() == {"nll", "nll_sequential", "said", "refusals"}
    assert both["nll"] == pytest.approx(figures(*found[:2])["nll"], rel=1e-9)
    alone = figures(refused)
    assert alone.keys() == {"nll", "nll_sequential", "said"}
    assert both["refusals"] == pytest.approx(alone["nll"], rel=1e-9)


def test_an_answer_is_said_if_greedy_decoding_gives_it_and_that_is_what_weights_are_chosen_by(
    parts, figures
):
    model, plans, found, task = parts
    reading = found[0].reading(plans, SEQUENTIAL)
    engine, greedy = Engine(model, IDENTITY, tested=True), []
    state = engine.prefill(reading.plan)
    for _ in range(3):
        greedy.append(int(state.logits.argmax()))
        state = engine.advance(state, greedy[-1])
    right = replace(found[0], answer=tuple(greedy))
    wrong = replace(found[1], answer=(*greedy[:2], (greedy[2] + 1) % 50))

    assert [figures(right)["said"], figures(wrong)["said"]] == [1.0, 0.0]
    assert figures(right, wrong, wrong)["said"] == pytest.approx(1 / 3)
    merit = task().merit
    assert merit({"nll": 2.0, "said": 0.4}) > merit({"nll": 1.0, "said": 0.3})
    assert merit({"nll": 1.0, "said": 0.4}) > merit({"nll": 2.0, "said": 0.4})
