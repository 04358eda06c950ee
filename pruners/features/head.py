"""The trained head: small networks over the features of sentences, in numpy."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pruners.features.features import FEATURES
from rag.errors import ModelNotFoundError
from rag.files import write_atomically

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
SHIPPED = Path(__file__).parent.parent / "weights" / "features"
"""The head that comes with the package, for the default encoder."""
DEFAULT_RECALL = "0.95"
"""Share of the gold sentences of the validation data that the default threshold keeps."""
_FORMAT = 1  # another number when the layout of the files, or what a feature means, changes
_LIMIT = 6.0  # standard deviations: what lies further out was hardly seen in training
_PARTS = ("mean", "scale", "weight_1", "bias_1", "weight_2", "bias_2", "weight_3", "bias_3")


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A perceptron with two hidden layers of h units (ReLU), over standardised features.

    Attributes:
        mean: of each feature, float32 (d,).
        scale: of each feature, above 0, float32 (d,).
        layers: weights (in, out) and biases (out,) of the three layers, float32.
    """

    mean: np.ndarray
    scale: np.ndarray
    layers: tuple[tuple[np.ndarray, np.ndarray], ...]

    @staticmethod
    def standardised(features: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Return features in standard deviations from their mean, at most 6, float32 (n, d)."""
        limited: np.ndarray = np.clip((features - mean) / scale, -_LIMIT, _LIMIT)
        return limited.astype(np.float32)

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Return a logit a row, float32 (n,), of features float32 (n, d)."""
        hidden = self.standardised(features, self.mean, self.scale)
        for weight, bias in self.layers[:-1]:
            hidden = np.maximum(hidden @ weight + bias, 0.0)
        weight, bias = self.layers[-1]
        logits: np.ndarray = (hidden @ weight + bias)[:, 0]
        return logits


@dataclass(frozen=True, slots=True, eq=False)
class FeatureHead:
    """Networks that judge sentences by their features; the mean of their logits counts.

    They differ by the seed of their training, and so in how they err.

    Attributes:
        networks: at least one, over `FEATURES`.
        encoder: name of the encoder whose vectors it was trained on.
        encoder_fingerprint: its fingerprint.
        slope: of the calibration, above 0.
        offset: of the calibration: `slope * logit + offset` is the log-odds of use.
        thresholds: share of the gold sentences of the validation data, such as `0.95`, to the
            probability that this share is above.
        about: how it was made: seed, data, and whatever else a reader wants to know.
    """

    networks: tuple[Network, ...]
    encoder: str
    encoder_fingerprint: str
    slope: float = 1.0
    offset: float = 0.0
    thresholds: Mapping[str, float] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def threshold(self) -> float:
        """The probability that 95 % of the gold sentences of the validation data are above.

        Raises:
            ValueError: if the head was trained on too little data to tell.
        """
        if DEFAULT_RECALL not in self.thresholds:
            raise ValueError(
                f"thresholds must hold {DEFAULT_RECALL}, got {sorted(self.thresholds)}: there was "
                "no validation data, so give a threshold"
            )
        return self.thresholds[DEFAULT_RECALL]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that the log-odds depend on, the encoder included, in hex."""
        settings = (_FORMAT, FEATURES, self.encoder_fingerprint, self.slope, self.offset)
        digest = hashlib.sha256(repr(settings).encode())
        for network in self.networks:
            for tensor in _tensors(network):
                digest.update(np.ascontiguousarray(tensor, np.float32).tobytes())
        return digest.hexdigest()

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Return the calibrated log-odds of each sentence, float64 (n,), of float32 (n, d)."""
        return self.slope * mean_logits(self.networks, features) + self.offset

    def save(self, folder: Path) -> None:
        """Write `model.safetensors` and `config.json` into a folder, made if need be."""
        from safetensors.numpy import save

        folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            f"{row}.{name}": np.ascontiguousarray(tensor, np.float32)
            for row, network in enumerate(self.networks)
            for name, tensor in zip(_PARTS, _tensors(network), strict=True)
        }
        config = {
            "format": _FORMAT,
            "encoder": self.encoder,
            "encoder_fingerprint": self.encoder_fingerprint,
            "features": list(FEATURES),
            "networks": len(self.networks),
            "slope": self.slope,
            "offset": self.offset,
            "thresholds": dict(self.thresholds),
            "about": dict(self.about),
        }
        weights, text = save(tensors), json.dumps(config, indent=1, ensure_ascii=False) + "\n"
        write_atomically(folder / WEIGHTS, lambda file: file.write(weights))
        write_atomically(folder / CONFIG, lambda file: file.write(text.encode()))

    @classmethod
    def load(cls, folder: Path = SHIPPED) -> FeatureHead:
        """Read a head.

        Raises:
            ModelNotFoundError: if the folder holds none.
            ValueError: if it is damaged, or was made for other features than these.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
            raise ModelNotFoundError(
                f"{folder} must hold {CONFIG} and {WEIGHTS} of a feature pruner, got neither or one"
            )
        try:
            config = json.loads((folder / CONFIG).read_bytes())
            if config["format"] != _FORMAT or config["features"] != list(FEATURES):
                raise ValueError(  # noqa: TRY301
                    f"its format must be {_FORMAT} and its features those of this version, got "
                    f"format {config['format']!r}; train it again"
                )
            tensors = load_file(folder / WEIGHTS)
            networks = tuple(_network(tensors, str(row)) for row in range(config["networks"]))
            return cls(
                networks,
                str(config["encoder"]),
                str(config["encoder_fingerprint"]),
                float(config["slope"]),
                float(config["offset"]),
                {str(key): float(value) for key, value in config["thresholds"].items()},
                dict(config["about"]),
            )
        except (KeyError, TypeError, AttributeError, ValueError, SafetensorError) as error:
            raise ValueError(f"{folder} holds no readable feature pruner: {error}") from error


def mean_logits(networks: Sequence[Network], features: np.ndarray) -> np.ndarray:
    """Return the mean logit of networks, float64 (n,)."""
    found = [network.logits(features) for network in networks]
    return np.asarray(np.mean(found, axis=0, dtype=np.float64))


def _tensors(network: Network) -> list[np.ndarray]:
    return [network.mean, network.scale, *(tensor for layer in network.layers for tensor in layer)]


def _network(tensors: Mapping[str, np.ndarray], prefix: str) -> Network:
    mean, scale, *layers = (tensors[f"{prefix}.{name}"] for name in _PARTS)
    pairs = tuple(zip(layers[::2], layers[1::2], strict=True))
    width = len(FEATURES)
    wide = [width, *(len(bias) for _, bias in pairs)]
    shapes = [(wide[row], wide[row + 1]) for row in range(len(pairs))]
    if mean.shape != (width,) or [weight.shape for weight, _ in pairs] != shapes or wide[-1] != 1:
        got = [tensor.shape for pair in pairs for tensor in pair]
        raise ValueError(f"{prefix} must read {width} features and give one logit, got {got}")
    return Network(mean, scale, pairs)
