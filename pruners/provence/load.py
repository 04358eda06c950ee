"""Loading a Provence scorer: the shipped adapter, another adapter, or a published checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from pruners.provence.rounding import Rounding
from pruners.provence.scorer import ProvenceScorer, Rerank
from pruners.provence.trunk import load_trunk
from rag.models.resolve import resolve_model
from rag.protocols import Encoder, SentenceScorer
from rag.records import Passage

if TYPE_CHECKING:
    import numpy as np

Precision = Literal["float32", "bfloat16"]
SHIPPED = {"minilm": Path(__file__).parents[1] / "weights" / "provence"}
"""Short names and the folders of the adapters that come with this package."""


def load_provence(
    name: str = "minilm",
    *,
    encoder: Encoder | None = None,
    prior: SentenceScorer | None = None,
    sentence_vectors: Callable[[Passage], np.ndarray] | None = None,
    base: str | None = None,
    download: bool = False,
    precision: Precision = "float32",
    rounding: Rounding | None = None,
    batch_size: int = 16,
    rerank: Rerank | None = None,
) -> ProvenceScorer:
    """Load a scorer; on a CUDA device if there is one. No code of a checkpoint's folder runs.

    Args:
        name: `minilm` for the adapter that this package ships, the folder of an adapter, or the
            folder or hub id `owner/name` of a published checkpoint.
        encoder: of the shipped tier-1 scorer, where the adapter needs that as its prior; if it is
            None or another than that scorer's, `minilm` is loaded and encodes each sentence when
            asked for.
        prior: the scorer whose logits the adapter adds, with a `fingerprint`; None makes the
            shipped one.
        sentence_vectors: gives the shipped prior the stored vectors of a passage's sentences.
        base: the trunk, where it is not found under the name that the adapter states.
        download: whether a short name may be fetched from the hub.
        precision: of the trunk. In bfloat16 scores move a little, also with what stands in the
            batch.
        rounding: how token probabilities become a sentence's score; None takes the model's own.
        batch_size: blocks that are read at a time.
        rerank: see `ProvenceScorer`; None takes what the checkpoint's authors publish, `logit` for
            an adapter.

    Raises:
        ModelNotFoundError: if nothing has that name, or a part of it is missing.
        ValueError: if base or prior are not those that the adapter was trained on, or an argument
            is out of its range.
    """
    if precision not in get_args(Precision):
        raise ValueError(f"precision must be one of {get_args(Precision)}, got {precision!r}")
    import torch

    from pruners.provence.adapter import is_adapter, load_adapter, read_config
    from pruners.provence.checkpoints import load_checkpoint

    shipped = SHIPPED.get(name)
    folder = shipped or resolve_model(name, packages={}, download=download)
    if shipped is not None or is_adapter(folder):
        config = read_config(folder)
        trunk = load_trunk(base or config.base, download=download)
        if not config.prior:
            prior = None
        elif prior is None:
            prior = _shipped_prior(encoder, sentence_vectors, download=download)
        model = load_adapter(
            folder,
            trunk.model,
            base_fingerprint=trunk.fingerprint,
            prior_fingerprint="" if prior is None else prior_fingerprint(prior),
        )
        scorer = ProvenceScorer(
            model,
            trunk.tokenizer,
            prior=prior,
            rounding=rounding or config.rounding,
            batch_size=batch_size,
            rerank=rerank or "logit",
            window=config.window,
            query_tokens=config.query_tokens,
            title_tokens=config.title_tokens,
            threshold=config.threshold,
        )
    else:
        scorer = load_checkpoint(folder, rounding=rounding, batch_size=batch_size, rerank=rerank)
    if precision == "bfloat16":
        scorer.model.trunk.to(torch.bfloat16)
    scorer.model.to("cuda" if torch.cuda.is_available() else "cpu")
    return scorer


def prior_fingerprint(prior: SentenceScorer) -> str:
    """Return the hash of everything that a prior's scores depend on.

    Raises:
        ValueError: if the scorer does not tell.
    """
    found = getattr(prior, "fingerprint", None)
    if not isinstance(found, str) or not found:
        raise ValueError(f"prior must have a fingerprint, got {prior.name!r} with {found!r}")
    return found


def _shipped_prior(
    encoder: Encoder | None,
    sentence_vectors: Callable[[Passage], np.ndarray] | None,
    *,
    download: bool,
) -> SentenceScorer:
    from pruners.features.head import FeatureHead
    from pruners.features.scorer import FeatureScorer
    from rag.models.encoder import load_encoder

    head = FeatureHead.load()
    if encoder is None or encoder.fingerprint != head.encoder_fingerprint:
        return FeatureScorer(load_encoder("minilm", download=download), head)
    return FeatureScorer(encoder, head, sentence_vectors)
