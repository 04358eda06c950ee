"""The scorer: parity with its definition, batches, long and odd passages, the prior."""

import math
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pruners.provence import ProvenceModel, ProvenceScorer, pair_blocks, prior_logits
from rag.records import PassageScores, Query

FAMILIES = ["bert", "xlm-roberta", "modernbert", "deberta-v2"]
KINDS = {"bert": "pieces", "xlm-roberta": "spaces", "modernbert": "bytes", "deberta-v2": "spaces"}
ASKED = Query("what does yield return?")


@pytest.fixture
def scorer(random_model, tokenizers):
    """Return a function (family, dtype, **settings) -> scorer of a random model."""

    def build(family="bert", dtype=torch.float32, prior=None, **settings):
        model = random_model(family, residual=prior is not None, dtype=dtype)
        settings = {"window": 64, "query_tokens": 24, "title_tokens": 8, **settings}
        return ProvenceScorer(model, tokenizers[KINDS[family]], prior=prior, **settings)

    return build


@pytest.fixture
def reads(passage):
    return [
        passage("yield returns values. ", "the program. ", "a", title="a program", id_="0"),
        passage(id_="1"),
        passage(*("checks lazily into it. " for _ in range(20)), title="the", id_="2"),
        passage("a " * 200, "b", id_="3"),
        passage("x" * 30, id_="4"),
    ]


def scores_by_definition(scorer, query, passage, rounding):
    """Each block alone, each token's probability in a list, in plain Python."""
    probabilities = [[] for _ in passage.sentences]
    blocks = pair_blocks(scorer._tokenizer, query, passage, 64, 24, title_tokens=8)
    reranks = []
    for block in blocks:
        ids = torch.tensor([block.ids])
        model = scorer.model
        types = {"token_type_ids": torch.tensor([block.types])} if len(set(block.types)) > 1 else {}
        state = model.trunk(input_ids=ids, **types).last_hidden_state
        drop, keep = model.token_head(state)[0].T.tolist()
        parts = {}
        for row, d, k in zip(block.rows, drop, keep, strict=True):
            parts.setdefault(row, []).append(math.exp(k) / (math.exp(d) + math.exp(k)))
        for row, part in parts.items():
            if row >= 0:
                probabilities[row].append(part)
        reranks.append(model.rerank_head.classifier(state[0, 0]).item())
    scores = []
    for parts in probabilities:
        rounded = []
        for part in parts:
            falling, n = sorted(part, reverse=True), len(part)
            rounded.append(
                {
                    "mean": sum(part) / n,
                    "majority": falling[n // 2],
                    "same_t": max(min(p, (i + 1) / n) for i, p in enumerate(falling)),
                }[rounding]
            )
        weights = [len(part) for part in parts]
        total = sum(w * r for w, r in zip(weights, rounded, strict=True))
        scores.append(total / sum(weights) if parts else 1.0)
    return scores, max(reranks, default=None)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rounding", ["mean", "majority", "same_t"])
def test_matches_the_definition(scorer, reads, family, rounding):
    made = scorer(family, torch.float64, rounding=rounding)
    near = 1e-5 if family == "modernbert" else 1e-9
    for read, found in zip(reads, made(ASKED, reads), strict=True):
        scores, rerank = scores_by_definition(made, ASKED.text, read, rounding)
        assert found.sentences == pytest.approx(scores, abs=near)
        assert found.rerank_score == (None if rerank is None else pytest.approx(rerank, abs=near))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_is_each_alone_and_any_order(scorer, reads, family):
    made = scorer(family, batch_size=3)
    whole = made(ASKED, reads)
    order = [3, 0, 4, 2, 1]
    shuffled = dict(zip(order, made(ASKED, [reads[at] for at in order]), strict=True))
    for at, found in enumerate(whole):
        for other in (made(ASKED, [reads[at]])[0], shuffled[at]):
            assert other.sentences == pytest.approx(found.sentences, abs=1e-5)
            if found.rerank_score is not None:
                assert other.rerank_score == pytest.approx(found.rerank_score, abs=1e-4)


def test_queries_together_are_queries_alone(scorer, reads):
    made = scorer(dtype=torch.float64)
    queries = [ASKED, Query("values?"), Query("lazily")]
    lists = [reads[:2], [], reads[2:]]
    together = made.score_batch(queries, lists)
    assert [len(found) for found in together] == [2, 0, 3]
    for query, of_query, found in zip(queries, lists, together, strict=True):
        for alone, one in zip(made(query, of_query), found, strict=True):
            assert one.sentences == pytest.approx(alone.sentences, abs=1e-9)


def test_one_pass_serves_sentences_and_passages(scorer, reads):
    made = scorer(batch_size=100)
    calls = []
    made.model.register_forward_hook(lambda *_: calls.append(1))
    made.score_batch([ASKED, Query("a")], [reads, reads])
    assert len(calls) == 1


def test_scores_are_the_same_each_time(scorer, reads):
    made = scorer()
    assert made(ASKED, reads) == made(ASKED, reads) == scorer()(ASKED, reads)


def test_what_follows_in_other_blocks_moves_no_score(scorer, passage):
    made = scorer(dtype=torch.float64)
    texts = ["yield returns values. " * 2] * 6
    before = made(ASKED, [passage(*texts)])[0].sentences
    blocks = pair_blocks(made._tokenizer, ASKED.text, passage(*texts), 64, 24, title_tokens=8)
    closed = max(row for row in blocks[0].rows)
    assert len(blocks) > 1
    after = made(ASKED, [passage(*texts, "checks " * 40, "a")])[0].sentences
    assert after[: closed + 1] == pytest.approx(before[: closed + 1], abs=1e-9)


def test_passages_without_sentences_or_tokens_need_no_model(scorer, passage):
    made = scorer()
    made.model.trunk = None
    found = made(ASKED, [passage(), passage("\x00", " \n")])
    assert found == [PassageScores(()), PassageScores((1.0, 1.0))]
    assert made(ASKED, []) == []


def test_a_sentence_without_tokens_scores_one_beside_others(scorer, passage):
    found = scorer()(ASKED, [passage("yield. ", "\x00", "a")])[0].sentences
    assert found[1] == 1.0
    assert found[0] < 1.0 > found[2]


@settings(max_examples=50)
@given(texts=st.lists(st.text(max_size=30), max_size=6), title=st.text(max_size=8))
def test_any_text_gets_one_score_a_sentence(random_model, tokenizers, passage, texts, title):
    for family in ("bert", "modernbert"):
        made = ProvenceScorer(
            random_model(family),
            tokenizers[KINDS[family]],
            window=64,
            query_tokens=24,
            title_tokens=8,
        )
        (found,) = made(ASKED, [passage(*texts, title=title)])
        assert len(found.sentences) == len(texts)
        assert all(1e-6 <= score <= 1.0 for score in found.sentences)


def test_a_query_over_its_cap_is_cut_with_a_warning(scorer, reads):
    made = scorer()
    asked = "a " * 24
    with pytest.warns(RuntimeWarning, match="its last 6 tokens were not read") as caught:
        cut = made(Query(asked + "b c d e f g"), reads)
    assert caught[0].filename == __file__
    assert cut == made(Query(asked), reads)


def test_a_passage_without_a_full_stop_is_read_in_bounded_memory(scorer, passage):
    made = scorer(batch_size=32, window=128)
    text = "returns values " * 70_000
    assert len(text) > 1e6
    tracemalloc.start()
    (found,) = made(ASKED, [passage(text)])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found.sentences) == 1
    assert peak < 150 * len(text)


def test_bfloat16_scores_stay_near(scorer, reads):
    exact, made = scorer(), scorer()
    made.model.trunk.to(torch.bfloat16)
    for one, other in zip(exact(ASKED, reads), made(ASKED, reads), strict=True):
        assert other.sentences == pytest.approx(one.sentences, abs=0.1)


def test_rerank_scores_may_be_logits_probabilities_or_none(scorer, reads):
    logit = scorer()(ASKED, reads)[0].rerank_score
    assert scorer(rerank="probability")(ASKED, reads)[0].rerank_score == pytest.approx(
        1 / (1 + math.exp(-logit))
    )
    assert [s.rerank_score for s in scorer(rerank="none")(ASKED, reads)] == [None] * 5


def test_a_query_can_be_changed_before_it_is_read(scorer, reads):
    made = scorer(query_text=lambda text: text.lower().strip("?"))
    assert made(Query("YIELD a?"), reads) == scorer()(Query("yield a"), reads)


@pytest.mark.parametrize("scores", [(0.2, 0.9, 0.5), (0.0, 1.0, 0.5), (1e-6, 0.3, 0.3)])
def test_an_untrained_residual_model_ranks_as_its_prior(
    trunk, tokenizers, passage, fixed_prior, scores
):
    model = ProvenceModel(trunk("bert"), residual=True)
    settings = {"window": 64, "query_tokens": 24, "title_tokens": 8}
    made = ProvenceScorer(model, tokenizers["pieces"], prior=fixed_prior(*scores), **settings)
    read = passage(*("a " * (size * 7) for size in range(1, 20)), title="a")
    (found,) = made(ASKED, [read])
    expected = [scores[row % 3] for row in range(19)]
    assert found.sentences == pytest.approx(np.clip(expected, 1e-6, 1 - 1e-6), abs=1e-7)
    ours = sorted(range(19), key=lambda row: (-found.sentences[row], row))
    assert ours == sorted(range(19), key=lambda row: (-expected[row], row))
    assert found.rerank_score == pytest.approx(max(prior_logits(PassageScores(scores))), abs=1e-5)


def test_a_prior_is_asked_once_a_query_with_all_its_passages(scorer, reads, fixed_prior):
    prior = fixed_prior(0.3)
    made = scorer(prior=prior)
    made.score_batch([ASKED, Query("a")], [reads, reads])
    assert prior.calls == 2
    made(ASKED, [])
    assert prior.calls == 2


def test_a_prior_that_takes_batches_is_asked_once(scorer, reads, fixed_prior):
    class Batched(fixed_prior):
        def score_batch(self, queries, passages):
            return [
                super(Batched, self).__call__(*asked)
                for asked in zip(queries, passages, strict=True)
            ]

        def __call__(self, query, passages):
            raise AssertionError("one by one")

    queries, lists = [ASKED, Query("a")], [reads[:1], reads[2:]]
    together = scorer(prior=Batched(0.3, 0.8)).score_batch(queries, lists)
    assert together == scorer(prior=fixed_prior(0.3, 0.8)).score_batch(queries, lists)


def test_prior_logits_are_finite_log_odds():
    found = prior_logits(PassageScores((0.0, 0.5, 0.8, 1.0)))
    assert found[:3] == pytest.approx([-13.8155, 0.0, math.log(4)], abs=1e-4)
    assert found[3] == pytest.approx(-found[0])


def test_mistakes_are_named(scorer, random_model, tokenizers, fixed_prior):
    def refused(message, **settings):
        with pytest.raises(ValueError, match=message):
            scorer(**settings)

    refused(r"rounding must be one of .*'same_t'.*, got 'max'", rounding="max")
    refused(r"rerank must be one of .*'none'.*, got 'yes'", rerank="yes")
    refused("batch_size must be at least 1, got 0", batch_size=0)
    refused("window must be at most 128, the trunk's positions, got 129", window=129)
    refused("window must be at most 128", window=129, family="xlm-roberta")
    with pytest.raises(ValueError, match="prior must be a scorer, as the model adds one, got None"):
        ProvenceScorer(random_model(residual=True), tokenizers["pieces"], window=96)
    with pytest.raises(ValueError, match="prior must be None, got "):
        ProvenceScorer(random_model(), tokenizers["pieces"], prior=fixed_prior(0.5), window=96)
    with pytest.raises(ValueError, match="passages must be one list a query, got 1 for 2"):
        scorer().score_batch([ASKED, ASKED], [[]])


def test_logits_and_priors_that_do_not_fit_are_refused(scorer, reads, fixed_prior):
    made = scorer()
    with torch.no_grad():
        made.model.token_head.bias.fill_(math.nan)
    with pytest.raises(ValueError, match="logits must be finite"):
        made(ASKED, reads)
    prior = fixed_prior(0.5)
    made = scorer(prior=lambda _, passages: [PassageScores((0.5,)) for _ in passages])
    with pytest.raises(ValueError, match="prior must give one score a sentence, got 1 for 3"):
        made(ASKED, reads[:1])
    assert prior.calls == 0


@pytest.mark.slow
def test_another_process_agrees_to_the_last_bit(scorer, passage):
    script = f"""
import sys
sys.path[:0] = {sys.path!r}
from importlib.util import module_from_spec, spec_from_file_location
import torch
torch.set_num_threads({torch.get_num_threads()})
spec = spec_from_file_location("conftest", {str(Path(__file__).with_name("conftest.py"))!r})
conftest = module_from_spec(spec)
spec.loader.exec_module(conftest)
from pruners.provence import ProvenceModel, ProvenceScorer
from rag.records import Passage, Query, Span
model = ProvenceModel(conftest.build_trunk("bert"))
conftest.draw_heads(model)
tokenizer = conftest.build_tokenizer("pieces")
made = ProvenceScorer(model, tokenizer, window=64, query_tokens=24, title_tokens=8)
read = Passage("p", "d", "yield a. it", Span(0, 11), (Span(0, 9), Span(9, 11)), title="a")
print(made(Query("what?"), [read]))
"""
    said = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    here = scorer()(Query("what?"), [passage("yield a. ", "it", title="a")])
    assert said.strip() == str(here)
