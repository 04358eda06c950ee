"""State of a training: what comes back, what is refused, and what a crash leaves."""

import pytest
import torch

from rag.training import run_state
from rag.training.run_state import (
    RunState,
    TrainingStateError,
    has_state,
    load_state,
    moments_of,
    put_moments,
    save_state,
)

SETTINGS = {"seed": 1, "recipe": {"rate": 0.5, "pair": (1, 2)}}


def trained(steps):
    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 2)
    optimiser = torch.optim.AdamW(layer.parameters(), lr=0.1)
    for _ in range(steps):
        step(layer, optimiser)
    return layer, optimiser


def step(layer, optimiser):
    optimiser.zero_grad()
    layer(torch.ones(1, 3)).square().sum().backward()
    optimiser.step()


def test_an_optimiser_that_comes_back_goes_on_to_the_same_bits(tmp_path):
    layer, optimiser = trained(3)
    names = dict(layer.named_parameters())
    state = RunState(3, names, moments_of(optimiser, names), {"weight": layer.weight}, {"at": 7})
    save_state(tmp_path, state, SETTINGS)
    found = load_state(tmp_path, SETTINGS)
    assert (found.step, found.facts) == (3, {"at": 7})
    assert torch.equal(found.best["weight"], layer.weight)
    other = torch.nn.Linear(3, 2)
    other.load_state_dict(found.weights)
    second = torch.optim.AdamW(other.parameters(), lr=0.1)
    put_moments(second, dict(other.named_parameters()), found.moments)
    for _ in range(3):
        step(layer, optimiser)
        step(other, second)
    assert torch.equal(layer.weight, other.weight)
    assert torch.equal(layer.bias, other.bias)


def test_a_new_optimiser_has_no_moments():
    layer, optimiser = trained(0)
    assert moments_of(optimiser, dict(layer.named_parameters())) == {}


def test_names_the_settings_that_differ(tmp_path):
    save_state(tmp_path, RunState(1, {}, {}), SETTINGS)
    with pytest.raises(TrainingStateError, match="other settings: seed was 1, now 2"):
        load_state(tmp_path, {**SETTINGS, "seed": 2})


def test_without_a_state_nothing_resumes(tmp_path):
    assert not has_state(tmp_path)
    with pytest.raises(TrainingStateError, match=r"holds no state.safetensors"):
        load_state(tmp_path, {})


@pytest.mark.parametrize("content", [b"", b"junk" * 100])
def test_a_damaged_state_is_refused(tmp_path, content):
    (tmp_path / run_state.STATE).write_bytes(content)
    with pytest.raises(TrainingStateError, match="is damaged"):
        load_state(tmp_path, {})


def test_another_file_of_tensors_is_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"weights/x": torch.zeros(1)}, tmp_path / run_state.STATE)
    with pytest.raises(TrainingStateError, match="is damaged"):
        load_state(tmp_path, {})


def test_a_crash_while_writing_leaves_the_state_before(tmp_path, monkeypatch):
    save_state(tmp_path, RunState(1, {"x": torch.ones(2)}, {}), SETTINGS)

    def full(descriptor):
        raise OSError("no space left")

    monkeypatch.setattr("rag.files.os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        save_state(tmp_path, RunState(2, {"x": torch.zeros(2)}, {}), SETTINGS)
    assert load_state(tmp_path, SETTINGS).step == 1
    assert [path.name for path in tmp_path.iterdir()] == [run_state.STATE]
