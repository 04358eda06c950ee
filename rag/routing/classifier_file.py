"""A trained router in a folder: tensors in safetensors, and all else in JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rag.errors import RouterError
from rag.files import write_atomically
from rag.protocols import Encoder
from rag.routing.classifier import RouteClassifier
from rag.routing.heads import Heads, Linear
from rag.routing.ngrams import HashedNGrams, WeightedNGrams

FORMAT = "dovetail-router-1"
WEIGHTS = "router.safetensors"
CONFIG = "config.json"


def save_classifier(classifier: RouteClassifier, folder: Path, *, half: bool = False) -> None:
    """Write a router; older files of the same names are replaced.

    Args:
        classifier: the router.
        folder: made if need be.
        half: store real numbers in half precision, which halves the file; they are read as single.
    """
    from safetensors.numpy import save

    tensors = tensors_of(classifier)
    content = save(_cast(tensors, np.float32, np.float16) if half else tensors)
    config = {
        "format": FORMAT,
        **written_settings(classifier),
        "weights": hashlib.sha256(content).hexdigest(),
    }
    text = json.dumps(config, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / WEIGHTS, lambda file: file.write(content), mode=0o644)
    write_atomically(folder / CONFIG, lambda file: file.write(text.encode()), mode=0o644)


def load_classifier(folder: Path, encoder: Encoder) -> RouteClassifier:
    """Read a router.

    Raises:
        RouterError: if the folder holds none, it is damaged, or the encoder is another one.
    """
    config, content = _read(folder)
    if hashlib.sha256(content).hexdigest() != config.get("weights"):
        raise RouterError(
            f"{folder} is damaged: {WEIGHTS} is not the file that {CONFIG} names; train it again"
        )
    try:
        return _classifier(config, content, encoder)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise RouterError(f"{folder} is damaged: {_said(error)}; train it again") from error


def written_settings(classifier: RouteClassifier) -> dict[str, Any]:
    """Return all of a router that is no tensor, as JSON can say it."""
    return {
        "labels": list(classifier.labels),
        "modalities": dict(classifier.modalities),
        "multi_label": classifier.multi_label,
        "threshold": classifier.threshold,
        "temperature": classifier.temperature,
        "trust": classifier.trust,
        "encoder": {
            "name": classifier.encoder_name,
            "fingerprint": classifier.encoder_fingerprint,
            "dim": int(classifier.known.shape[1]),
        },
        "ngrams": [
            {
                "unit": weighted.ngrams.unit,
                "low": weighted.ngrams.low,
                "high": weighted.ngrams.high,
                "buckets": weighted.ngrams.buckets,
                "rarest": weighted.rarest,
            }
            for weighted, _ in classifier.heads.ngrams
        ],
        "about": dict(classifier.about),
    }


def tensors_of(classifier: RouteClassifier) -> dict[str, np.ndarray]:
    """Return a router's tensors by the names that they have in its file."""
    heads = classifier.heads
    found = {
        "known": classifier.known,
        "vector.weight": heads.vector.weight,
        "vector.bias": heads.vector.bias,
    }
    for row, (weighted, head) in enumerate(heads.ngrams):
        found |= {
            f"ngrams.{row}.kept": weighted.kept,
            f"ngrams.{row}.idf": weighted.idf,
            f"ngrams.{row}.weight": head.weight,
            f"ngrams.{row}.bias": head.bias,
        }
    return {name: np.ascontiguousarray(tensor) for name, tensor in found.items()}


def _read(folder: Path) -> tuple[dict[str, Any], bytes]:
    missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        raise RouterError(
            f"{folder} is no router: it must hold {CONFIG} and {WEIGHTS}, as `dovetail router "
            f"train` writes them; missing: {', '.join(missing)}"
        )
    try:
        config = json.loads((folder / CONFIG).read_bytes())
        content = (folder / WEIGHTS).read_bytes()
    except (OSError, ValueError) as error:
        raise RouterError(f"{folder} cannot be read: {error}") from error
    told = config.get("format") if isinstance(config, dict) else None
    if told != FORMAT:
        raise RouterError(f"{folder} must be of format {FORMAT!r}, got {told!r}; train it again")
    return config, content


def _classifier(config: Mapping[str, Any], content: bytes, encoder: Encoder) -> RouteClassifier:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors = _cast(load(content), np.float16, np.float32)
    except SafetensorError as error:
        raise ValueError(f"{WEIGHTS} cannot be read: {error}") from error
    labels = tuple(str(label) for label in config["labels"])
    dim = int(config["encoder"]["dim"])
    ngrams = []
    for row, told in enumerate(config["ngrams"]):
        kept, idf = tensors[f"ngrams.{row}.kept"], tensors[f"ngrams.{row}.idf"]
        _require(f"ngrams.{row}.idf", idf, kept.shape)
        counted = HashedNGrams(told["unit"], told["low"], told["high"], told["buckets"])
        weighted = WeightedNGrams(counted, kept, idf, float(told["rarest"]))
        ngrams.append((weighted, _linear(tensors, f"ngrams.{row}", len(kept), len(labels))))
    _require("known", tensors["known"], (len(tensors["known"]), dim))
    return RouteClassifier(
        encoder=encoder,
        labels=labels,
        heads=Heads(_linear(tensors, "vector", dim, len(labels)), tuple(ngrams)),
        known=tensors["known"],
        encoder_name=str(config["encoder"]["name"]),
        encoder_fingerprint=str(config["encoder"]["fingerprint"]),
        temperature=float(config["temperature"]),
        trust=float(config["trust"]),
        modalities={str(label): str(kind) for label, kind in config["modalities"].items()},
        multi_label=bool(config["multi_label"]),
        threshold=float(config["threshold"]),
        about=dict(config["about"]),
    )


def _cast(tensors: Mapping[str, np.ndarray], old: type, new: type) -> dict[str, np.ndarray]:
    """Return the tensors, those of one type as another."""
    return {
        name: tensor.astype(new) if tensor.dtype == old else tensor
        for name, tensor in tensors.items()
    }


def _linear(tensors: Mapping[str, np.ndarray], name: str, features: int, labels: int) -> Linear:
    weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
    _require(f"{name}.weight", weight, (features, labels))
    _require(f"{name}.bias", bias, (labels,))
    return Linear(weight, bias)


def _require(name: str, tensor: np.ndarray, shape: tuple[int, ...]) -> None:
    if tensor.shape != shape:
        raise ValueError(f"{name} must be of shape {shape}, got {tensor.shape}")
    if not np.isfinite(tensor).all():
        raise ValueError(f"{name} must be finite, got some that is not")


def _said(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)
