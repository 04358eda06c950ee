"""Differentiable pass over encoding plans: the logits of inference, with gradients to all parts."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.utils.checkpoint import checkpoint

from rag.adaptation.plan_attention import LayoutAttention, attending, register
from rag.adaptation.plan_layout import Reading, lay_out
from rag.errors import UnsupportedModelError
from rag.generation.rope import Rotary

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["PlanPass", "Reading"]


class PlanPass:
    """Reads plans as an engine does, in one forward pass of the model that autograd goes through.

    Passages are encoded in the same pass that reads them, so that gradients reach their encoding,
    too. Between calls the model is as it was.

    Args:
        model: a causal language model of transformers with rotary attention, perhaps with updates
            of low rank inside.
        checkpointing: whether layers are computed anew in the backward pass, which takes a third
            more time and keeps one layer's tensors in memory instead of all.
        together: whether passages and questions of like lengths are attended to together, padded to
            one size: faster where the work of starting a product counts. None asks for it off the
            CPU.

    Raises:
        UnsupportedModelError: if a property of the model is in the way; the message names it.
    """

    def __init__(
        self, model: Any, *, checkpointing: bool = False, together: bool | None = None
    ) -> None:
        self.model = model
        self.checkpointing = checkpointing
        self._together = together
        self._rotary = Rotary(model)
        register()

    def logits(self, readings: Sequence[Reading]) -> list[Tensor]:
        """Return for each reading the logits that predict its answer, (tokens, vocabulary).

        Segments that several readings share are encoded once, and no further than they are read.
        No reading sees another's tokens.

        Args:
            readings: at least one; all in one pass, so they must fit into memory together.

        Raises:
            UnsupportedModelError: if a position passes the model's window, or the model asks for
                attention that is not supported.
            ValueError: if there is no reading, a segment has more than one parent, or the model
                checkpoints its layers by itself.
        """
        model = self.model
        if any(getattr(layer, "gradient_checkpointing", False) for layer in self._layers()):
            raise ValueError(
                "the model's own checkpointing of layers must be off: PlanPass(model, "
                "checkpointing=True) does the same with the attention of the plans"
            )
        layout = lay_out(readings, model.device)
        if layout.positions_taken > self._rotary.window:
            raise UnsupportedModelError(
                f"the prompt and its answer take {layout.positions_taken} positions, the model's "
                f"window has {self._rotary.window}: read fewer or shorter passages"
            )
        dtype = model.get_input_embeddings().weight.dtype
        together = model.device.type != "cpu" if self._together is None else self._together
        attention = LayoutAttention(layout, self._rotary, dtype, together=together)
        with ExitStack() as stack:
            stack.enter_context(attending(model, self._rotary, attention))
            if self.checkpointing:
                stack.enter_context(self._checkpointed(attention))
            out = model(
                layout.token_ids[None],
                position_ids=layout.positions[None],
                use_cache=False,
                logits_to_keep=layout.predicts,
            )
        return list(out.logits[0].split(layout.answers))

    def _layers(self) -> list[Any]:
        return list(self.model.get_decoder().layers)

    @contextmanager
    def _checkpointed(self, attention: LayoutAttention) -> Iterator[None]:
        """Let each layer keep its input alone, and be computed anew under the same attention."""

        def contexts() -> tuple[Any, Any]:
            return nullcontext(), attending(self.model, self._rotary, attention)

        def wrapped(forward: Any) -> Any:
            def run(*args: Any, **kwargs: Any) -> Any:
                return checkpoint(
                    forward,
                    *args,
                    use_reentrant=False,
                    preserve_rng_state=False,
                    context_fn=contexts,
                    **kwargs,
                )

            return run

        layers = self._layers()
        own = [vars(layer).get("forward") for layer in layers]
        try:
            for layer in layers:
                layer.forward = wrapped(layer.forward)
            yield
        finally:
            for layer, forward in zip(layers, own, strict=True):
                if forward is None:
                    vars(layer).pop("forward", None)
                else:
                    layer.forward = forward
