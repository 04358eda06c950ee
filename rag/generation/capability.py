"""Which models lend out their KV: what the gate refuses before any forward pass, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from torch import nn

from rag.errors import UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

MERGEABLE_LAYERS: Final = {"full_attention", "sliding_attention"}
"""Layer types whose state is a set of keys, each of which is seen or not, by its position."""

CHUNKED: Final = "chunked_attention"


def require_reusable(model: Any) -> None:
    """Refuse a model whose property makes reuse of its KV wrong, or not proven.

    A model that passes is still run by the engine's self-test.

    Args:
        model: a causal language model of transformers.

    Raises:
        UnsupportedModelError: naming the property.
    """
    config, decoder = model.config, model.get_decoder()
    for reason, has in PROPERTIES:
        if has(model, config, decoder):
            raise UnsupportedModelError(
                f"{config.model_type}: KV reuse is not possible, because {reason}"
            )


def reusable_positions(config: Any) -> int:
    """Return how many positions a request may take so that rotary frequencies stay the same.

    Linear, Llama 3 and YaRN scaling have one set of frequencies. Dynamic scaling changes them where
    an input passes `max_position_embeddings`; LongRoPE where it passes the length that the model
    was first trained for, and keys stored on one side would be wrong on the other.

    Args:
        config: of the model.
    """
    short = [
        int(parameters["original_max_position_embeddings"])
        for parameters in rope_parameters(config)
        if parameters.get("rope_type") == "longrope"
    ]
    return min([int(config.max_position_embeddings), *short])


def rope_parameters(config: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the rotary parameters of a model: one set, or one for each type of layer."""
    found = getattr(config, "rope_parameters", None) or {}
    nested = [value for value in found.values() if isinstance(value, dict)]
    yield from nested or [found]


def sliding_windows(config: Any) -> set[int]:
    """Return the lengths of the windows that slide in some layer of a model; often none."""
    window = getattr(config, "sliding_window", None)
    types = getattr(config, "layer_types", None)
    slides = types is None or "sliding_attention" in types
    return {int(window)} if window and slides else set()


def _layer_types(config: Any) -> set[str]:
    return set(getattr(config, "layer_types", None) or ())


def _keeps_a_state(model: Any, config: Any, decoder: Any) -> bool:
    convolves = any(isinstance(module, nn.Conv1d) for module in decoder.modules())
    others = _layer_types(config) - MERGEABLE_LAYERS - {CHUNKED}
    return bool(getattr(model, "_is_stateful", False) or convolves or others)


def _biases_by_distance(_model: Any, _config: Any, decoder: Any) -> bool:
    return any("alibi" in name and bool(getattr(decoder, name)) for name in dir(decoder))


def _embeds_positions(_model: Any, _config: Any, decoder: Any) -> bool:
    return hasattr(decoder, "wpe") or hasattr(decoder, "embed_positions")


def _interleaves_projections(_model: Any, _config: Any, decoder: Any) -> bool:
    return any(name.endswith("query_key_value") for name, _ in decoder.named_modules())


PROPERTIES: Final[tuple[tuple[str, Callable[[Any, Any, Any], bool]], ...]] = (
    (
        "its decoder also attends to the output of an encoder",
        lambda _m, config, _d: bool(config.is_encoder_decoder),
    ),
    (
        "its language model is part of a larger one, for more than text",
        lambda _m, config, _d: config.get_text_config() is not config,
    ),
    (
        "some layers keep a recurrent or convolutional state, which is no set of keys to merge",
        _keeps_a_state,
    ),
    (
        "attention is biased by distance (ALiBi), and segments bring no bias along",
        _biases_by_distance,
    ),
    (
        "positions are learned and added to the input, so a stored key cannot be moved",
        _embeds_positions,
    ),
    (
        "sizes of keys differ from layer to layer",
        lambda _m, config, _d: bool(getattr(config, "is_heterogeneous", False)),
    ),
    (
        "keys and values are compressed into a latent (multi-head latent attention)",
        lambda _m, config, _d: getattr(config, "kv_lora_rank", None) is not None,
    ),
    (
        "some layers use the keys and values of other layers",
        lambda _m, config, _d: bool(getattr(config, "num_kv_shared_layers", 0)),
    ),
    (
        "what a query sees depends on chunks of absolute positions (chunked attention)",
        lambda _m, config, _d: CHUNKED in _layer_types(config),
    ),
    (
        "queries are scaled by their absolute position (temperature tuning)",
        lambda _m, config, _d: bool(getattr(config, "attn_temperature_tuning", False)),
    ),
    (
        "attention is bidirectional",
        lambda _m, config, _d: bool(getattr(config, "use_bidirectional_attention", False)),
    ),
    (
        "one projection interleaves queries, keys and values by head",
        _interleaves_projections,
    ),
    (
        "its attention function cannot be replaced",
        lambda model, _c, _d: not model._can_set_attn_implementation(),  # noqa: SLF001
    ),
    (
        "it has no layers with rotary self-attention of the usual form",
        lambda _m, _c, decoder: (
            getattr(decoder, "rotary_emb", None) is None
            or not all(hasattr(layer, "self_attn") for layer in getattr(decoder, "layers", [None]))
        ),
    ),
)
"""What is in the way, and how it is seen in model, configuration and decoder; the first counts."""
