"""Milvus as a vector store: a server, or Milvus Lite in this process."""

from __future__ import annotations

from typing import Any

from rag.protocols import Encoder
from retrievers.stores.extras import need, shown
from retrievers.stores.store import VectorStoreSearch

_COSINE = {"metric_type": "COSINE", "index_type": "AUTOINDEX", "params": {}}


def open_milvus(
    uri: str, collection: str, encoder: Encoder, *, token: str | None = None, **options: Any
) -> VectorStoreSearch:
    """Open a collection of Milvus; the first `add` makes it if there is none, with cosine.

    Needs the extra `milvus`; Milvus Lite listens on 127.0.0.1.

    Args:
        uri: `http://` or `https://` address of a server, or a path that ends in `.db` for Lite.
        collection: its name.
        encoder: makes the vectors.
        token: `user:password` or a key, if the server wants one.
        options: of `VectorStoreSearch`: `top_k`, `depth`, `where`, `within`.

    Raises:
        MissingExtraError: if pymilvus or langchain-milvus is not installed.
        ValueError: if the collection holds vectors of another width.
        ConnectionError: if the server cannot be reached, or refuses; the message has no secrets.
    """
    pymilvus, langchain = need("milvus", "pymilvus", "langchain_milvus")
    from rag.interop.langchain import as_embeddings

    arguments = {"uri": uri} if token is None else {"uri": uri, "token": token}
    try:
        store = langchain.Milvus(
            as_embeddings(encoder),
            collection_name=collection,
            connection_args=arguments,
            consistency_level="Strong",
            index_params=_COSINE,
            metadata_field="metadata",
        )
        _check_width(store, collection, encoder.dim)
    except pymilvus.MilvusException as error:
        raise ConnectionError(
            f"Milvus at {shown(uri)} cannot be used: {type(error).__name__}"
        ) from None
    return VectorStoreSearch(store, encoder, closing=lambda: _close(store, uri), **options)


def _check_width(store: Any, collection: str, dim: int) -> None:
    if not store.client.has_collection(collection):
        return
    fields = store.client.describe_collection(collection)["fields"]
    widths = {one["name"]: one["params"].get("dim") for one in fields}
    width = widths.get("vector")
    if width is None or int(width) != dim:
        raise ValueError(f"collection {collection!r} must hold vectors of width {dim}, got {width}")


def _close(store: Any, uri: str) -> None:
    store.client.close()
    if "://" not in uri:
        from milvus_lite.server_manager import server_manager_instance

        server_manager_instance.release_server(uri)
