"""Provence by NAVER: `naver/provence-reranker-debertav3-v1`."""

from __future__ import annotations

import string

from pruners.provence.checkpoints.contents import Contents
from pruners.provence.checkpoints.families import DEBERTA
from pruners.provence.checkpoints.plan import Layout, Plan
from pruners.provence.checkpoints.published import Published

PUBLISHED = Published(
    threshold=0.1,
    rounding="same_t",
    rerank="logit",
    languages=("en",),
    licence="cc-by-nc-nd-4.0",
)


def plan(contents: Contents) -> Plan | None:
    """Return how to read a checkpoint with a DeBERTa trunk and a `token_classifier`.

    Names of tensors, both heads, the raw rerank score and the layout of a pair were checked against
    the training code (naver/bergen, scripts/provence). The code beside the published weights could
    not be read: that it normalises the question, keeps a sentence by `same_t` and takes 512 tokens
    a block rests on independent ports of it. How it scores a passage of several blocks is unknown;
    here the best block counts. Three statements of the licence circulate; without a `README.md` the
    strictest is taken.

    Source: Chirkova et al. 2025, arXiv:2501.16214.
    """
    if not (contents.has("token_classifier.") and contents.has(DEBERTA.prefix)):
        return None
    return Plan(
        DEBERTA,
        contents.config,
        "token_classifier",
        PUBLISHED,
        query_text=normalised,
        single_separator=True,
    )


def normalised(query: str) -> str:
    """Return a query in lower case, without ASCII punctuation, and with single spaces."""
    kept = "".join(letter for letter in query.lower() if letter not in string.punctuation)
    return " ".join(kept.split())


LAYOUT = Layout("naver Provence", "deberta.* and token_classifier.*", plan)
