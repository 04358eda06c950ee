"""Plain text (.txt): the text as it stands, without sections."""

from rag.corpus.loaders.decoding import decode
from rag.records import Document


def load(data: bytes, source: str, name: str) -> list[Document]:
    """Return the one document of a text file.

    Args:
        data: content of the file.
        source: id of the document.
        name: its title.

    Raises:
        CorpusError: for binary content.
    """
    text, encoding = decode(data)
    return [Document(source, text, name, metadata={"encoding": encoding})]
