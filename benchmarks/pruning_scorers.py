"""The scorers that the pruning page compares: one table, those that are not there left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rag.errors import DovetailError
from rag.protocols import Encoder, SentenceScorer
from rag.records import Passage

if TYPE_CHECKING:
    import numpy as np

RANDOM = tuple(f"random {seed}" for seed in range(5))
COSINE, TIER_1, TIER_2 = "cosine", "features", "provence"


@dataclass(frozen=True)
class Sources:
    """What scorers are made from.

    Attributes:
        encoder: of queries, remembering them.
        sentence_vectors: gives the stored vectors of a passage's sentences.
        provence: name or folder of the model that `provence` reads.
    """

    encoder: Encoder
    sentence_vectors: Callable[[Passage], np.ndarray]
    provence: str = "minilm"


def _keep_all(_: Sources) -> SentenceScorer:
    from pruners.controls import KeepAll

    return KeepAll()


def _random(seed: int) -> Callable[[Sources], SentenceScorer]:
    def make(_: Sources) -> SentenceScorer:
        from pruners.controls import RandomSentences

        return RandomSentences(seed=seed)

    return make


def _lead(_: Sources) -> SentenceScorer:
    from pruners.controls import LeadSentences

    return LeadSentences()


def _bm25(_: Sources) -> SentenceScorer:
    from pruners.bm25 import BM25Sentences

    return BM25Sentences()


def _cosine(sources: Sources) -> SentenceScorer:
    from pruners.cosine import CosineSentences

    return CosineSentences(sources.encoder, sources.sentence_vectors)


def _sentences(sources: Sources) -> SentenceScorer:
    from pruners.sentences import SentenceMix

    return SentenceMix(sources.encoder, sentence_vectors=sources.sentence_vectors)


def _features(sources: Sources) -> SentenceScorer:
    from pruners.features.head import FeatureHead
    from pruners.features.scorer import FeatureScorer

    return FeatureScorer(sources.encoder, FeatureHead.load(), sources.sentence_vectors)


def _provence(sources: Sources) -> SentenceScorer:
    from pruners.provence.load import load_provence

    return load_provence(
        sources.provence, encoder=sources.encoder, sentence_vectors=sources.sentence_vectors
    )


SCORERS: dict[str, Callable[[Sources], SentenceScorer]] = {
    "all": _keep_all,
    **{name: _random(seed) for seed, name in enumerate(RANDOM)},
    "lead": _lead,
    "bm25": _bm25,
    COSINE: _cosine,
    "sentences": _sentences,
    TIER_1: _features,
    TIER_2: _provence,
}


def made(name: str, sources: Sources) -> SentenceScorer | str:
    """Return a scorer, or why there is none: its module or its weights are not here."""
    try:
        return SCORERS[name](sources)
    except (ImportError, OSError, DovetailError) as error:
        return f"{type(error).__name__}: {error}"


def identity(name: str, scorer: SentenceScorer) -> str:
    """Return what a scorer's rows depend on, as far as it tells."""
    fingerprint = getattr(scorer, "fingerprint", "")
    return f"{name} {fingerprint}" if isinstance(fingerprint, str) else name
