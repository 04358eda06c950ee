"""Loading a checkpoint of another project as a scorer."""

from __future__ import annotations

from pathlib import Path

from pruners.provence.checkpoints.assemble import assemble
from pruners.provence.checkpoints.contents import Contents
from pruners.provence.checkpoints.layout import recognise
from pruners.provence.checkpoints.licence import licence_of, note_licence
from pruners.provence.checkpoints.tokenizer import load_tokenizer
from pruners.provence.rounding import Rounding
from pruners.provence.scorer import ProvenceScorer, Rerank
from pruners.provence.trunk import most_tokens


def load_checkpoint(
    folder: Path,
    *,
    rounding: Rounding | None = None,
    batch_size: int = 16,
    rerank: Rerank | None = None,
) -> ProvenceScorer:
    """Load a published checkpoint on the CPU, in float32. Only data of its folder is read.

    Known are naver Provence and XProvence, OpenProvence, and Zilliz semantic highlight. The
    scorer's `threshold` and `always_select_title` are those that its authors publish. A block
    leaves half of its window to the query and an eighth to the title at most. A licence that
    forbids commercial use is noted by a warning.

    Args:
        folder: with `config.json`, `tokenizer.json` and `.safetensors` weights.
        rounding: how token probabilities become a sentence's score; None takes the published rule.
        batch_size: blocks that are read at a time.
        rerank: what a passage's own score is; None takes what is published.

    Raises:
        ModelNotFoundError: if a part is missing, the weights are only in a pickle, or the layout is
            unknown.
        ValueError: if tensors are missing, left over or of another shape; or an argument is out of
            its range.
    """
    contents = Contents.read(folder)
    _, plan = recognise(contents)
    tokenizer = load_tokenizer(folder, single_separator=plan.single_separator)
    model = assemble(contents, plan)
    published = plan.published
    note_licence(folder, licence_of(folder, published.licence))
    window = min(published.window, most_tokens(model.trunk))
    return ProvenceScorer(
        model,
        tokenizer,
        rounding=rounding or published.rounding,
        batch_size=batch_size,
        rerank=rerank or published.rerank,
        window=window,
        query_tokens=window // 2,
        title_tokens=window // 8,
        query_text=plan.query_text,
        threshold=published.threshold,
        always_select_title=published.always_select_title,
        verbatim=published.verbatim,
    )
