"""Routers that are made of a folder or of other routers: from options by name to their parts."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pipelines.catalogue.bounded import Share
from rag.bounds import Bounds
from rag.protocols import Encoder, Router, TextModel
from rag.routing.classifier import RouteClassifier
from rag.routing.descriptions import DescriptionRouter
from rag.routing.ensemble import EnsembleRouter, Rule
from rag.routing.examples import ExampleRouter
from rag.routing.labels import DESCRIPTIONS, MODALITIES
from rag.routing.lm import LMRouter
from rag.routing.shipped import AUTO, resolve_router

Member = Literal["classifier", "examples", "descriptions", "lm"]


def classifier(
    encoder: Encoder,
    *,
    model: str = AUTO,
    trust: Annotated[float, Bounds(low=-1, high=1)] | None = None,
    threshold: Share | None = None,
) -> RouteClassifier:
    """Routes a question by logistic heads that were trained on labelled questions.

    Its probabilities are calibrated; a question far from all training queries is marked as a
    fallback.

    Args:
        encoder: makes the vectors of questions; the one that the router was trained with.
        model: the folder of a router that `dovetail router train` made; `auto` is the one that
            comes with Dovetail, for the labels of the usual corpora and the encoder `minilm`.
        trust: cosine to the nearest training query below which a route is a fallback; by default
            as the router was trained.
        threshold: least probability of one of several labels; by default as the router was
            trained.
    """
    from dataclasses import replace

    loaded = RouteClassifier.load(resolve_router(model, encoder), encoder)
    return replace(
        loaded,
        trust=loaded.trust if trust is None else trust,
        threshold=loaded.threshold if threshold is None else threshold,
    )


def ensemble(
    encoder: Encoder,
    lm: TextModel | None = None,
    *,
    routers: Sequence[Member] = ("classifier", "descriptions"),
    rule: Rule = "confidence",
    threshold: Share = 0.6,
    model: str = AUTO,
    descriptions: Mapping[str, str | Sequence[str]] | None = None,
    examples: Mapping[str, Sequence[str]] | None = None,
    modalities: Mapping[str, str] | None = None,
) -> EnsembleRouter:
    """Routes a question by several routers: the first that is sure, the majority, or their mean.

    Source: Yeo et al. 2026 (UniversalRAG, version 3), arXiv:2504.20734.

    Args:
        encoder: makes the vectors of questions.
        lm: the language model of the router `lm`.
        routers: who is asked, the most trusted first.
        rule: `confidence` lets the first router decide that is sure, `majority` most of them,
            `mean` their mean probability.
        threshold: of `confidence`: least probability of a sure router.
        model: of `classifier`: the folder of the router, or `auto` for the one that comes with
            Dovetail.
        descriptions: of `descriptions` and `lm`: label to what it answers; by default those of the
            usual corpora.
        examples: of `examples` and `lm`: label to questions that it answers.
        modalities: of labels; by default those of the usual corpora.
    """
    told = dict(DESCRIPTIONS if descriptions is None else descriptions)
    kinds = dict(MODALITIES if modalities is None else modalities)
    made: list[Router] = []
    for name in routers:
        if name == "classifier":
            made.append(classifier(encoder, model=model))
        elif name == "examples":
            made.append(ExampleRouter(encoder, examples or {}, modalities=kinds))
        elif name == "descriptions":
            made.append(DescriptionRouter(encoder, told, modalities=kinds))
        elif lm is None:
            raise ValueError("lm must be a language model for the member lm, got none")
        else:
            made.append(LMRouter(lm, told, examples or {}, modalities=kinds))
    return EnsembleRouter(tuple(made), rule, threshold, kinds)
