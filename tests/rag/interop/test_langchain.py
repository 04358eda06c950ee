"""The public entry: names exist, and importing it does not import LangChain."""

import subprocess
import sys

import pytest

import rag.interop.langchain


def loads_langchain(code):
    report = "import sys; print('langchain_core' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_importing_the_entry_and_theirs_as_ours_loads_neither_langchain_nor_numpy():
    code = (
        "import rag.interop, rag.interop.langchain\n"
        "from rag.interop.langchain import as_document, as_passage, from_retriever\n"
        "from rag.interop.langchain import from_chat_model, from_compressor, from_embeddings"
    )
    assert loads_langchain(code) == ["False", "False"]


def test_ours_as_theirs_loads_langchain_when_asked_for():
    assert loads_langchain("from rag.interop.langchain import as_retriever")[0] == "True"


def test_every_public_name_exists():
    for name in rag.interop.langchain.__all__:
        assert getattr(rag.interop.langchain, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'as_nothing'"):
        _ = rag.interop.langchain.as_nothing
