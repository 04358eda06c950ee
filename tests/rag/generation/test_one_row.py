"""Products of one row: where oneDNN is left out, that it comes back, and what products come to."""

import threading
from contextlib import ExitStack

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import linear

from rag.generation import attention
from rag.generation.engine import Engine
from rag.generation.one_row import ONEDNN, OneDNN, many_rows, one_row
from rag.generation.plan import sequential_plan
from rag.records import ModelIdentity

CPU = torch.device("cpu")


def enabled():
    return bool(torch.backends.mkldnn.enabled)


@pytest.fixture(autouse=True)
def switch(monkeypatch):
    """Begin with oneDNN on, and leave it on; whatever the CPU is, it passes for one with AVX-512."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert enabled()
    yield
    still = enabled()
    torch.backends.mkldnn.enabled = True
    assert still


def test_is_off_for_one_row_and_on_again_for_what_has_many_within():
    with ONEDNN.left_out():
        assert not enabled()
        with ONEDNN.needed():
            assert enabled()
        assert not enabled()
    assert enabled()


@given(st.lists(st.tuples(st.sampled_from(["left_out", "needed"]), st.integers(0, 5)), max_size=12))
def test_is_off_exactly_while_somebody_leaves_it_out_and_nobody_needs_it(steps):
    switch, opened = OneDNN(), []
    with ExitStack() as everything:
        for name, close in steps:
            context = everything.enter_context(ExitStack())
            context.enter_context(getattr(switch, name)())
            opened.append((name, context))
            if close < len(opened) - 1:
                opened.pop(close)[1].close()
            names = [name for name, _ in opened]
            assert enabled() == ("needed" in names or "left_out" not in names)
    assert enabled()


@pytest.mark.parametrize("name", ["left_out", "needed"])
def test_comes_back_after_an_error(name):
    with pytest.raises(KeyError), ONEDNN.left_out(), getattr(ONEDNN, name)():
        raise KeyError
    assert enabled()
    with ONEDNN.left_out():
        assert not enabled()


def test_stays_off_where_it_was_off_before():
    torch.backends.mkldnn.enabled = False
    try:
        with ONEDNN.left_out():
            with ONEDNN.needed():
                assert not enabled()
            assert not enabled()
        assert not enabled()
    finally:
        torch.backends.mkldnn.enabled = True


def test_many_rows_of_another_thread_have_it_at_once_and_nobody_waits():
    begun, done, seen = threading.Event(), threading.Event(), []

    def work():
        with many_rows(CPU, torch.bfloat16):
            seen.append(enabled())
            begun.set()
            done.wait(10)

    other = threading.Thread(target=work)
    with one_row(CPU, torch.bfloat16):
        assert not enabled()
        other.start()
        assert begun.wait(10)
        assert enabled()
        done.set()
        other.join()
        assert not enabled()
    assert seen == [True]


@pytest.mark.parametrize(
    ("device", "dtype", "capability"),
    [
        ("cpu", torch.float32, "AVX512"),
        ("cpu", torch.float16, "AVX512"),
        ("meta", torch.bfloat16, "AVX512"),
        ("cpu", torch.bfloat16, "AVX2"),
    ],
)
def test_leaves_other_types_and_devices_alone(device, dtype, capability, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    with one_row(torch.device(device), dtype):
        assert enabled()
        with ONEDNN.left_out(), many_rows(torch.device(device), dtype):
            assert not enabled()


@pytest.mark.parametrize(("inputs", "outputs"), [(576, 1536), (100, 7), (4099, 65), (33, 300)])
def test_both_kernels_round_a_product_that_is_exact_to_float32(inputs, outputs):
    generator = torch.Generator().manual_seed(0)
    row, weight, bias = (
        torch.randn(*shape, generator=generator).bfloat16()
        for shape in ((1, 1, inputs), (outputs, inputs), (outputs,))
    )
    exact = row.double() @ weight.double().T
    # Half a unit in the last place of 8 bits, and what float32 sums may lose.
    bound = exact.abs() * 2**-8 + inputs * 2**-20
    for products in (one_row, many_rows):
        with products(CPU, torch.bfloat16):
            assert ((linear(row, weight) - exact).abs() <= bound).all()
            found = linear(row, weight, bias)
        total = exact + bias.double()
        assert ((found - total).abs() <= bound + total.abs() * 2**-8).all()


@pytest.fixture
def watched(tiny_model, monkeypatch):
    """Return a bfloat16 engine, and what the switch was in its linear layers and in attention."""
    model = tiny_model(dtype=torch.bfloat16)
    engine = Engine(model, ModelIdentity("tiny", "w", "r", "bfloat16", "t"))
    seen = {"linear": set(), "attention": set()}

    def inside(query, keys, values, *args, **kwargs):
        seen["attention"].add(enabled())
        return attend(query, keys, values, *args, **kwargs)

    attend = attention.attend
    monkeypatch.setattr(attention, "attend", inside)
    for layer in model.modules():
        if isinstance(layer, torch.nn.Linear):
            layer.register_forward_hook(lambda *_: seen["linear"].add(enabled()))
    assert model.config._attn_implementation == attention.IMPLEMENTATION
    return engine, seen


def test_a_decoded_token_leaves_onednn_out_of_all_but_attention(watched):
    engine, seen = watched
    state = engine.read(list(range(3, 23)))
    assert seen == {"linear": {True}, "attention": {True}}
    seen["linear"].clear()
    engine.advance(state, 5)
    assert seen == {"linear": {False}, "attention": {True}}


def test_a_prompt_has_it_while_another_thread_leaves_it_out(watched):
    engine, seen = watched
    with ONEDNN.left_out():
        engine.read([3, 4, 5])
        engine.prefill_batch([sequential_plan((3, 4)), sequential_plan((5, 6))])
        states = [engine.read([3, 4]) for _ in range(2)]
        engine.advance_batch(states, [5, 6])
    assert seen == {"linear": {True}, "attention": {True}}


def test_a_batch_leaves_it_out_for_a_single_request(watched):
    engine, seen = watched
    states = [engine.read(list(range(3, 3 + n))) for n in (20, 9)]
    seen["linear"].clear()
    states = engine.advance_batch(states, [5, 6])
    assert seen["linear"] == {True}
    seen["linear"].clear()
    engine.advance_batch(states[:1], [7])
    assert seen == {"linear": {False}, "attention": {True}}


def test_a_decoded_token_has_the_logits_of_a_prompt_that_ends_with_it(watched):
    engine, _ = watched
    ids = list(range(3, 43))
    state = engine.read(ids[:30])
    for token in ids[30:]:
        state = engine.advance(state, token)
    whole = engine.read(ids).logits
    assert (state.logits - whole).abs().max() < 0.03 * whole.abs().max()
    other = engine.read([*ids[:-1], 7]).logits
    assert (state.logits - other).abs().max() > 0.3 * whole.abs().max()
