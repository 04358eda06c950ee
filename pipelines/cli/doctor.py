"""`dovetail doctor`: check the installation, models and caches."""

import argparse
import os
import platform
import sys
from collections.abc import Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.cli.terminal import say, say_json

if TYPE_CHECKING:
    from rag.models.resolve import PackagedModel

_EXAMPLE = """\
Nothing is changed, and nothing is sent anywhere without --online. Exit status 1 means that
something that is needed is missing.

example:
  dovetail doctor"""
_DISTRIBUTIONS = (
    "dovetail-rag",
    "torch",
    "transformers",
    "sentence-transformers",
    "numpy",
    "faiss-cpu",
    "faiss-gpu",
)
_NEEDED = ("torch", "transformers", "sentence-transformers", "numpy")
_PACKAGES = ("rag", "retrievers", "pruners", "kvstore", "pipelines")
_HUB = "https://huggingface.co"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.epilog = _EXAMPLE
    parser.add_argument("--online", action="store_true", help="also try to reach the hub")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Check, print, and return 0 if Dovetail is usable."""
    found = examine(online=args.online)
    if args.json:
        say_json(found)
    else:
        _draw(found)
    return 1 if found["missing"] else 0


def examine(*, online: bool = False) -> dict[str, Any]:
    """Return what is installed, what is missing and what is suspicious.

    Args:
        online: whether to ask the hub for an answer.
    """
    from rag.adaptation.shipped import adapter_name, shipped_adapters
    from rag.models.resolve import ENCODERS, LANGUAGE_MODELS
    from rag.models.user_cache import user_cache

    versions = {name: _version(name) for name in _DISTRIBUTIONS}
    missing = [f"{name}: pip install {name}" for name in _NEEDED if versions[name] is None]
    models: dict[str, str | None] = {}
    for known in (ENCODERS, LANGUAGE_MODELS):
        for name in known:
            models[name], problem = _model(name, known)
            missing += [problem] if problem else []
    warnings = _name_clashes()
    if versions["faiss-cpu"] and versions["faiss-gpu"]:
        warnings.append(
            "faiss-cpu and faiss-gpu are both installed and overwrite each other: "
            "pip uninstall faiss-cpu faiss-gpu, then install one"
        )
    if not (versions["faiss-cpu"] or versions["faiss-gpu"]):
        warnings.append("no faiss: dense search uses numpy; pip install 'dovetail-rag[cpu]'")
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions,
        "compute": _compute() if versions["torch"] else {},
        "models": models,
        "adapters": {adapter_name(folder): str(folder) for folder in shipped_adapters()},
        "modalities": _modalities(),
        "caches": {"dovetail": str(user_cache()), "hub": _hub_cache()},
        "offline": os.environ.get("HF_HUB_OFFLINE", "") not in {"", "0"},
        "missing": missing,
        "warnings": warnings,
    }
    if online:
        found["hub"] = _reach_hub()
    return found


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _model(name: str, known: "Mapping[str, PackagedModel]") -> tuple[str | None, str | None]:
    """Return where a model lies, or why it cannot be found."""
    from rag.errors import ModelNotFoundError
    from rag.models.resolve import resolve_model

    try:
        return str(resolve_model(name, packages=known)), None
    except ModelNotFoundError:
        return None, f"model {name}: {known[name].install}"


def _compute() -> dict[str, Any]:
    import torch

    from rag.models.language_model import best_dtype

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "dtype": str(best_dtype(device)).removeprefix("torch."),
    }


def _modalities() -> dict[str, dict[str, str | None]]:
    """Return, by modality, what reads it: a name and version, or None for what is not there.

    `vision` is what an image encoder needs apart from its weights.
    """
    from rag.corpus.ocr import ocr_available

    return {
        "image": {"ocr": ocr_available(), "vision": _package("Pillow", "PIL")},
        "video": {"frames": _package("OpenCV", "cv2")},
    }


def _package(name: str, module: str) -> str | None:
    """Return a name if its module is installed; it is not imported."""
    return name if find_spec(module) else None


def _hub_cache() -> str:
    from huggingface_hub.constants import HF_HUB_CACHE

    return str(HF_HUB_CACHE)


def _reach_hub() -> str:
    """Return `reachable`, or why it is not."""
    from urllib.error import URLError
    from urllib.request import Request, urlopen

    try:
        with urlopen(Request(_HUB, method="HEAD"), timeout=5):
            return "reachable"
    except (URLError, OSError) as error:
        return f"not reachable: {error}"


def _name_clashes() -> list[str]:
    """Return a warning for each of our packages that another one shadows, or would overwrite."""
    home = Path(__file__).resolve().parents[2]
    warnings = []
    shippers = metadata.packages_distributions()
    for package in _PACKAGES:
        spec = find_spec(package)
        origin = Path(spec.origin).resolve() if spec and spec.origin else None
        if origin != home / package / "__init__.py":
            warnings.append(
                f"import {package} finds {origin or 'nothing'} instead of {home / package}: "
                "start elsewhere, or rename what is in its way"
            )
        others = {name for name in shippers.get(package, ()) if name.lower() != "dovetail-rag"}
        warnings += [
            f"distribution {name} installs a package {package} too: pip uninstall {name}"
            for name in sorted(others)
        ]
    return warnings


def _draw(found: dict[str, Any]) -> None:
    say(f"python {found['python']} ({sys.executable}), {found['platform']}")
    for name, version in found["versions"].items():
        if version or name not in {"faiss-cpu", "faiss-gpu"}:
            say(f"{name} {version or 'not installed'}")
    if found["compute"]:
        compute = found["compute"]
        say(
            f"computes on {compute['device']} in {compute['dtype']} "
            f"(CPU {compute['cpu']}, {compute['threads']} threads)"
        )
    for name, path in found["models"].items():
        say(f"model {name}: {path or 'not found'}")
    for name in found["adapters"]:
        say(f"adapter: {name}")
    _draw_modalities(found["modalities"])
    for name, path in found["caches"].items():
        say(f"cache of {name}: {path}")
    say(f"offline mode: {'on' if found['offline'] else 'off'}")
    if "hub" in found:
        say(f"hub: {found['hub']}")
    for warning in found["warnings"]:
        say(f"warning: {warning}")
    for missing in found["missing"]:
        say(f"missing {missing}")
    say("something is missing" if found["missing"] else "ready")


def _draw_modalities(found: Mapping[str, Mapping[str, str | None]]) -> None:
    ocr, vision = found["image"]["ocr"], found["image"]["vision"]
    frames = found["video"]["frames"]
    if ocr:
        say(f"images: captions and OCR text ({ocr})")
    else:
        say(
            "images: text only (captions, alt texts, file names); "
            "OCR: pip install 'dovetail-rag[ocr]'"
        )
    say(
        "image search by vectors: needs an image encoder, dovetail index --corpora --image-encoder"
        + ("" if vision else "; and pip install pillow")
    )
    say(
        f"videos: transcripts, and frames ({frames})"
        if frames
        else "videos: transcripts; frames need OpenCV, which the extra ocr brings"
    )
