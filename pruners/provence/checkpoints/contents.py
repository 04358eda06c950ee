"""What a checkpoint's folder holds, from headers alone: no tensor is loaded and no code runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag.errors import ModelNotFoundError

if TYPE_CHECKING:
    from torch import Tensor

CONFIG = "config.json"


@dataclass(frozen=True, slots=True)
class Contents:
    """A folder's configuration and the headers of its weights.

    Attributes:
        folder: of the checkpoint.
        config: content of its `config.json`.
        shapes: shape of every tensor, by name.
        files: the `.safetensors` file of every tensor, by name.
    """

    folder: Path
    config: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    files: Mapping[str, Path]

    @classmethod
    def read(cls, folder: Path) -> Contents:
        """Read a folder's configuration and headers.

        Raises:
            ModelNotFoundError: if a part is missing or unreadable, the weights are only in a
                pickle, or two files hold a tensor of the same name.
        """
        from safetensors import SafetensorError, safe_open

        config = read_json(folder / CONFIG)
        shapes: dict[str, tuple[int, ...]] = {}
        files: dict[str, Path] = {}
        for path in _weights(folder):
            try:
                with safe_open(path, framework="pt") as file:
                    found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            except (SafetensorError, OSError) as error:
                raise ModelNotFoundError(f"{path} is no safetensors file: {error}") from None
            twice = sorted(found.keys() & shapes.keys())
            if twice:
                raise ModelNotFoundError(
                    f"{path} and {files[twice[0]].name} both hold a tensor {twice[0]}"
                )
            shapes |= found
            files |= dict.fromkeys(found, path)
        return cls(folder, config, shapes, files)

    def has(self, start: str) -> bool:
        """Return whether the name of any tensor starts like that."""
        return any(name.startswith(start) for name in self.shapes)

    def tensors(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Return tensors by name, on the CPU, in the precision of the file."""
        from safetensors import safe_open

        wanted = set(names)
        found: dict[str, Tensor] = {}
        for path in sorted({self.files[name] for name in wanted}):
            with safe_open(path, framework="pt") as file:
                for name in wanted & set(file.keys()):
                    found[name] = file.get_tensor(name)
        return found


def read_json(path: Path) -> dict[str, Any]:
    """Return the content of a file with one JSON object.

    Raises:
        ModelNotFoundError: if there is no such file, or it holds something else.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ModelNotFoundError(f"{path.parent} holds no {path.name}") from None
    except (OSError, ValueError) as error:
        raise ModelNotFoundError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise ModelNotFoundError(f"{path} must hold a JSON object, got {type(content).__name__}")
    return content


def _weights(folder: Path) -> list[Path]:
    """Return the folder's `.safetensors` files, or say what stands in their place."""
    files = sorted(folder.glob("*.safetensors"))
    if files:
        return files
    pickles = sorted(path.name for path in folder.glob("*.bin"))
    code = sorted(path.name for path in folder.glob("*.py"))
    if pickles:
        reason = f"; {pickles[0]} is a pickle, which may run code, and is never opened"
    elif code:
        reason = f"; {code[0]} is code, and no code of a folder runs"
    else:
        reason = ""
    raise ModelNotFoundError(f"{folder} holds no .safetensors weights{reason}")
