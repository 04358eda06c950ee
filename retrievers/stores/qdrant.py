"""Qdrant as a vector store: a server, a folder, or memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rag.protocols import Encoder
from retrievers.stores.extras import need, shown
from retrievers.stores.store import VectorStoreSearch

if TYPE_CHECKING:
    from qdrant_client import QdrantClient


def open_qdrant(
    location: str,
    collection: str,
    encoder: Encoder,
    *,
    api_key: str | None = None,
    **options: Any,
) -> VectorStoreSearch:
    """Open a collection of Qdrant; it is made if there is none, with cosine distance.

    Local modes are for trying out: one process, every search compares every vector. Needs the extra
    `qdrant`.

    Args:
        location: `http://` or `https://` address of a server, `:memory:`, or a folder.
        collection: its name.
        encoder: makes the vectors.
        api_key: of the server, if it wants one.
        options: of `VectorStoreSearch`: `top_k`, `depth`, `where`, `within`.

    Raises:
        MissingExtraError: if qdrant-client or langchain-qdrant is not installed.
        ValueError: if the collection holds vectors of another width, or not one vector a point.
        ConnectionError: if the server cannot be reached, or refuses; the message has no secrets.
    """
    client_module, langchain = need("qdrant", "qdrant_client", "langchain_qdrant")
    from rag.interop.langchain import as_embeddings

    try:
        client = _client(client_module, location, api_key)
        _ensure(client, collection, encoder.dim)
    except (OSError, client_module.http.exceptions.ApiException) as error:
        raise ConnectionError(
            f"Qdrant at {shown(location)} cannot be used: {type(error).__name__}"
        ) from None
    store = langchain.QdrantVectorStore(client, collection, as_embeddings(encoder))
    return VectorStoreSearch(store, encoder, closing=client.close, **options)


def _client(module: Any, location: str, api_key: str | None) -> QdrantClient:
    if location == ":memory:":
        client = module.QdrantClient(location=location)
    elif "://" in location:
        client = module.QdrantClient(url=location, api_key=api_key)
    else:
        client = module.QdrantClient(path=location)
    found: QdrantClient = client
    return found


def _ensure(client: QdrantClient, collection: str, dim: int) -> None:
    """Make the collection if need be, else check the width of its vectors."""
    from qdrant_client import models

    if not client.collection_exists(collection):
        wanted = models.VectorParams(size=dim, distance=models.Distance.COSINE)
        client.create_collection(collection, vectors_config=wanted)
        return
    found = client.get_collection(collection).config.params.vectors
    size = getattr(found, "size", None)
    if size != dim:
        held = "several or none a point" if size is None else size
        raise ValueError(f"collection {collection!r} must hold vectors of width {dim}, got {held}")
