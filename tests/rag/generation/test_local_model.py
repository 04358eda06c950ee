"""A local model as a text model: exact logits, shared beginnings, stop texts, token texts."""

import copy
import json
import threading
from dataclasses import asdict, replace
from functools import partial

import pytest
import torch
from tokenizers.processors import TemplateProcessing

from kvstore.store import KVStore
from rag.adaptation import shipped
from rag.adaptation.adapter import AdapterConfig, adapted, load_adapter_config, save_adapter
from rag.errors import AdapterError, UnsupportedModelError
from rag.generation import local_model
from rag.generation.cached import GenerateCached
from rag.generation.decoding import Sampling
from rag.generation.engine import READ_BLOCK, Engine
from rag.generation.local_model import LocalModel, _Continuation
from rag.generation.plan import sequential_plan
from rag.models.language_model import LoadedModel, load_language_model
from rag.protocols import Lookup, TextModel
from rag.records import Completion, Passage, Query, Span
from rag.training.lora import DECODER_LINEARS, LoRA, lora_layers

SHOT = "The assert statement inserts checks into a program. " * 6
QUESTIONS = ["Why is yield lazy?", "What does it return?", "What"]


class NoCache:
    """A PassageCache that keeps nothing."""

    def get(self, segment):
        return Lookup(None, "absent")

    def put(self, segment, kv):
        return False


@pytest.fixture
def lm(tiny_model, tiny_tokenizer, identity):
    """Return a function dtype -> local model over a fresh tiny model."""

    def build(dtype=torch.float32, **changes):
        name = str(dtype).removeprefix("torch.")
        return LocalModel(
            LoadedModel(tiny_model(dtype=dtype, **changes), tiny_tokenizer, identity(name))
        )

    return build


def stock_logits(made, ids):
    """Logits of every token by the model's own attention."""
    model = made.engine().model
    model.set_attn_implementation("sdpa")
    with torch.inference_mode():
        logits = model(torch.tensor([ids]), use_cache=False).logits[0]
    model.set_attn_implementation("dovetail_segments")
    return logits


def continued(saying, tokenizer, identity, stop=()):
    """The completion of a model that says these tokens, log-probability -1, -2, ..."""
    from rag.generation.prompt import PromptEncoder

    text = _Continuation(PromptEncoder(tokenizer, identity()), stop)
    for number, token in enumerate(saying, 1):
        if text.push(token, -float(number)):
            break
    return text.completion(len(saying))


def test_is_a_text_model(lm):
    made = lm()
    assert isinstance(made, TextModel)
    assert made.name == "tiny"


def test_the_fingerprint_follows_everything_but_the_name(lm, tiny_tokenizer):
    made = lm()
    for field in asdict(made.identity):
        other = replace(made.identity, **{field: "changed"})
        theirs = LocalModel(LoadedModel(None, tiny_tokenizer, other)).fingerprint
        assert (theirs == made.fingerprint) == (field == "name")


@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_greedy_tokens_and_their_log_probabilities_are_the_models_own(lm, dtype, error):
    made = lm(dtype)
    (found,) = made.complete([SHOT], max_tokens=6)
    ids = list(made.prompt.whole(SHOT))
    for logprob in found.logprobs:
        expected = stock_logits(made, ids)[-1].log_softmax(-1)
        best = int(expected.argmax())
        assert abs(float(expected[best]) - logprob) < error
        ids.append(best)
    generated = tuple(ids[-len(found.tokens) :])
    assert "".join(found.tokens) == made.prompt.text(generated).rstrip("\ufffd")
    assert found.finish == "length"


def test_log_probabilities_are_of_temperature_one_however_tokens_are_drawn(lm):
    made = lm(torch.float64)
    (found,) = made.complete([SHOT], max_tokens=1, temperature=3.0, seed=5)
    table = stock_logits(made, made.prompt.whole(SHOT))[-1].log_softmax(-1)
    assert (table - found.logprobs[0]).abs().min() < 1e-10
    drawn = {
        made.complete([SHOT], max_tokens=1, temperature=3.0, seed=n)[0].tokens for n in range(9)
    }
    assert len(drawn) > 3


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_shared_beginning_is_read_once_and_changes_no_logit(lm, dtype):
    made, fresh = lm(dtype), lm(dtype)
    error = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 0.05}[dtype]
    made.complete([SHOT + QUESTIONS[0]], max_tokens=3)
    for question in QUESTIONS:
        ids = made.prompt.whole(SHOT + question)
        like, shared = made._recent.find(ids)
        assert shared >= READ_BLOCK
        assert shared % READ_BLOCK == 0
        with_it = made.engine().read(ids, like=like, shared=shared).logits
        alone = fresh.engine().read(ids).logits
        assert (with_it - alone).abs().max() <= error * alone.abs().max()
        assert (alone - stock_logits(fresh, ids)[-1]).abs().max() <= max(
            error, 1e-10
        ) * alone.abs().max()


def test_only_what_is_new_runs_through_the_model(lm, monkeypatch):
    made = lm()
    read, run = [], Engine._run
    monkeypatch.setattr(
        Engine,
        "_run",
        lambda self, ids, *rest, **more: (read.append(len(ids)), run(self, ids, *rest, **more))[1],
    )
    made.engine()
    read.clear()
    made.complete([SHOT + question for question in QUESTIONS], max_tokens=1)
    lengths = [len(made.prompt.whole(SHOT + question)) for question in QUESTIONS]
    shared = len(made.prompt.whole(SHOT)) // READ_BLOCK * READ_BLOCK
    assert shared > 0
    assert read == [lengths[0], lengths[1] - shared, lengths[2] - shared]


def test_prompts_in_one_call_are_what_they_are_alone(lm):
    prompts = [SHOT + q for q in QUESTIONS] + ["Lazily", SHOT + QUESTIONS[0]]
    options = {"max_tokens": 5, "temperature": 0.8, "seed": 2}
    together = lm().complete(prompts, **options)
    assert together == [lm().complete([prompt], **options)[0] for prompt in prompts]
    assert together[0] == together[-1]


def test_no_prompt_gives_no_completion(lm):
    assert lm().complete([]) == []


def test_a_remembered_prompt_outlives_neither_its_number_nor_its_bytes(lm, monkeypatch):
    made = lm()
    monkeypatch.setattr(local_model, "REMEMBERED_PROMPTS", 2)
    prompts = [f"{letter} " * 70 for letter in "abc"]
    made.complete(prompts, max_tokens=1)
    known = [made._recent.find(made.prompt.whole(prompt))[1] > 0 for prompt in prompts]
    assert known == [False, True, True]
    monkeypatch.setattr(local_model, "REMEMBERED_BYTES", 0)
    made.complete(prompts, max_tokens=1)
    assert made._recent._kept == []


def test_a_prompt_takes_the_place_of_the_one_it_shares_its_beginning_with(lm):
    made = lm()
    made.complete([SHOT + question for question in QUESTIONS], max_tokens=1)
    made.complete(["b " * 70], max_tokens=1)
    assert len(made._recent._kept) == 2


def test_the_whole_prompt_is_never_taken_over(lm):
    made = lm()
    prompt = "a" * (2 * READ_BLOCK)
    assert len(made.prompt.whole(prompt)) == 2 * READ_BLOCK
    first, second = (made.complete([prompt], max_tokens=2)[0] for _ in range(2))
    assert made._recent.find(made.prompt.whole(prompt))[1] == READ_BLOCK
    assert first == second


def test_tokens_join_to_the_text_and_what_follows_the_stop_text_is_gone(tiny_tokenizer, identity):
    ids = tiny_tokenizer(" A yield.\nMore", add_special_tokens=False)["input_ids"]
    found = continued(ids, tiny_tokenizer, identity, stop=["More", "\n"])
    assert (found.text, found.finish) == ("A yield.", "stop")
    assert "".join(found.tokens) == " A yield."
    assert found.logprobs == tuple(-float(n) for n in range(1, len(found.tokens) + 1))
    whole = continued(ids, tiny_tokenizer, identity)
    assert ("".join(whole.tokens), whole.finish) == (" A yield.\nMore", "length")
    assert len(whole.logprobs) == len(ids)


def test_a_stop_text_inside_a_token_keeps_what_stands_before_it(tiny_tokenizer, identity):
    ids = tiny_tokenizer("the yield", add_special_tokens=False)["input_ids"]
    pieces = [tiny_tokenizer.decode([token]) for token in ids]
    inside = next(piece for piece in pieces if len(piece.strip()) > 1)
    found = continued(ids, tiny_tokenizer, identity, stop=[inside[-1:]])
    row = next(n for n, piece in enumerate(pieces) if inside[-1] in piece)
    assert found.tokens == (*pieces[:row], pieces[row][: pieces[row].index(inside[-1])])
    at_start = continued(ids, tiny_tokenizer, identity, stop=[pieces[1]])
    assert at_start.tokens == (pieces[0],)


def test_the_first_of_several_stop_texts_counts(tiny_tokenizer, identity):
    ids = tiny_tokenizer("one; two. three", add_special_tokens=False)["input_ids"]
    assert continued(ids, tiny_tokenizer, identity, stop=[". t", ";"]).text == "one"
    assert continued(ids, tiny_tokenizer, identity, stop=["wo", "two"]).text == "one;"


def test_a_complete_stop_text_waits_for_one_that_begins_earlier(tiny_tokenizer, identity):
    ids = tiny_tokenizer("xabcdy", add_special_tokens=False)["input_ids"]
    assert len(ids) == 6
    assert continued(ids, tiny_tokenizer, identity, stop=["bc", "abcd"]).text == "x"
    cut = continued(ids[:4], tiny_tokenizer, identity, stop=["bc", "abcd"])
    assert (cut.text, cut.tokens, cut.finish) == ("xa", ("x", "a"), "stop")
    assert len(cut.logprobs) == 2


def test_filters_draw_from_the_tokens_that_they_keep(lm):
    made = lm(torch.float64)
    table = stock_logits(made, made.prompt.whole(SHOT))[-1].log_softmax(-1)
    best = table.topk(3).values
    options = {"max_tokens": 1, "temperature": 5.0, "num_return_sequences": 12}
    ways = [{"top_k": 3}, {"min_p": float((best[2] - best[0]).div(5).exp()) * (1 - 1e-6)}]
    for way in ways:
        drawn = {found.logprobs[0] for found in made.complete([SHOT], **options, **way)}
        assert len(drawn) == 3
        assert all((best - value).abs().min() < 1e-10 for value in drawn)
    greedy = made.complete([SHOT], max_tokens=4)
    assert made.complete([SHOT], max_tokens=4, temperature=2.0, top_p=1e-9) == greedy


def test_several_sequences_are_those_of_their_seeds_and_the_prompt_is_read_once(lm, monkeypatch):
    options = {"max_tokens": 4, "temperature": 1.0, "top_p": 0.9}
    prompts = [SHOT + question for question in QUESTIONS]
    expected = [
        lm().complete([prompt], seed=seed, **options)[0] for prompt in prompts for seed in (3, 4)
    ]
    made, read = lm(), Engine.read
    asked = []
    monkeypatch.setattr(
        Engine, "read", lambda self, ids, **more: (asked.append(ids), read(self, ids, **more))[1]
    )
    assert made.complete(prompts, seed=3, num_return_sequences=2, **options) == expected
    assert len(asked) == len(prompts)


def test_a_character_belongs_to_the_token_that_finishes_it(tiny_tokenizer, identity):
    ids = tiny_tokenizer("é日x", add_special_tokens=False)["input_ids"]
    found = continued(ids, tiny_tokenizer, identity)
    assert found.tokens == ("", "é", "", "", "日", "x")
    cut = continued(ids[:-2], tiny_tokenizer, identity)
    assert (cut.text, cut.tokens) == ("é", ("", "é", "", ""))


def test_an_answer_ends_with_the_end_of_sequence(lm, monkeypatch):
    made = lm()
    monkeypatch.setattr(Engine, "decode_scored", lambda *_: iter([(70, -0.5)]))
    (found,) = made.complete(["a"], max_tokens=4)
    assert found == Completion(made.prompt.text((70,)), (made.prompt.text((70,)),), (-0.5,), "stop")


def test_the_window_ends_a_completion_as_max_tokens_does(lm):
    made = lm(max_position_embeddings=64)
    prompt = "a" * 62
    (found,) = made.complete([prompt], max_tokens=50)
    assert (len(found.tokens), found.finish) == (3, "length")
    with pytest.raises(UnsupportedModelError, match="position 65, the model's window ends at 64"):
        made.complete(["a" * 65])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_log_probabilities_of_continuations_equal_those_of_one_forward(lm, dtype):
    made = lm(dtype)
    continuations = [" yes", " a program returns values lazily", "x", ""]
    found = made.logprobs(SHOT, continuations)
    prompt = made.prompt.whole(SHOT)
    for text, logprob in zip(continuations, found, strict=True):
        ids = made.prompt.ids(text)
        table = stock_logits(made, [*prompt, *ids]).log_softmax(-1).double()
        rows = range(len(prompt) - 1, len(prompt) + len(ids) - 1)
        expected = sum(float(table[row, token]) for row, token in zip(rows, ids, strict=True))
        assert abs(logprob - expected) < (1e-9 if dtype == torch.float64 else 1e-3)
    assert found[-1] == 0.0
    assert found == made.logprobs(SHOT, continuations)


def test_completions_have_the_probability_that_scoring_gives_them(lm):
    made = lm(torch.float64)
    (found,) = made.complete(["a b"], max_tokens=3, temperature=1.0, seed=1)
    state = made.engine().read(made.prompt.whole("a b"))
    ids = [int(t) for t in _replayed(made, "a b", 3)]
    assert torch.allclose(made.engine().score(state, ids), torch.tensor(found.logprobs).double())


def _replayed(made, prompt, count):
    from rag.generation.decoding import Sampling

    state = made.engine().read(made.prompt.whole(prompt))
    return made.engine().decode(state, Sampling(count, 1.0, 1), made.prompt.stop_ids)


def test_control_tokens_in_a_prompt_are_text(lm):
    made = lm()
    assert 2 not in made.prompt.whole("an </s> in a document")


def test_a_prompt_begins_as_the_tokenizer_begins_texts(lm):
    made = lm()
    tokenizer = copy.deepcopy(made.prompt.tokenizer)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    with_bos = LocalModel(LoadedModel(made.engine().model, tokenizer, made.identity))
    (found,) = with_bos.complete(["lazy"], max_tokens=1)
    table = stock_logits(made, [1, *made.prompt.ids("lazy")])[-1].log_softmax(-1)
    assert abs(float(table.max()) - found.logprobs[0]) < 1e-5


def test_a_continuation_past_the_window_is_refused(lm):
    made = lm(max_position_embeddings=64)
    assert made.logprobs("a" * 60, ["b" * 4])[0] < 0
    with pytest.raises(UnsupportedModelError, match="position 65, the model's window ends at 64"):
        made.logprobs("a" * 60, ["b" * 6])


def test_one_engine_a_store_and_all_share_one_lock(lm):
    made = lm()
    first, second = NoCache(), NoCache()
    assert made.engine() is made.engine(None)
    assert made.engine(first) is made.engine(first)
    assert made.engine(first) is not made.engine(second)
    assert made.engine(first).cache is first
    assert made.engine(first)._lock is made.engine()._lock


def test_threads_get_what_they_would_get_alone(lm):
    made, found = lm(), {}
    prompts = [SHOT + q for q in QUESTIONS]
    alone = [lm().complete([prompt], max_tokens=4)[0].text for prompt in prompts]

    def ask(row):
        found[row] = made.complete([prompts[row]], max_tokens=4)[0].text

    threads = [threading.Thread(target=ask, args=(row,)) for row in range(len(prompts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[row] for row in range(len(prompts))] == alone


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda made: made.complete([""]), "a prompt must not be empty, got no token"),
        (lambda made: made.complete(["a"], max_tokens=0), "max_tokens must be at least 1, got 0"),
        (
            lambda made: made.complete(["a"], temperature=-1),
            "temperature must be at least 0, got -1",
        ),
        (lambda made: made.complete(["a"], top_p=0.9), "above 0 for filters to act, got 0 with"),
        (
            lambda made: made.complete(["a"], temperature=1.0, top_p=0),
            r"top_p must be in \(0, 1\], got 0",
        ),
        (
            lambda made: made.complete(["a"], num_return_sequences=2),
            "temperature must be above 0 for 2 sequences, got 0",
        ),
        (
            lambda made: made.complete(["a"], num_return_sequences=0),
            "num_return_sequences must be at least 1, got 0",
        ),
        (lambda made: made.complete(["a"], stop=["\n", ""]), "stop must hold no empty text"),
        (lambda made: made.complete("a"), "prompts and stop must be lists of texts, got one text"),
        (lambda made: made.complete(["a"], stop="\n"), "prompts and stop must be lists of texts"),
        (lambda made: made.logprobs("a", " b"), "continuations must be a list of texts, got one"),
        (lambda made: made.logprobs("", [" b"]), "a prompt must not be empty"),
        (lambda made: made.engine().read((5, 6), shared=64), "shared must be a multiple of 64"),
        (lambda made: made.engine().read((5,) * 70, shared=64), "come from another prompt, got 64"),
    ],
)
def test_refuses_what_makes_no_sense(lm, call, message):
    with pytest.raises(ValueError, match=message):
        call(lm())


def test_opens_a_folder_by_its_name(tiny_model, tiny_tokenizer, tmp_path, monkeypatch):
    monkeypatch.setenv("DOVETAIL_CACHE", str(tmp_path / "cache"))
    tiny_model().save_pretrained(tmp_path / "m")
    tiny_tokenizer.save_pretrained(tmp_path / "m")
    made = LocalModel.open(str(tmp_path / "m"), dtype="float32", placed_bytes=5)
    assert made.name == str(tmp_path / "m")
    assert made.engine().placed.budget == 5
    assert made.complete(["a"], max_tokens=2)[0].finish == "length"


@pytest.fixture
def taught(checkpoint, tmp_path, monkeypatch):
    """Make an adapter of the tiny checkpoint: seed -> its folder."""
    monkeypatch.setenv("DOVETAIL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(shipped, "SHIPPED", tmp_path / "weights")

    def build(folder, seed=0, size=0.3):
        loaded = load_language_model(str(checkpoint), dtype="float32")
        lora = LoRA(2, 4.0, DECODER_LINEARS)
        layers = lora.apply(loaded.model, torch.Generator().manual_seed(seed))
        with torch.no_grad():
            for layer in lora_layers(loaded.model).values():
                layer.lora_b.copy_(size * torch.ones_like(layer.lora_b))
        config = AdapterConfig.of(loaded.identity, lora, layers)
        save_adapter(tmp_path / folder, loaded.model, config)
        return tmp_path / folder

    return build


def test_an_adapter_is_merged_when_a_model_is_opened(checkpoint, taught):
    folder = taught("own")
    opened = partial(LocalModel.open, str(checkpoint), dtype="float32")
    plain, own = opened(), opened(adapter=str(folder))
    assert (plain.adapter, own.adapter) == ("none", str(folder))
    assert own.identity == replace(plain.identity, adapter=load_adapter_config(folder).adapter)
    assert own.fingerprint != plain.fingerprint
    want = LocalModel(adapted(load_language_model(str(checkpoint), dtype="float32"), folder))
    plan = sequential_plan(own.prompt.whole(SHOT))
    read, wanted, came = (one.engine().prefill(plan).logits for one in (own, want, plain))
    assert torch.equal(read, wanted)
    assert (read - came).abs().max() > 0.01


def test_the_shipped_adapter_is_taken_unless_it_is_declined(checkpoint, taught):
    folder = taught("weights/tiny")
    opened = partial(LocalModel.open, str(checkpoint), dtype="float32")
    assert opened().adapter == opened(adapter="auto").adapter == "tiny (shipped)"
    assert opened().identity.adapter == load_adapter_config(folder).adapter
    assert opened(adapter="none").identity.adapter == ""


def test_an_adapter_that_is_none_or_another_models_is_refused(checkpoint, taught, tmp_path):
    folder = taught("own")
    with pytest.raises(AdapterError, match="adapter must be none, auto, or a folder"):
        LocalModel.open(str(checkpoint), adapter=str(tmp_path / "missing"))
    told = json.loads((folder / "config.json").read_text()) | {"base_weights": "b" * 64}
    (folder / "config.json").write_text(json.dumps(told))
    with pytest.raises(AdapterError, match="another model, or another revision of it"):
        LocalModel.open(str(checkpoint), adapter=str(folder))


def test_kv_stored_with_one_adapter_is_a_miss_with_another(checkpoint, taught, tmp_path):
    text = "The yield statement returns values."
    passage = Passage("p", "d", text, Span(0, len(text)), (Span(0, len(text)),))
    choices = ["none", str(taught("a")), str(taught("b", seed=1)), str(taught("zero", size=0.0))]
    with KVStore(tmp_path / "kv") as store:
        seen = []
        for choice in (*choices, *choices):
            lm = LocalModel.open(str(checkpoint), dtype="float32", adapter=choice)
            made = GenerateCached(lm.engine(store), lm.prompt, mode="ape", sampling=Sampling(2))
            answer = made(Query("What?"), [passage])
            assert answer.adapter == lm.identity.adapter
            seen.append((answer.cache.hits, answer.cache.misses))
    assert seen == [(0, 2)] * 4 + [(2, 0)] * 4


def test_prompts_are_completed_by_the_model_as_it_came(checkpoint, taught):
    folder = taught("own")
    plain = LocalModel.open(str(checkpoint), dtype="float32", adapter="none")
    own = LocalModel.open(str(checkpoint), dtype="float32", adapter=str(folder))
    weights = {name: one.clone() for name, one in own.engine().model.named_parameters()}
    prompts = [f"{SHOT}{question}" for question in QUESTIONS]
    for _ in range(2):
        assert own.complete(prompts, max_tokens=8) == plain.complete(prompts, max_tokens=8)
        assert own.logprobs(prompts[0], [" yes", " no"]) == plain.logprobs(
            prompts[0], [" yes", " no"]
        )
    after = dict(own.engine().model.named_parameters())
    assert all(torch.equal(weights[name], after[name]) for name in weights)
    plan = sequential_plan(own.prompt.whole(prompts[0]))
    read = own.engine().prefill(plan).logits
    assert not torch.allclose(read, plain.engine().prefill(plan).logits, atol=1e-3)


def test_a_failed_completion_leaves_the_adapter_in_place(checkpoint, taught):
    own = LocalModel.open(str(checkpoint), dtype="float32", adapter=str(taught("own")))
    weights = {name: one.clone() for name, one in own.engine().model.named_parameters()}
    with pytest.raises(UnsupportedModelError):
        own.complete([SHOT * 400])
    after = dict(own.engine().model.named_parameters())
    assert all(torch.equal(weights[name], after[name]) for name in weights)
