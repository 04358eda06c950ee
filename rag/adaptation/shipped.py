"""The adapters that come with Dovetail, and what a person's choice of one means."""

from __future__ import annotations

from pathlib import Path

from rag.errors import AdapterError
from rag.records import ModelIdentity

SHIPPED = Path(__file__).with_name("weights")
NONE = "none"
AUTO = "auto"


def shipped_adapter(identity: ModelIdentity) -> Path | None:
    """Return the folder of the adapter that was trained on exactly these weights, if there is one.

    Args:
        identity: of the model as it comes; its name does not matter.

    Raises:
        AdapterError: if a shipped folder is damaged.
    """
    from rag.adaptation.adapter import load_adapter_config

    for folder in shipped_adapters():
        if load_adapter_config(folder).base_weights == identity.weights:
            return folder
    return None


def shipped_adapters() -> list[Path]:
    """Return the folders of all adapters that come with Dovetail, by name."""
    return sorted(config.parent for config in SHIPPED.glob("*/config.json"))


def resolve_adapter(choice: str, identity: ModelIdentity) -> Path | None:
    """Return the folder of the adapter that is chosen for a model, or None for none.

    Whether a folder that is named fits the model is looked at when it is loaded.

    Args:
        choice: `none`, `auto` for the shipped one if there is one for this model, or a folder.
        identity: of the model as it comes.

    Raises:
        AdapterError: if what is chosen is neither of these.
    """
    if choice == NONE:
        return None
    if choice == AUTO:
        return shipped_adapter(identity)
    from rag.adaptation.adapter import is_adapter

    folder = Path(choice).expanduser()
    if not choice.strip() or not is_adapter(folder):
        raise AdapterError(
            f"adapter must be none, auto, or a folder that `dovetail adapt` wrote, got {choice!r}"
        )
    return folder


def passed_over(choice: str, identity: ModelIdentity) -> str | None:
    """Return a note where `auto` found an adapter for this model's name, but for other weights.

    Args:
        choice: as of `resolve_adapter`.
        identity: of the model as it comes.

    Raises:
        AdapterError: if a shipped folder is damaged.
    """
    from rag.adaptation.adapter import load_adapter_config

    if choice != AUTO or shipped_adapter(identity) is not None:
        return None
    for folder in shipped_adapters():
        if load_adapter_config(folder).base == identity.name:
            return (
                f"the adapter that comes with Dovetail for {identity.name} is for other weights "
                f"than these ({identity.weights[:12]}), so none is used"
            )
    return None


def adapter_name(folder: Path | None) -> str:
    """Return what a person calls an adapter: `none`, `NAME (shipped)`, or its folder."""
    if folder is None:
        return NONE
    return f"{folder.name} (shipped)" if folder.parent == SHIPPED else str(folder)
