"""Recognising a checkpoint's layout."""

from __future__ import annotations

from pruners.provence.checkpoints import naver, open_provence, xprovence, zilliz
from pruners.provence.checkpoints.contents import CONFIG, Contents
from pruners.provence.checkpoints.plan import Layout, Plan
from rag.errors import ModelNotFoundError

# Zilliz before OpenProvence, whose layout it shares.
LAYOUTS: tuple[Layout, ...] = (
    naver.LAYOUT,
    xprovence.LAYOUT,
    zilliz.LAYOUT,
    open_provence.LAYOUT,
)


def recognise(contents: Contents) -> tuple[Layout, Plan]:
    """Return the layout of a checkpoint and how to read it.

    Raises:
        ModelNotFoundError: if it is in none of the layouts, with what was looked for and found.
        ValueError: if it is in one, with a setting that is not allowed there.
    """
    for layout in LAYOUTS:
        plan = layout.plan(contents)
        if plan is not None:
            return layout, plan
    looked = "; ".join(f"{layout.name}: {layout.looks_for}" for layout in LAYOUTS)
    groups = sorted({name.split(".", 1)[0] for name in contents.shapes})
    config = contents.config
    raise ModelNotFoundError(
        f"{contents.folder} holds no pruner of a known layout. Looked for {looked}. Found tensors "
        f"{_listed([f'{group}.*' for group in groups])}, and in {CONFIG} model_type "
        f"{config.get('model_type')!r} and architectures {config.get('architectures')!r}"
    )


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:8]) or "none"
    return f"{shown} and {len(names) - 8} more" if len(names) > 8 else shown
