"""Losses of an answer: hand-worked cases, parity with the formulas, and what a teacher teaches."""

import math

import pytest
import torch

from rag.adaptation.losses import answer_loss, distillation_loss, taught


def logits(n, vocabulary, seed, dtype=torch.float64):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(n, vocabulary, generator=rng, dtype=torch.float64).to(dtype) * 3


def test_a_hand_worked_answer():
    said = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]], dtype=torch.float64))
    told = answer_loss(said, torch.tensor([0, 1]))
    assert float(told) == pytest.approx((math.log(2) + math.log(8)) / 2)


def test_a_hand_worked_distance():
    teacher = taught(torch.log(torch.tensor([[0.5, 0.5]], dtype=torch.float64)))
    student = torch.log(torch.tensor([[0.25, 0.75]], dtype=torch.float64))
    wanted = 0.5 * math.log(2) + 0.5 * math.log(0.5 / 0.75)
    assert float(distillation_loss(student, teacher)) == pytest.approx(wanted)


def test_matches_the_definition_and_counts_the_rest_as_one_token():
    student, teacher = logits(3, 11, 0), logits(3, 11, 1)
    p, q = teacher.softmax(-1), student.softmax(-1)
    whole = sum(
        float(p[i, j]) * math.log(float(p[i, j]) / float(q[i, j]))
        for i in range(3)
        for j in range(11)
    )
    assert float(distillation_loss(student, taught(teacher))) == pytest.approx(whole / 3)
    assert float(distillation_loss(student, taught(teacher, 99))) == pytest.approx(whole / 3)
    total = 0.0
    for i in range(3):
        best = sorted(range(11), key=lambda j: -float(p[i, j]))[:4]
        total += sum(float(p[i, j]) * math.log(float(p[i, j]) / float(q[i, j])) for j in best)
        left, there = 1 - sum(float(p[i, j]) for j in best), 1 - sum(float(q[i, j]) for j in best)
        total += left * math.log(left / there)
    assert float(distillation_loss(student, taught(teacher, 4))) == pytest.approx(total / 3)


@pytest.mark.parametrize("most", [None, 4])
def test_an_identical_teacher_teaches_nothing(most):
    said = logits(4, 20, 2).requires_grad_()
    told = distillation_loss(said, taught(said, most))
    assert abs(told.item()) < 1e-12
    told.backward()
    assert said.grad.abs().max() < 1e-12


@pytest.mark.parametrize("most", [None, 4])
def test_nothing_flows_back_through_the_teacher(most):
    teacher, student = logits(2, 9, 3).requires_grad_(), logits(2, 9, 4).requires_grad_()
    distillation_loss(student, taught(teacher, most)).backward()
    assert teacher.grad is None
    assert student.grad.abs().max() > 0


@pytest.mark.parametrize("most", [None, 2])
def test_a_certain_teacher_and_a_certain_student_stay_finite(most):
    certain = torch.tensor([[80.0, 0.0, 0.0, 0.0]])
    other = torch.tensor([[0.0, 80.0, 0.0, 0.0]], requires_grad=True)
    for student in (certain.clone().requires_grad_(), other):
        told = distillation_loss(student, taught(certain, most))
        told.backward()
        assert told.isfinite()
        assert student.grad.isfinite().all()


def test_half_precision_is_computed_in_float32():
    said = logits(5, 300, 5, torch.bfloat16)
    told = answer_loss(said, torch.arange(5))
    assert told.dtype == torch.float32
    assert float(told) == pytest.approx(
        float(answer_loss(said.double(), torch.arange(5))), rel=1e-5
    )
    assert distillation_loss(said, taught(said.flip(0), 8)).dtype == torch.float32
