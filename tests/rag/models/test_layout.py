"""Checkpoints that lack a part, hold a pickle or name foreign code are refused before they load."""

import json
import shutil

import pytest

from rag.errors import ModelNotFoundError
from rag.models.cross_encoder import load_cross_encoder
from rag.models.encoder import load_encoder
from rag.models.layout import check_safetensors, holds
from rag.models.multi_vector_encoder import load_multi_vector_encoder
from rag.models.sparse_encoder import load_sparse_encoder

PASSAGE = "red cat on the dog"


def written(folder, modules=None, saved=None, architectures=()):
    """Write only what says what a folder holds."""
    (folder / "config.json").write_text(json.dumps({"architectures": list(architectures)}))
    if modules is not None:
        content = [{"type": f"sentence_transformers.models.{name}"} for name in modules]
        (folder / "modules.json").write_text(json.dumps(content))
    if saved is not None:
        about = json.dumps({"model_type": saved})
        (folder / "config_sentence_transformers.json").write_text(about)
    return folder


@pytest.mark.parametrize(
    ("kind", "layout", "expected"),
    [
        ("CrossEncoder", {"architectures": ["BertForSequenceClassification"]}, True),
        ("CrossEncoder", {"architectures": ["Qwen3ForCausalLM"]}, True),
        ("CrossEncoder", {"architectures": ["BertModel"]}, False),
        ("CrossEncoder", {"modules": ["Transformer", "Pooling"]}, False),
        ("CrossEncoder", {"modules": ["Transformer"], "saved": "CrossEncoder"}, True),
        ("SparseEncoder", {"architectures": ["BertForMaskedLM"]}, True),
        ("SparseEncoder", {"architectures": ["BertModel"]}, False),
        ("SparseEncoder", {"modules": ["Router"], "saved": "SparseEncoder"}, True),
        ("SparseEncoder", {"modules": ["Transformer"], "architectures": ["XForMaskedLM"]}, False),
        ("MultiVectorEncoder", {"architectures": ["HF_ColBERT"]}, True),
        ("MultiVectorEncoder", {"architectures": ["ColPaliForRetrieval"]}, True),
        ("MultiVectorEncoder", {"architectures": ["BertModel"]}, False),
        ("MultiVectorEncoder", {"modules": ["Transformer", "Dense"]}, True),
        ("MultiVectorEncoder", {"modules": ["Transformer", "Dense"], "saved": "ColBERT"}, True),
        ("MultiVectorEncoder", {"modules": ["Transformer", "Pooling", "Dense"]}, False),
        ("MultiVectorEncoder", {"modules": ["Transformer"]}, False),
        ("MultiVectorEncoder", {}, False),
    ],
)
def test_a_folder_says_whether_it_holds_a_kind_of_model(kind, layout, expected, tmp_path):
    assert holds(written(tmp_path, **layout), kind) is expected


@pytest.mark.parametrize(
    ("load", "noun"),
    [(load_cross_encoder, "cross-encoder"), (load_sparse_encoder, "sparse encoder")],
)
@pytest.mark.parametrize("bare", [False, True])
def test_a_head_is_never_drawn_at_random(load, noun, bare, plain, bert):
    folder = bert("BertModel") if bare else plain
    with pytest.raises(ModelNotFoundError, match=f"holds no {noun}: the weights of its head"):
        load(str(folder))


def test_a_bare_transformer_gives_the_same_token_vectors_each_time(bert):
    folder = str(bert("BertModel"))
    one, other = (load_multi_vector_encoder(folder).encode([PASSAGE])[0] for _ in range(2))
    assert one.tolist() == other.tolist()


LOADERS = [load_encoder, load_sparse_encoder, load_cross_encoder, load_multi_vector_encoder]
FOLDERS = ["plain", "splade", "cross_encoder_folder", "trained_colbert"]
EACH = list(zip(LOADERS, FOLDERS, strict=True))


@pytest.mark.parametrize(("load", "name"), EACH)
def test_a_part_in_a_pickle_is_refused_unless_safetensors_stand_beside_it(
    load, name, request, tmp_path
):
    copy = shutil.copytree(request.getfixturevalue(name), tmp_path / "copy")
    (copy / "pytorch_model.bin").touch()
    load(str(copy))
    (copy / "9_Dense").mkdir()
    (copy / "9_Dense" / "pytorch_model.bin").touch()
    with pytest.raises(ModelNotFoundError, match=r"9_Dense.pytorch_model\.bin is a pickle"):
        load(str(copy))


@pytest.mark.parametrize(("load", "name"), EACH)
def test_modules_that_are_not_the_librarys_never_run(load, name, request, tmp_path):
    copy = shutil.copytree(request.getfixturevalue(name), tmp_path / "copy")
    touched = tmp_path / "touched"
    (copy / "evil.py").write_text(f"open({str(touched)!r}, 'w').close()\nclass Evil: pass\n")
    modules = json.loads((copy / "modules.json").read_text())
    modules[-1]["type"] = "evil.Evil"
    (copy / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ValueError, match=r"evil\.Evil"):
        load(str(copy))
    assert not touched.exists()


@pytest.mark.parametrize(("load", "name"), EACH[1:])
@pytest.mark.parametrize("file", ["config_sentence_transformers.json", "tokenizer.json"])
def test_the_fingerprint_follows_prompts_and_vocabulary(load, name, file, request, tmp_path):
    copy = shutil.copytree(request.getfixturevalue(name), tmp_path / "copy")
    before = load(str(copy)).fingerprint
    about = json.loads((copy / file).read_text())
    if file == "tokenizer.json":
        about["normalizer"]["lowercase"] = not about["normalizer"]["lowercase"]
    else:
        about["prompts"] = {"query": "red ", "document": "the "}
    (copy / file).write_text(json.dumps(about))
    (copy / ".cache").mkdir()
    (copy / ".cache" / "x.json").write_text("{}")
    assert load(str(copy)).fingerprint != before


def test_what_a_download_leaves_behind_is_no_setting(splade, tmp_path):
    copy = shutil.copytree(splade, tmp_path / "copy")
    (copy / ".cache").mkdir()
    (copy / ".cache" / "x.json").write_text("{}")
    (copy / "README.md").write_text("Another text.")
    assert (
        load_sparse_encoder(str(copy)).fingerprint == load_sparse_encoder(str(splade)).fingerprint
    )


def test_a_folder_without_weights_has_no_pickle(tmp_path):
    check_safetensors(tmp_path)
