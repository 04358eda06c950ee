"""Precision by trial: the faster one, and float32 where the gain is small."""

import time

import pytest
import torch

from rag.training.precision import autocast, probed_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("seconds", "chosen"), [(0.02, "bfloat16"), (0.058, "float32"), (0.12, "float32")]
)
def test_chooses_bfloat16_only_where_it_is_clearly_faster(seconds, chosen, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def step(precision):
        now[0] += seconds if precision == "bfloat16" else 0.06

    assert probed_precision(step, CPU) == chosen


def test_forward_passes_run_in_what_was_chosen():
    layer = torch.nn.Linear(2, 2)
    with autocast("bfloat16", CPU):
        assert layer(torch.ones(1, 2)).dtype == torch.bfloat16
    with autocast("float32", CPU):
        assert layer(torch.ones(1, 2)).dtype == torch.float32
