"""Image retrieval: how well a picture fits the question, mixed with how well its caption does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import numpy as np

from rag.bounds import Bounds
from rag.protocols import Encoder, ImageEncoder, VectorSearch
from rag.records import Hit, Passage, Query
from retrievers.distinct import DEPTH, distinct_passages
from retrievers.in_thread import in_thread

Scale = Literal["raw", "minmax"]


@dataclass(frozen=True)
class ImageRetriever:
    """Retriever over pictures and their captions.

    A passage scores `w * cos(query, picture) + (1 - w) * cos(query, caption)`, over all passages
    that stand among the best `depth` of either; a cosine that one of the two did not list is
    computed, not taken as 0. A passage that one of the two has no vector of, such as an image that
    could not be read, scores what the other says of it, at full weight.

    At w = 0 the pictures are not searched and the ranking is that of the captions, and at w = 1
    it is that of the pictures, where a passage without one is not found; both with their own
    cosines as scores, whatever `scale` says.

    Source: Yeo et al. 2025, arXiv:2504.20734, with w = 0.8.

    Attributes:
        dense: vector index of the passages' texts, which for pictures are their captions.
        vision: vector index of their pictures; a passage's best picture counts.
        encoder: what made the vectors of `dense`.
        image_encoder: what made the vectors of `vision`.
        passages: every indexed passage by id.
        top_k: passages to return, at least 1.
        image_weight: w, in [0, 1].
        scale: `raw` mixes the cosines as they are, as the source does. Cosines of a picture and a
            text lie in a narrow band, near 0.2 to 0.35 for CLIP, and those of two texts in a wide
            one, so captions decide more than 1 - w says, and a passage without a picture stands
            high. `minmax` first scales each of the two to [0, 1] over the candidates; then a score
            says nothing about another question's.
        depth: hits taken from each of the two, at least `top_k`.
        within: the only ids that are searched; None means all.
    """

    dense: VectorSearch
    vision: VectorSearch
    encoder: Encoder
    image_encoder: ImageEncoder
    passages: Mapping[str, Passage]
    top_k: Annotated[int, Bounds(low=1)] = 3
    image_weight: Annotated[float, Bounds(low=0, high=1)] = 0.8
    scale: Scale = "raw"
    depth: Annotated[int, Bounds(low=1)] = DEPTH
    within: frozenset[str] | None = None

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {self.top_k}")
        if self.depth < self.top_k:
            raise ValueError(f"depth must be at least top_k = {self.top_k}, got {self.depth}")
        if not 0.0 <= self.image_weight <= 1.0:
            raise ValueError(f"image_weight must be in [0, 1], got {self.image_weight}")
        if self.scale not in get_args(Scale):
            raise ValueError(f"scale must be one of {get_args(Scale)}, got {self.scale!r}")
        _check_dim("encoder", self.encoder, "dense", self.dense)
        _check_dim("image_encoder", self.image_encoder, "vision", self.vision)

    def __call__(self, query: Query) -> list[Passage]:
        """Return at most `top_k` passages, best first, ties by id, no text twice; a `Ranking`."""
        return self.batch(query=[query])[0]

    def batch(self, *, query: Sequence[Query]) -> list[list[Passage]]:
        """Return the passages for each query; each encoder is asked once."""
        return [distinct_passages(hits, self.passages, self.top_k) for hits in self.hits(query)]

    acall = in_thread(__call__)
    abatch = in_thread(batch)

    def hits(self, queries: Sequence[Query]) -> list[list[Hit]]:
        """Return the whole mixed ranking of each query, copies of a text included."""
        if not len(queries):
            return []
        texts = [query.text for query in queries]
        if self.image_weight == 0.0:
            return self._search(self.dense, self.encoder.encode_queries(texts))
        if self.image_weight == 1.0:
            return self._search(self.vision, self.image_encoder.encode_queries(texts))
        of_captions = self.encoder.encode_queries(texts)
        of_pictures = self.image_encoder.encode_queries(texts)
        return [
            self._mixed(*one)
            for one in zip(
                of_captions,
                of_pictures,
                self._search(self.dense, of_captions),
                self._search(self.vision, of_pictures),
                strict=True,
            )
        ]

    def vectors(self, ids: Sequence[str]) -> np.ndarray:
        """Return the vectors of the passages' texts, float32 (n, dim).

        Raises:
            KeyError: for an unknown id.
        """
        return self.dense.vectors(ids)

    def _search(self, leg: VectorSearch, vectors: np.ndarray) -> list[list[Hit]]:
        return leg.search_vectors(vectors, self.depth, within=self.within)

    def _mixed(
        self,
        of_captions: np.ndarray,
        of_pictures: np.ndarray,
        captions: Sequence[Hit],
        pictures: Sequence[Hit],
    ) -> list[Hit]:
        ids = sorted({hit.id for hit in (*captions, *pictures)})
        by_caption = self._scaled(_cosines(self.dense, of_captions, ids))
        by_picture = self._scaled(_cosines(self.vision, of_pictures, ids))
        mixed = []
        for id_ in ids:
            if id_ not in by_picture:
                score = by_caption[id_]
            elif id_ not in by_caption:
                score = by_picture[id_]
            else:
                weight = self.image_weight
                score = weight * by_picture[id_] + (1.0 - weight) * by_caption[id_]
            mixed.append(Hit(id_, score))
        return sorted(mixed, key=lambda hit: (-hit.score, hit.id))

    def _scaled(self, cosines: dict[str, float]) -> dict[str, float]:
        """Return the cosines as they are mixed; equal ones all count 1 when scaled."""
        if self.scale == "raw" or not cosines:
            return cosines
        low, high = min(cosines.values()), max(cosines.values())
        if low == high:
            return dict.fromkeys(cosines, 1.0)
        return {id_: (cosine - low) / (high - low) for id_, cosine in cosines.items()}


def _cosines(leg: VectorSearch, vector: np.ndarray, ids: Sequence[str]) -> dict[str, float]:
    """Return the cosine of each passage that the leg has a vector of."""
    known = [id_ for id_ in ids if id_ in leg]
    return dict(zip(known, leg.scores_of(vector, known).tolist(), strict=True))


def _check_dim(name: str, encoder: Encoder | ImageEncoder, of: str, leg: VectorSearch) -> None:
    if leg.dim != encoder.dim:
        raise ValueError(
            f"{name} must give vectors as wide as {of}, {leg.dim}, got {encoder.dim} from "
            f"{encoder.name!r}"
        )
