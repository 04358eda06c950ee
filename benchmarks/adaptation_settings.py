"""What the page on adaptation compares: how the passages of a question are read, and asked for."""

from __future__ import annotations

from collections.abc import Sequence

from quality_settings import EXACT, TOP_1, Setting

BEST_PROMPTS = {
    EXACT: "examples",
    f"{EXACT}-chat-examples": "chat-examples",
    f"{EXACT}-instruct": "instruct",
}
"""Prompts of the exact mode that the base is asked with, by setting, the default one first."""
PRUNED = (
    Setting(EXACT, {"mode": EXACT}, pruned=True),
    Setting("parallel", {"mode": "parallel"}, pruned=True),
    Setting("ape", {"mode": "ape"}, pruned=True),
    Setting(
        "ape-serial-gaps", {"mode": "ape", "positions": "serial", "repack": False}, pruned=True
    ),
    Setting("block", {"mode": "block"}, pruned=True),
    Setting("graph", {"mode": "graph", "graph": TOP_1}, pruned=True),
)
"""Ways to read what the pruner kept; of cached rows, all but the one with gaps are re-packed."""
PROMPTS = (
    Setting(f"{EXACT}-chat-examples", {"mode": EXACT}, pruned=True, prompt="chat-examples"),
    Setting(f"{EXACT}-instruct", {"mode": EXACT}, pruned=True, prompt="instruct"),
)
"""Asked of the base alone: an adapter is trained with the default prompt."""
WHOLE_EXACT = f"whole-{EXACT}"
WHOLE = (
    Setting(WHOLE_EXACT, {"mode": EXACT}),
    Setting("whole-ape", {"mode": "ape"}),
    Setting("whole-block", {"mode": "block"}),
)
SETTINGS = (*PRUNED, *PROMPTS, *WHOLE)


def exact_of(name: str) -> str:
    """Return the exact mode's setting that reads the same text as another one."""
    return WHOLE_EXACT if name.startswith("whole-") else EXACT


def chosen_settings(
    names: Sequence[str] | None, *, adapted: bool, has_chat: bool
) -> tuple[Setting, ...]:
    """Return the settings that a model is asked in.

    Args:
        names: only these; None for all that a model of its kind is asked in.
        adapted: whether the model has an adapter.
        has_chat: whether its tokenizer has a chat template, which some prompts need.

    Raises:
        ValueError: for an unknown name, or one that needs a chat template where there is none.
    """
    known = {setting.name: setting for setting in SETTINGS}
    for name in names or ():
        if name not in known:
            raise ValueError(f"settings must be of {', '.join(known)}, got {name!r}")
        if known[name].prompt == "chat-examples" and not has_chat:
            raise ValueError(f"setting {name!r} needs a tokenizer with a chat template")
    if names:
        return tuple(setting for setting in SETTINGS if setting.name in names)
    kept = (*PRUNED, *WHOLE) if adapted else SETTINGS
    return tuple(one for one in kept if has_chat or one.prompt != "chat-examples")
