"""The run of a training on a task that is one parabola: looks, patience, state and its errors."""

import math

import pytest
import torch

from rag.training.journal import read_journal
from rag.training.run_state import load_state
from rag.training.schedule import Schedule
from rag.training.training_run import TrainingFailedError, TrainingRun
from rag.training.watching import Unwatched


class Parabola:
    """Learns the mean of numbers; the look says how far it is from 1."""

    def __init__(self, looks=True):
        self.weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.seen, self.looks, self.interrupts, self.probes = [], looks, set(), []

    def batches(self, epoch):
        return [[epoch, 0], [epoch, 1], [epoch, 2]]

    def add_gradients(self, rows, place, precision):
        if place.step in self.interrupts:
            self.interrupts.remove(place.step)
            raise KeyboardInterrupt
        self.seen.append((place.step, tuple(rows)))
        loss = ((self.weight - 1.0 - 0.1 * rows[1]) ** 2).sum()
        loss.backward()
        return {"loss": loss.item()}

    def look(self, precision):
        return {"far": abs(self.weight.item() - 1.0), "hidden": 1.0} if self.looks else None

    def merit(self, figures):
        return -figures["far"]

    def charted(self, figures):
        return {"far": figures["far"]}

    def probe(self, precision):
        self.probes.append(precision)
        ((self.weight - 1.0) ** 2).sum().backward()


def schedule(**changes):
    plain = {
        "epochs": 2.0, "steps": None, "learning_rate": 0.1, "decay": "cosine", "warmup": 0.0,
        "weight_decay": 0.0, "clip": 10.0, "looks": 3, "patience": 3, "precision": "float32",
    }  # fmt: skip
    return Schedule(**{**plain, **changes})


def run_of(task, folder, **changes):
    return TrainingRun(task, schedule(**changes), {"w": task.weight}, folder, {"a": 1})


def trained(task, folder, *, deadline=None, state_every=50, **changes):
    return run_of(task, folder, **changes).train(
        Unwatched(), deadline=deadline, state_every=state_every
    )


def test_epochs_follow_each_other_and_looks_are_noted(tmp_path):
    task = Parabola()
    told = trained(task, tmp_path)
    assert task.seen == [(step, (step // 3, step % 3)) for step in range(6)]
    assert (told.steps, told.planned, told.stopped, told.parameters) == (6, 6, "done", 1)
    records = read_journal(tmp_path / "losses.jsonl")
    assert [one["step"] for one in records if "far" in one] == [0, 2, 4, 6]
    assert [one["step"] for one in records if "loss" in one] == [1, 2, 3, 4, 5, 6]
    assert not any("hidden" in one for one in records)
    assert records[1]["rate"] == pytest.approx(1.0)
    assert told.before == {"far": 1.0, "hidden": 1.0}


def test_the_best_weights_are_kept(tmp_path):
    task = Parabola()
    told = trained(task, tmp_path, steps=40, learning_rate=0.5, looks=40, patience=40)
    looks = {o["step"]: o["far"] for o in read_journal(tmp_path / "losses.jsonl") if "far" in o}
    assert told.best_step == min(looks, key=lambda step: looks[step])
    assert abs(task.weight.item() - 1.0) == pytest.approx(min(looks.values()), rel=1e-4)
    assert told.best_step != told.steps


def test_without_a_look_the_last_weights_are_kept(tmp_path):
    told = trained(Parabola(looks=False), tmp_path)
    assert (told.best_step, told.before, told.after) == (6, None, None)


def test_patience_ends_it(tmp_path):
    task = Parabola()
    told = trained(task, tmp_path, steps=60, learning_rate=1e-12, looks=60, patience=2)
    # Such small steps still gain at first; then numbers no longer differ.
    assert told.stopped in {"no gain", "done"}
    stuck = Parabola()
    stuck.look = lambda _: {"far": 1.0, "hidden": 0.0}
    told = trained(stuck, tmp_path, steps=60, looks=30, patience=2)
    assert (told.stopped, told.steps, told.best_step) == ("no gain", 4, 0)


def test_time_is_over_between_two_steps(tmp_path):
    told = trained(Parabola(), tmp_path, deadline=0.0)
    assert (told.stopped, told.steps) == ("time", 0)


@pytest.mark.parametrize("at", range(6))
@pytest.mark.parametrize("state_every", [1, 50])
def test_an_interrupt_saves_and_the_rest_has_the_same_bits(tmp_path, at, state_every):
    whole, part = Parabola(), Parabola()
    for name in ("whole", "part"):
        (tmp_path / name).mkdir()
    trained(whole, tmp_path / "whole", state_every=state_every)
    part.interrupts = {at}
    with pytest.raises(KeyboardInterrupt):
        trained(part, tmp_path / "part", state_every=state_every)
    state = load_state(tmp_path / "part", {"a": 1})
    assert state.step == at
    rest = Parabola()
    run = run_of(rest, tmp_path / "part")
    run.restore(state)
    run.train(Unwatched(), deadline=None, state_every=state_every)
    assert torch.equal(rest.weight, whole.weight)
    assert part.seen + rest.seen == whole.seen
    journals = [read_journal(tmp_path / name / "losses.jsonl") for name in ("part", "whole")]
    assert journals[0] == journals[1]


def test_the_best_weights_from_before_an_interrupt_are_kept(tmp_path):
    """The look after two steps is the best; the rest is done by another process."""
    figures = {0: 3.0, 2: 1.0, 4: 2.0, 6: 2.0}
    weights = {}
    task = Parabola()

    def looking(of):
        def look(_):
            step = len(task.seen) + (len(of.seen) if of is not task else 0)
            weights[step] = of.weight.item()
            return {"far": figures[step]}

        return look

    task.look = looking(task)
    task.interrupts = {4}
    with pytest.raises(KeyboardInterrupt):
        trained(task, tmp_path)
    rest = Parabola()
    rest.look = looking(rest)
    run = run_of(rest, tmp_path)
    run.restore(load_state(tmp_path, {"a": 1}))
    told = run.train(Unwatched(), deadline=None, state_every=50)
    assert (told.best_step, told.after) == (2, {"far": 1.0})
    assert rest.weight.item() == weights[2] != weights[6]


def test_an_interrupted_look_is_had_again(tmp_path):
    task = Parabola()
    plain, looks = task.look, []

    def look(precision):
        looks.append(task.weight.item())
        if len(looks) == 2:
            raise KeyboardInterrupt
        return plain(precision)

    task.look = look
    with pytest.raises(KeyboardInterrupt):
        trained(task, tmp_path)
    state = load_state(tmp_path, {"a": 1})
    assert state.step == 2
    rest = Parabola()
    run = run_of(rest, tmp_path)
    run.restore(state)
    run.train(Unwatched(), deadline=None, state_every=50)
    steps = [one["step"] for one in read_journal(tmp_path / "losses.jsonl") if "far" in one]
    assert steps == [0, 2, 4, 6]


def test_a_loss_that_is_no_number_leaves_the_weights_alone(tmp_path):
    task = Parabola()
    task.add_gradients = lambda *_: {"loss": math.nan}
    with pytest.raises(TrainingFailedError, match=r"loss of step 1 is nan; .* 0\.1 may help"):
        trained(task, tmp_path)
    assert task.weight.item() == 0.0


def test_parameters_may_learn_faster_and_matrices_decay(tmp_path):
    task = Parabola()
    other = torch.nn.Parameter(torch.ones(2, 2, dtype=torch.float64))
    named = {"w": task.weight, "m": other}

    def both(*_):
        task.weight.grad, other.grad = torch.ones(1).double(), torch.ones(2, 2).double()
        return {"loss": 1.0}

    task.add_gradients = both
    settings = schedule(steps=1, weight_decay=0.5, looks=1)
    task.looks = False
    TrainingRun(
        task, settings, named, tmp_path, {}, faster=lambda name: 3.0 if name == "w" else 1.0
    ).train(Unwatched(), deadline=None, state_every=50)
    assert task.weight.item() == pytest.approx(-0.3, abs=1e-6)  # Adam's first step is the rate
    assert other[0, 0].item() == pytest.approx(1.0 * (1 - 0.1 * 0.5) - 0.1, abs=1e-6)


def test_the_gradient_is_clipped_and_the_probe_leaves_none(tmp_path, monkeypatch):
    task = Parabola()
    norms = []
    plain = torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(
        torch.nn.utils, "clip_grad_norm_", lambda p, most: norms.append(most) or plain(p, most)
    )
    told = trained(task, tmp_path, precision="auto", clip=0.25)
    assert {"float32", "bfloat16"} <= set(task.probes)
    assert told.precision in {"float32", "bfloat16"}
    assert norms == [0.25] * 6
    fixed = Parabola()
    trained(fixed, tmp_path, precision=told.precision, clip=0.25)
    assert torch.equal(fixed.weight, task.weight)
