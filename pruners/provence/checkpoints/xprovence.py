"""XProvence by NAVER, for many languages: `naver/xprovence-reranker-bgem3-v1` and `-v2`."""

from __future__ import annotations

from dataclasses import replace

from pruners.provence.checkpoints.contents import Contents
from pruners.provence.checkpoints.families import XLM_ROBERTA
from pruners.provence.checkpoints.plan import Layout, Plan
from pruners.provence.checkpoints.published import Published

PUBLISHED = Published(
    threshold=0.3,
    rounding="same_t",
    rerank="logit",
    languages=(),
    licence="cc-by-nc-nd-4.0",
    always_select_title=True,
)
_POOLED = replace(XLM_ROBERTA, dense="roberta.pooler.dense", classifier="classifier")


def plan(contents: Contents) -> Plan | None:
    """Return how to read a checkpoint with an XLM-RoBERTa trunk and a `token_classifier`.

    Names of tensors, both heads, the raw rerank score, blocks of 512 tokens and the single
    separator between query and passage were checked against the training code (pull request 49 of
    naver/bergen). Threshold and title rule are those of the model card. The code beside the
    published weights could not be read: if its rerank head is XLM-RoBERTa's own, it is taken as
    such; whether it normalises the question is unknown, and here the question is read as it is, as
    in training; its rounding is taken to be Provence's, which keeps more than the majority rule of
    the paper at thresholds under 0.5.

    Source: XProvence, arXiv:2601.18886.
    """
    if not (contents.has("token_classifier.") and contents.has(XLM_ROBERTA.prefix)):
        return None
    family = XLM_ROBERTA if contents.has("classifier.out_proj.") else _POOLED
    return Plan(family, contents.config, "token_classifier", PUBLISHED, single_separator=True)


LAYOUT = Layout("naver XProvence", "roberta.* and token_classifier.*", plan)
