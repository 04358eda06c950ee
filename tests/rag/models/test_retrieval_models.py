"""Sparse, cross- and multi-vector encoders on tiny checkpoints of the real layouts."""

import json
import shutil

import numpy as np
import pytest

from rag.errors import ModelNotFoundError
from rag.models.cross_encoder import PairScorer, load_cross_encoder
from rag.models.multi_vector_encoder import load_multi_vector_encoder
from rag.models.sparse_encoder import load_sparse_encoder
from rag.records import Query
from retrievers.rerank.late_interaction import maxsim
from retrievers.sparse.learned import LearnedSparse

TEXTS = ["red cat", "the green dog sleeps", "a blue dog runs on the cat", "dog", ""]
LOADERS = [load_sparse_encoder, load_cross_encoder, load_multi_vector_encoder]


def library_vectors(folder, texts, method):
    """What the library itself gives: dense rows over the vocabulary."""
    from sentence_transformers import SparseEncoder

    model = SparseEncoder(str(folder), local_files_only=True)
    rows = getattr(model, method)(texts, convert_to_sparse_tensor=False)
    return model.tokenizer.get_vocab(), rows.float().numpy()


def test_weights_are_the_models_own_by_term(splade):
    encoder = load_sparse_encoder(str(splade))
    vocabulary, rows = library_vectors(splade, TEXTS, "encode_document")
    for found, row in zip(encoder.encode(TEXTS), rows, strict=True):
        assert all(weight > 0 for weight in found.values())
        dense = np.zeros(len(row))
        for term, weight in found.items():
            dense[vocabulary[term]] = weight
        np.testing.assert_allclose(dense, row, atol=1e-5)
    assert encoder.encode([]) == encoder.encode_queries([]) == []


def test_learned_retrieval_ranks_by_the_models_dot_product(splade):
    encoder = load_sparse_encoder(str(splade))
    ids = [f"p{row}" for row in range(len(TEXTS))]
    search = LearnedSparse.build(ids, TEXTS, encoder)
    _, passages = library_vectors(splade, TEXTS, "encode_document")
    queries = [Query("cat on the dog"), Query("blue")]
    _, asked = library_vectors(splade, [query.text for query in queries], "encode_query")
    for query, row in zip(queries, asked, strict=True):
        expected = passages @ row
        np.testing.assert_allclose(search.scores_of(query, ids), expected, rtol=1e-5)
        order = sorted(range(len(ids)), key=lambda at, of=expected: -of[at])
        found = [hit.id for hit in search.search(query, 99)]
        assert found == [ids[at] for at in order if expected[at] > 0]
    for batch, query in zip(search.search_batch(queries, 2), queries, strict=True):
        alone = search.search(query, 2)
        assert [hit.id for hit in batch] == [hit.id for hit in alone]
        scores = [hit.score for hit in alone]
        assert [hit.score for hit in batch] == pytest.approx(scores, rel=1e-5)
    only = search.search(queries[0], 9, within=frozenset({"p3", "p1"}))
    assert {hit.id for hit in only} == {"p1", "p3"}
    assert search.ids == tuple(ids)


def test_an_inference_free_encoder_looks_its_queries_up(inference_free):
    encoder = load_sparse_encoder(str(inference_free))
    vocabulary, rows = library_vectors(inference_free, TEXTS, "encode_document")
    assert encoder.encode_queries(["red cat red", "nonesuch ", ""]) == [
        {term: vocabulary[term] + 1.0 for term in ("red", "cat")},
        {"[UNK]": vocabulary["[UNK]"] + 1.0},
        {},
    ]
    ids = [f"p{row}" for row in range(len(TEXTS))]
    search = LearnedSparse.build(ids, TEXTS, encoder)
    _, asked = library_vectors(inference_free, ["cat on the dog"], "encode_query")
    np.testing.assert_allclose(
        search.scores_of(Query("cat on the dog"), ids), rows @ asked[0], rtol=1e-5
    )


def test_weights_do_not_depend_on_the_order_of_the_texts(splade):
    encoder = load_sparse_encoder(str(splade))
    texts = [" ".join(["dog", "red", "cat"][: 1 + row % 3]) * (1 + row % 2) for row in range(70)]
    found = encoder.encode(texts)
    for row in (0, 1, 2, 33, 69):
        assert found[row] == pytest.approx(encoder.encode([texts[row]])[0], abs=1e-5)


def test_places_without_a_token_are_named_by_their_number(bert, tmp_path):
    folder = shutil.copytree(bert("BertForMaskedLM"), tmp_path / "padded")
    vocabulary = (folder / "vocab.txt").read_text().split()
    import transformers

    (folder / "vocab.txt").write_text("\n".join(vocabulary[:-2]))
    (folder / "tokenizer.json").unlink()
    transformers.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    (found,) = load_sparse_encoder(str(folder)).encode(["red cat dog"])
    assert set(found) <= {*vocabulary[:-2], "#15", "#16"}
    assert set(found) & {"#15", "#16"}


def test_the_heaviest_terms_are_kept(splade):
    few, every = (
        load_sparse_encoder(str(splade), max_active_dims=3),
        load_sparse_encoder(str(splade)),
    )
    assert few.fingerprint != every.fingerprint
    for short, whole in zip(few.encode(TEXTS), every.encode(TEXTS), strict=True):
        best = sorted(whole.values(), reverse=True)[:3]
        assert sorted(short.values(), reverse=True) == pytest.approx(best, rel=1e-5)
    with pytest.raises(ValueError, match="max_active_dims must be at least 1, got 0"):
        load_sparse_encoder(str(splade), max_active_dims=0)


def test_progress_counts_texts(splade):
    done = []
    load_sparse_encoder(str(splade)).encode(["red"] * 40, progress=done.append)
    assert done == [32, 40]


def test_an_index_without_impacts_is_refused(splade):
    from retrievers.sparse.index import SparseIndex

    with pytest.raises(ValueError, match=r"index must have weighting=Impact\(\)"):
        LearnedSparse(SparseIndex(), load_sparse_encoder(str(splade)))


def test_pairs_score_as_the_library_predicts(cross_encoder_folder):
    from sentence_transformers import CrossEncoder

    scorer = load_cross_encoder(str(cross_encoder_folder))
    pairs = [("red cat", text) for text in TEXTS]
    expected = CrossEncoder(str(cross_encoder_folder)).predict(pairs, show_progress_bar=False)
    np.testing.assert_allclose(scorer.scores(pairs), expected, atol=1e-6)
    np.testing.assert_allclose(scorer.scores(pairs, batch_size=2), expected, atol=1e-6)
    assert scorer.scores([]).shape == (0,)
    assert len({float(score) for score in expected}) > 1


def test_a_classifier_is_no_scorer(bert):
    scorer = load_cross_encoder(str(bert("BertForSequenceClassification", num_labels=2)))
    with pytest.raises(ValueError, match=r"must give one score a pair, \(1,\), got \(1, 2\)"):
        scorer.scores([("red", "cat")])


def test_scores_that_are_no_numbers_are_refused():
    class Broken:
        def predict(self, pairs, **_):
            return np.full(len(pairs), np.nan)

    with pytest.raises(ValueError, match="'x' gave a score that is not finite"):
        PairScorer(Broken(), name="x", fingerprint="").scores([("a", "b")])


def test_late_interaction_is_the_librarys(colbert):
    from sentence_transformers import MultiVectorEncoder

    encoder = load_multi_vector_encoder(str(colbert))
    model = MultiVectorEncoder(str(colbert))
    asked, read = encoder.encode_queries(["red cat", "dog"]), encoder.encode(TEXTS[:4])
    expected = model.similarity(
        model.encode_query(["red cat", "dog"]), model.encode_document(TEXTS[:4])
    )
    found = [[maxsim(query, passage) for passage in read] for query in asked]
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)
    for tokens in (*asked, *read):
        np.testing.assert_allclose(np.linalg.norm(tokens, axis=1), 1.0, atol=1e-5)


def test_markers_mask_tokens_and_words_left_out_are_as_in_the_library(trained_colbert):
    from sentence_transformers import MultiVectorEncoder

    encoder = load_multi_vector_encoder(str(trained_colbert))
    model = MultiVectorEncoder(str(trained_colbert))
    asked = encoder.encode_queries(["red cat", "dog"])
    assert [tokens.shape for tokens in asked] == [(8, 6), (8, 6)], "filled up to 8 tokens"
    read = encoder.encode(["red cat", "the red cat on the", "dog " * 40])
    assert read[1].shape == read[0].shape, "`the` and `on` are left out"
    assert len(read[2]) == 12, "a long passage is cut at the window"
    np.testing.assert_allclose(
        [[maxsim(query, passage) for passage in read] for query in asked],
        model.similarity(
            model.encode_query(["red cat", "dog"]),
            model.encode_document(["red cat", "the red cat on the", "dog " * 40]),
        ).numpy(),
        atol=1e-5,
    )


def test_an_ordinary_encoder_gives_its_tokens_too(plain):
    encoder = load_multi_vector_encoder(str(plain))
    (tokens,) = encoder.encode(["red cat"])
    assert tokens.shape == (4, 16)  # [CLS] red cat [SEP]
    np.testing.assert_allclose(np.linalg.norm(tokens, axis=1), 1.0, atol=1e-5)
    assert encoder.encode([]) == encoder.encode_queries([]) == []


def test_an_ordinary_encoder_reads_each_side_behind_its_prompt(plain, tmp_path):
    copy = shutil.copytree(plain, tmp_path / "copy")
    about = {"prompts": {"query": "red ", "passage": "the "}, "default_prompt_name": "query"}
    (copy / "config_sentence_transformers.json").write_text(json.dumps(about))
    prompted, bare = load_multi_vector_encoder(str(copy)), load_multi_vector_encoder(str(plain))
    (asked,), (read,) = prompted.encode_queries(["cat"]), prompted.encode(["cat"])
    np.testing.assert_allclose(asked, bare.encode(["red cat"])[0], atol=1e-5)
    np.testing.assert_allclose(read, bare.encode(["the cat"])[0], atol=1e-5)


def test_an_encoder_without_token_states_is_refused(splade, tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from transformers import AutoTokenizer

    table = StaticEmbedding(
        AutoTokenizer.from_pretrained(splade).backend_tokenizer, embedding_dim=4
    )
    SentenceTransformer(modules=[table]).save_pretrained(str(tmp_path))
    with pytest.raises(ModelNotFoundError, match="holds an encoder without token vectors"):
        load_multi_vector_encoder(str(tmp_path))


@pytest.mark.parametrize("load", LOADERS)
def test_what_is_no_checkpoint_is_refused(load, tmp_path):
    with pytest.raises(ModelNotFoundError, match="no model 'nonesuch'; tried"):
        load("nonesuch")
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(ModelNotFoundError, match=r"no \.safetensors weights"):
        load(str(tmp_path))


@pytest.mark.parametrize("load", LOADERS)
def test_no_code_of_a_folder_runs_and_loading_is_silent(load, request, tmp_path, capfd):
    names = dict(zip(LOADERS, ("splade", "cross_encoder_folder", "colbert"), strict=True))
    folder = tmp_path / "copy"
    shutil.copytree(request.getfixturevalue(names[load]), folder)
    capfd.readouterr()
    touched = tmp_path / "touched"
    (folder / "evil.py").write_text(f"open({str(touched)!r}, 'w').close()\nclass Evil: pass\n")
    about = json.loads((folder / "config.json").read_text())
    about["auto_map"] = {"AutoModel": "evil.Evil", "AutoConfig": "evil.Evil"}
    (folder / "config.json").write_text(json.dumps(about))
    load(str(folder))
    assert not touched.exists()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("load", LOADERS)
def test_a_copy_has_the_same_fingerprint_and_other_weights_another(load, request, tmp_path):
    names = dict(zip(LOADERS, ("splade", "cross_encoder_folder", "colbert"), strict=True))
    original = request.getfixturevalue(names[load])
    shutil.copytree(original, tmp_path / "copy")
    first = load(str(original)).fingerprint
    assert load(str(tmp_path / "copy")).fingerprint == first
    weights = tmp_path / "copy" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    assert load(str(tmp_path / "copy")).fingerprint != first
