"""The self-test: what it runs, what it catches, how a model is left behind."""

import pytest
import torch

from rag.errors import UnsupportedModelError
from rag.generation import attention, self_test
from rag.generation import engine as engine_module
from rag.generation.engine import Engine
from rag.generation.self_test import relative_error
from rag.records import ModelIdentity

IDENTITY = ModelIdentity("tiny", "w", "r", "float32", "t")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_every_family_passes_in_every_type(families, family, dtype):
    Engine(families.model(family, dtype), IDENTITY)


@pytest.mark.parametrize(
    ("window", "count"), [(None, 36), (16, 36), (40, 48), (56, 64), (57, 36), (4096, 36)]
)
def test_runs_past_a_window_that_is_short_enough(families, window, count):
    model, seen = families.model("mistral", sliding_window=window), []
    model.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
    Engine(model, IDENTITY)
    assert seen[:2] == [count, count]
    assert count <= 64


def test_a_test_does_not_pass_the_models_window(families):
    model, seen = families.model("mistral", max_position_embeddings=20), []
    model.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
    Engine(model, IDENTITY)
    assert seen[:2] == [20, 20]


@pytest.mark.parametrize("window", [16, 40, 56])
def test_catches_a_window_that_is_ignored_or_off_by_one(families, window, monkeypatch):
    hidden = attention._hidden

    def wrong(by):
        def changed(queries, keys, width, *rest):
            return hidden(queries, keys, width if width is None else width + by, *rest)

        return changed

    for by in (1, -1, 1000):
        monkeypatch.setattr(attention, "_hidden", wrong(by))
        with pytest.raises(UnsupportedModelError, match="do not reproduce"):
            Engine(families.model("mistral", sliding_window=window), IDENTITY)


@pytest.mark.parametrize("family", ["llama", "qwen3", "phi3", "gemma3_text"])
def test_catches_keys_that_are_rotated_to_the_wrong_place(families, family, monkeypatch):
    class Wrong(engine_module.Rotary):
        def rotate(self, keys, positions):
            return super().rotate(keys, positions + 1)

    monkeypatch.setattr(engine_module, "Rotary", Wrong)
    with pytest.raises(UnsupportedModelError, match=r"do not reproduce .* keys equal: False"):
        Engine(families.model(family), IDENTITY)


def test_catches_keys_that_differ_in_one_bit_though_logits_agree(families, monkeypatch):
    class Wrong(engine_module.Rotary):
        def rotate(self, keys, positions):
            rotated = super().rotate(keys, positions)
            return torch.nextafter(rotated, 2 * rotated)

    monkeypatch.setattr(engine_module, "Rotary", Wrong)
    with pytest.raises(UnsupportedModelError, match=r"e-0[5-9], allowed .* keys equal: False"):
        Engine(families.model("llama"), IDENTITY)


@pytest.mark.parametrize("what", ["softcap", "s_aux", "scaling"])
def test_catches_what_attention_forgets(families, what, monkeypatch):
    whole = attention.segment_attention
    family = {"softcap": "gemma2", "s_aux": "gpt_oss", "scaling": "granite"}[what]

    def forgetful(*args, **options):
        return whole(*args, **options | {what: None})

    monkeypatch.setattr(attention, "segment_attention", forgetful)
    with pytest.raises(UnsupportedModelError, match=r"do not reproduce .* keys equal: True"):
        Engine(families.model(family), IDENTITY)
    monkeypatch.undo()
    attention.register()


@pytest.mark.parametrize("error", [ValueError("no conv state"), RuntimeError("sizes differ")])
def test_a_model_that_fails_on_segments_is_refused_and_left_as_it_came(
    families, error, monkeypatch
):
    model = families.model("llama")
    before = model.config._attn_implementation

    def fail(*_):
        raise error

    monkeypatch.setattr(Engine, "rehearse", fail)
    with pytest.raises(UnsupportedModelError, match=f"does not run on cached segments: {error}"):
        Engine(model, IDENTITY)
    assert model.config._attn_implementation == before != attention.IMPLEMENTATION


def test_running_out_of_memory_is_no_property_of_a_model(families, monkeypatch):
    def fail(*_):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(Engine, "rehearse", fail)
    with pytest.raises(torch.OutOfMemoryError):
        Engine(families.model("llama"), IDENTITY)


def test_logits_that_are_no_numbers_are_refused(families):
    model = families.model("llama")
    with torch.no_grad():
        model.lm_head.weight.fill_(torch.nan)
    with pytest.raises(UnsupportedModelError, match="relative logit error nan"):
        Engine(model, IDENTITY)


def test_an_error_is_relative_to_the_largest_logit():
    reference = torch.tensor([1.0, -4.0])
    assert relative_error(torch.tensor([1.0, -3.0]), reference) == 0.25
    assert relative_error(reference, reference.double()) == 0


def test_nothing_of_the_test_is_kept(families):
    engine = Engine(families.model("llama"), IDENTITY)
    assert engine.placed.nbytes == 0
    assert engine.cache is None
    assert self_test.MOST_TOKENS == 64
