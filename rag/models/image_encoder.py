"""Image encoders: pictures and texts to unit vectors of one space, over sentence-transformers."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rag.errors import CorpusError, MissingExtraError
from rag.models.checkpoint import checkpoint_fingerprint, open_checkpoint
from rag.models.layout import check_safetensors, settings_shas
from rag.models.quiet import quiet_libraries
from rag.models.resolve import resolve_model

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PIL import Image
    from sentence_transformers import SentenceTransformer

# Eight decoded photographs of 20 megapixels take half a gigabyte.
_BATCH = 8


class SentenceImageEncoder:
    """Encodes pictures and queries by a dual encoder; satisfies `rag.protocols.ImageEncoder`.

    A query longer than the model's window, 77 tokens for CLIP, is cut there without a word: the
    second half of a long question has no say in which pictures are found. A picture is resized and
    cropped as the checkpoint's own processor does.

    Source: Radford et al. 2021, arXiv:2103.00020.
    """

    def __init__(self, model: SentenceTransformer, *, name: str, fingerprint: str) -> None:
        """Wrap a loaded model; `load_image_encoder` is the usual way.

        Args:
            model: used for inference only; kept as it is.
            name: what the user called it.
            fingerprint: hash of its weights and settings.

        Raises:
            ValueError: if the model encodes no images, or no texts.
        """
        modalities = tuple(getattr(model, "modalities", ("text",)))
        for needed in ("image", "text"):
            if needed not in modalities:
                raise ValueError(
                    f"image encoder must encode images and texts, and {name!r} encodes no "
                    f"{needed}s, got modalities {', '.join(map(str, modalities))}"
                )
        self._model = model
        self._name = name
        self._fingerprint = fingerprint
        self._dim = int(self._vectors(self._model.encode_query, [""]).shape[1])

    @property
    def name(self) -> str:
        """What the user called it."""
        return self._name

    @property
    def fingerprint(self) -> str:
        """SHA-256 of weights, tokenizer and the processor of pictures."""
        return self._fingerprint

    @property
    def dim(self) -> int:
        """Width of a vector."""
        return self._dim

    def encode_images(
        self,
        images: Sequence[Image.Image | Path],
        *,
        progress: Callable[[int], None] | None = None,
    ) -> np.ndarray:
        """Return unit vectors of pictures, float32 (n, dim), in their order.

        Args:
            images: pictures, or files that are read a few at a time; may be empty.
            progress: called after each batch with the number of pictures done so far.

        Raises:
            CorpusError: for a file that cannot be read; `read_image` says why.
        """
        vectors = np.empty((len(images), self._dim), np.float32)
        for start in range(0, len(images), _BATCH):
            read = [
                read_image(image) if isinstance(image, Path) else upright_rgb(image)
                for image in images[start : start + _BATCH]
            ]
            vectors[start : start + len(read)] = self._vectors(self._model.encode_document, read)
            if progress is not None:
                progress(start + len(read))
        return vectors

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        """Return unit vectors of texts, float32 (n, dim), in their order.

        Args:
            texts: may be empty, as may each text. Lone surrogates are read as `?`.
        """
        clean = [text.encode("utf-8", "replace").decode() for text in texts]
        if not clean:
            return np.empty((0, self._dim), np.float32)
        return self._vectors(self._model.encode_query, clean)

    def _vectors(self, encode: Callable[..., Any], inputs: list[Any]) -> np.ndarray:
        """Return the model's vectors of texts or of pictures, float32 (n, dim), of unit length."""
        with quiet_libraries():
            found = encode(inputs, batch_size=32, show_progress_bar=False, convert_to_numpy=True)
        vectors = np.asarray(found, np.float32)
        unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit


def load_image_encoder(name: str, *, download: bool = False) -> SentenceImageEncoder:
    """Load an image encoder; on a CUDA device if there is one. No code of the model's folder runs.

    Read are the layout of `sentence-transformers/clip-ViT-B-32`, a folder `0_CLIPModel` and a
    `modules.json`, and that of transformers, as `openai/clip-vit-base-patch32` has it.

    Args:
        name: a local folder, or a hub id `owner/name`.
        download: whether a name without `/` may be looked up on the hub.

    Raises:
        ModelNotFoundError: if nothing has that name, or the folder holds no safetensors weights.
        MissingExtraError: if Pillow is not installed.
        ValueError: if the model encodes no images, or no texts.
    """
    _pillow()
    folder = resolve_model(name, packages={}, download=download)
    fingerprint = checkpoint_fingerprint(folder, settings_shas(folder))
    check_safetensors(folder)
    model = open_checkpoint("SentenceTransformer", folder)
    return SentenceImageEncoder(model, name=name, fingerprint=fingerprint)


def read_image(path: Path) -> Image.Image:
    """Return a file's picture, decoded, upright and in RGB; of an animation the first frame.

    Raises:
        CorpusError: if it cannot be read, is damaged, or is too large to decode safely.
        MissingExtraError: if Pillow is not installed.
    """
    images = _pillow()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # A header that promises a billion pixels is an attack or an accident.
            warnings.simplefilter("error", images.DecompressionBombWarning)
            with images.open(path) as image:
                return upright_rgb(image)
    except Exception as error:
        # Decoders of damaged pictures raise whatever went wrong deep inside them.
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise CorpusError(f"{path} cannot be read as an image ({reason})") from error


def upright_rgb(image: Image.Image) -> Image.Image:
    """Return a picture as a person sees it: turned as its camera says, in RGB.

    What is transparent stands on white, as pages are; 16 bits a pixel become 8.
    """
    images = _pillow()
    from PIL import ImageOps

    turned = ImageOps.exif_transpose(image)
    if turned.mode.startswith("I") or turned.mode == "F":
        return _eight_bits(turned)
    if turned.has_transparency_data:
        coloured = turned.convert("RGBA")
        white = images.new("RGBA", coloured.size, "white")
        turned = images.alpha_composite(white, coloured)
    rgb: Image.Image = turned.convert("RGB")
    return rgb


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return a picture of one deep channel in RGB; Pillow alone would cut all above 255 to white.

    Integers are of 16 bits; other numbers are scaled to their own range.
    """
    deep = np.asarray(image, np.float64)
    low, high = (0.0, 65535.0) if image.mode.startswith("I") else (deep.min(), deep.max())
    shares = (deep - low) / (high - low) if high > low else np.zeros_like(deep)
    levels = np.rint(255 * np.clip(shares, 0.0, 1.0)).astype(np.uint8)
    rgb: Image.Image = _pillow().fromarray(levels).convert("RGB")
    return rgb


def _pillow() -> Any:
    """Return Pillow's module of images."""
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError(
            "image encoders need Pillow, which is not installed; pip install 'dovetail-rag[docs]'"
        ) from error
    return Image
