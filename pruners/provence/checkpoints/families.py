"""Families of trunks, and the head that their sequence classifiers put on the first state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from pruners.provence.heads import Activation, Pooling, RerankHead

_POOLINGS: Mapping[str, Pooling] = MappingProxyType({"cls": "first", "mean": "mean"})


@dataclass(frozen=True, slots=True)
class Family:
    """Where a family's sequence classifier in transformers keeps its tensors.

    Attributes:
        model_type: the family's name in transformers.
        trunk: transformers' class of the trunk.
        prefix: of the names of the trunk's tensors.
        dense: name of the head's dense layer.
        classifier: name of its last layer.
        activation: between the two.
        norm: name of the layer norm after the activation, if there is one.
        pools: whether the trunk's class can be made without a pooler.
    """

    model_type: str
    trunk: str
    prefix: str
    dense: str
    classifier: str
    activation: Activation
    norm: str | None = None
    pools: bool = False


DEBERTA = Family("deberta-v2", "DebertaV2Model", "deberta.", "pooler.dense", "classifier", "gelu")
XLM_ROBERTA = Family(
    "xlm-roberta",
    "XLMRobertaModel",
    "roberta.",
    "classifier.dense",
    "classifier.out_proj",
    "tanh",
    pools=True,
)
BERT = Family("bert", "BertModel", "bert.", "bert.pooler.dense", "classifier", "tanh", pools=True)
MODERNBERT = Family(
    "modernbert", "ModernBertModel", "model.", "head.dense", "classifier", "gelu", norm="head.norm"
)
FAMILIES = MappingProxyType({f.model_type: f for f in (BERT, DEBERTA, MODERNBERT, XLM_ROBERTA)})


class NormedRerankHead(RerankHead):
    """A rerank head over states that a trunk gives before its own last layer norm.

    Attributes:
        states: the trunk's last layer norm.
    """

    states: nn.Module

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Return raw scores, (blocks,), of states (blocks, tokens, width) and a boolean mask."""
        return super().forward(self.states(hidden), mask)


def rerank_head(family: Family, config: Any, labels: int) -> RerankHead:
    """Return the head of a family's sequence classifier, its weights not yet read.

    Args:
        family: of the trunk.
        config: of the trunk, as transformers reads it.
        labels: outputs of the classifier.

    Raises:
        ValueError: if the configuration asks for a head that the family does not have.
    """
    width = int(config.hidden_size)
    chosen = {"pooler_hidden_act": "gelu", "classifier_activation": "gelu"}
    for field, wanted in chosen.items():
        got = getattr(config, field, wanted)
        if got != wanted:
            raise ValueError(f"{field} must be {wanted!r} for {family.model_type}, got {got!r}")
    if family.norm is None:
        return RerankHead(width, labels=labels, activation=family.activation)
    norm = nn.LayerNorm(width, eps=config.norm_eps, bias=config.norm_bias)
    return NormedRerankHead(
        width,
        labels=labels,
        activation=family.activation,
        dense_bias=config.classifier_bias,
        norm=norm,
        pooling=_POOLINGS[config.classifier_pooling],
    )
