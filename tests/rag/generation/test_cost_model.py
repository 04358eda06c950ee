"""The cost model: its formulas by hand and by definition, what it measures, what it remembers."""

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kvstore.store import KVStore
from rag.generation.cost_model import MEMORY, CostModel
from rag.generation.engine import Engine
from rag.protocols import Lookup
from rag.records import ModelIdentity, Segment

IDENTITY = ModelIdentity("tiny", "weights", "rope", "float32", "tokenizer")


def by_definition(c, n, kept, k, r):
    """Read the table of the design literally, a line a row."""
    p, w, b, rho = (
        c.prefill_tokens_per_s, c.load_bytes_per_s, c.kv_bytes_per_token, c.rotation_s_per_token
    )  # fmt: skip
    decode = c.decode_tokens * c.decode_s_per_row
    s = kept / n
    loaded = n if c.loads_whole else s * n
    return {
        "text": s * n / p + decode * s * n,
        "rows": loaded * b / w + rho * s * n + k * c.span_s + decode * s * n,
        "full": n * b / w + rho * n + c.span_s + decode * n,
        "blend": loaded * b / w + rho * s * n + k * c.span_s + decode * s * n + r * s * n / p,
    }


def test_a_hand_worked_case():
    # 100 tokens/s prefilled; 1,000 tokens/s loaded; 10 ms a token to rotate; 1 ms a row decoded.
    cost = CostModel(100, 20_000, 20, 0.01, 0.001, decode_tokens=2)
    found = cost.seconds(50, 10, 1, 0.5)
    assert cost.load_ratio == pytest.approx(0.1)
    assert found == pytest.approx(
        {
            "text": 0.1 + 0.02,
            "rows": 0.05 + 0.1 + 0.02,
            "full": 0.05 + 0.5 + 0.1,
            "blend": 0.05 + 0.1 + 0.02 + 0.05,
        }
    )
    assert "blend" not in cost.seconds(50, 10)


POSITIVE = st.floats(1e-3, 1e9)
SMALL = st.floats(0, 1e-2)


@given(
    rates=st.tuples(POSITIVE, POSITIVE, POSITIVE),
    times=st.tuples(SMALL, SMALL, SMALL),
    decode=st.integers(0, 99),
    whole=st.booleans(),
    n=st.integers(1, 500),
    share=st.floats(0, 1),
    k=st.integers(1, 9),
    r=st.floats(0.01, 1),
)
def test_matches_the_definition(rates, times, decode, whole, n, share, k, r):
    cost = CostModel(*rates, *times, decode_tokens=decode, loads_whole=whole)
    kept = int(share * n)
    found = cost.seconds(n, kept, k, r)
    assert found == pytest.approx(by_definition(cost, n, kept, k, r), rel=1e-9)
    if cost.load_ratio >= 1:
        assert found["rows"] >= found["text"] * (1 - 1e-9)


@pytest.mark.parametrize("name", ["prefill_tokens_per_s", "load_bytes_per_s", "kv_bytes_per_token"])
def test_rates_are_above_zero(name):
    rates = {"prefill_tokens_per_s": 1, "load_bytes_per_s": 1, "kv_bytes_per_token": 1, name: 0}
    with pytest.raises(ValueError, match=f"{name} must be above 0, got 0"):
        CostModel(**rates)


@pytest.mark.parametrize(
    "name", ["rotation_s_per_token", "decode_s_per_row", "span_s", "decode_tokens"]
)
def test_times_are_not_negative(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 0, got -1"):
        CostModel(1, 1, 1, **{name: -1})


class SlowCache:
    """A store that says how often it is asked, and from where it reads."""

    def __init__(self, reason="hit (disk)", folder=None):
        self.kept, self.asked, self.reason, self.folder = {}, 0, reason, folder

    def get(self, segment):
        self.asked += 1
        kv = self.kept.get(segment)
        return Lookup(None, "absent") if kv is None else Lookup(kv, self.reason, kv.nbytes)

    def put(self, segment, kv):
        self.kept[segment] = kv
        return True


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DOVETAIL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def stored_in(cache, engine):
    segment = Segment(IDENTITY, "passage", tuple(range(20, 60)), name="p")
    cache.put(segment, engine.encode(segment))
    return segment


def test_a_probe_measures_and_is_remembered(tiny_model, home):
    cache = SlowCache()
    engine = Engine(tiny_model(), IDENTITY, cache)
    segment = stored_in(cache, engine)
    made = CostModel.probe(engine, segment)
    assert made.prefill_tokens_per_s > 0
    assert made.kv_bytes_per_token == engine.kv_bytes_per_token == 2 * 3 * 2 * 8 * 4
    assert made.rotation_s_per_token > 0
    assert cache.asked == 1
    assert list(cache.kept) == [segment], "nothing is put into the store"
    assert CostModel.probe(engine, segment) == made
    assert cache.asked == 1
    other = Engine(tiny_model(seed=1), ModelIdentity("x", "others", "", "float32", ""), cache)
    CostModel.probe(other)
    assert len(json.loads((home / MEMORY).read_text())) == 1, "no load was timed for it"


def test_a_model_by_another_name_is_the_same_and_other_weights_are_not(tiny_model, home):
    cache = SlowCache()
    engine = Engine(tiny_model(), IDENTITY, cache)
    segment = stored_in(cache, engine)
    made = CostModel.probe(engine, segment)
    known = json.loads((home / MEMORY).read_text())
    (home / MEMORY).write_text(
        json.dumps({key: {**value, "decode_tokens": 99} for key, value in known.items()})
    )
    same = Engine(engine.model, replace(IDENTITY, name="other"), cache)
    assert CostModel.probe(same).decode_tokens == 99
    other = Engine(engine.model, replace(IDENTITY, weights="changed"), cache)
    assert CostModel.probe(other).decode_tokens == made.decode_tokens != 99


@pytest.mark.parametrize(
    "damage", ["{", "[]", '{"KEY": 3}', '{"KEY": {"wrong": 1}}', '{"KEY": {}}']
)
def test_a_damaged_memory_is_measured_anew(tiny_model, home, damage):
    cache = SlowCache()
    engine = Engine(tiny_model(), IDENTITY, cache)
    segment = stored_in(cache, engine)
    CostModel.probe(engine, segment)
    (key,) = json.loads((home / MEMORY).read_text())
    (home / MEMORY).write_text(damage.replace("KEY", key))
    assert CostModel.probe(engine, segment).prefill_tokens_per_s > 0
    assert cache.asked == 2
    assert json.loads((home / MEMORY).read_text())[key]["prefill_tokens_per_s"] > 0


@pytest.mark.parametrize(("folder", "remembered"), [(None, True), ("somewhere", False)])
def test_a_load_from_ram_is_remembered_only_of_a_store_without_a_disk(
    tiny_model, home, folder, remembered
):
    cache = SlowCache("hit (ram)", folder)
    engine = Engine(tiny_model(), IDENTITY, cache)
    CostModel.probe(engine, stored_in(cache, engine))
    assert (home / MEMORY).exists() == remembered


def test_what_is_not_to_be_remembered_is_neither_read_nor_written(tiny_model, home):
    engine = Engine(tiny_model(), IDENTITY, SlowCache())
    segment = stored_in(engine.cache, engine)
    CostModel.probe(engine, segment, remember=False)
    assert not (home / MEMORY).exists()


def test_a_window_with_little_room_is_enough(tiny_model, home):
    model = tiny_model(max_position_embeddings=40, dtype=torch.float64)
    engine = Engine(model, ModelIdentity("n", "w", "", "float64", ""), KVStore(None))
    assert CostModel.probe(engine).prefill_tokens_per_s > 0
