"""Model families with tiny random models, and dense forwards that say what the engine must give."""

import copy

import pytest
import torch

from rag.records import ModelIdentity, Segment

LITERAL = "literal_attention"
NARROW = {"sliding_window": 16}
ALTERNATING = ["sliding_attention", "full_attention", "sliding_attention"]
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
SCALED = {
    "linear": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0},
    "llama3": {
        "rope_type": "llama3",
        "rope_theta": 1e4,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
    "yarn": {
        "rope_type": "yarn",
        "rope_theta": 1e4,
        "factor": 8.0,
        "original_max_position_embeddings": 64,
    },
    "dynamic": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0},
}
LONG = {
    "original_max_position_embeddings": 256,
    "rope_parameters": {
        "rope_type": "longrope",
        "rope_theta": 1e4,
        "short_factor": [1.0, 1.5, 2.0, 3.0],
        "long_factor": [2.0, 4.0, 6.0, 9.0],
    },
}

FAMILIES = {
    "llama": {},
    "mistral": {},
    "qwen2": {},
    "qwen3": {},
    "gemma": {},
    "gemma2": NARROW | {"attn_logit_softcapping": 2.0, "query_pre_attn_scalar": 8},
    "gemma3_text": NARROW | {"layer_types": ALTERNATING, "query_pre_attn_scalar": 8},
    "phi": {},
    "phi-qk_layernorm": {"qk_layernorm": True},
    "phi3": {},
    "phi3-longrope": LONG | {"max_position_embeddings": 256},
    "smollm3": {"no_rope_layers": [1, 0, 1]},
    "granite": {"attention_multiplier": 0.3, "residual_multiplier": 0.7},
    "olmo2": {},
    "cohere": {},
    "cohere-qk_norm": {"use_qk_norm": True},
    "glm4": {},
    "gpt_oss": NARROW | EXPERTS | {"layer_types": ALTERNATING},
    # Beyond the fourteen of the design note, and rotary scaling.
    "cohere2": NARROW | {"layer_types": ALTERNATING},
    "exaone4": NARROW | {"sliding_window_pattern": 2, "layer_types": ALTERNATING},
    "olmo3": NARROW | {"layer_types": ALTERNATING},
    "mixtral": EXPERTS,
    "qwen3_moe": EXPERTS | {"num_experts": 4, "moe_intermediate_size": 16},
    "llama-linear": {"rope_parameters": SCALED["linear"]},
    "llama-llama3": {"rope_parameters": SCALED["llama3"]},
    "llama-yarn": {"rope_parameters": SCALED["yarn"]},
    "llama-dynamic": {"rope_parameters": SCALED["dynamic"]},
}
WINDOWED = {
    "mistral": NARROW,
    "phi3": NARROW,
    "qwen2": NARROW | {"use_sliding_window": True, "layer_types": ALTERNATING},
    "smollm3": NARROW
    | {"use_sliding_window": True, "layer_types": ALTERNATING, "no_rope_layers": [1, 0, 1]},
    **{
        name: FAMILIES[name]
        for name in ("gemma2", "gemma3_text", "gpt_oss", "cohere2", "exaone4", "olmo3")
    },
}


class Families:
    """Builds engines over tiny random models, each once a session, and their oracles."""

    def __init__(self, tiny_model):
        self._tiny_model = tiny_model
        self._engines = {}

    def model(self, name, dtype=torch.float32, **changes):
        """A fresh model; `name` is a family, or a family and a variant."""
        known = FAMILIES.get(name, {})
        model = self._tiny_model(name.split("-")[0], dtype, **copy.deepcopy(known | changes))
        with torch.no_grad():
            for parameter in model.parameters():
                # Norms, biases and sinks that are all alike would hide mistakes.
                if parameter.ndim == 1:
                    noise = torch.Generator().manual_seed(parameter.numel())
                    parameter.add_(0.2 * torch.randn(parameter.shape, generator=noise).to(dtype))
        if dtype == torch.float64 and model._can_set_experts_implementation():
            model.set_experts_implementation("eager")
        return model

    def engine(self, name, dtype=torch.float32, **changes):
        """An engine of a family; the same one for the same arguments."""
        from rag.generation.engine import Engine

        key = name, dtype, repr(changes)
        if key not in self._engines:
            identity = ModelIdentity("tiny", "w", "r", str(dtype).removeprefix("torch."), "t")
            self._engines[key] = Engine(self.model(name, dtype, **changes), identity)
        return self._engines[key]

    def stock_forward(self, engine, ids, positions, visible, window=None):
        """Logits of every token under dense masks, in the model's own forward pass.

        By the model's own eager attention in float32. Its softmax is float32 even in a float64
        model; there the oracle is attention written out below.

        Args:
            engine: holds the model.
            ids: tokens.
            positions: of the tokens.
            visible: bool (tokens, tokens): what each sees where no window slides.
            window: in place of the configuration's own.
        """
        model, dtype = engine.model, engine.model.dtype
        where = torch.tensor(positions)
        width = window or getattr(model.config, "sliding_window", None)
        near = visible if width is None else visible & (where[:, None] - where < width)
        full, sliding = (
            torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, torch.finfo(dtype).min)[
                None, None
            ]
            for seen in (visible, near)
        )
        types = getattr(model.config, "layer_types", None)
        mask = {"full_attention": full, "sliding_attention": sliding} if types else sliding
        return self.own_forward(
            engine,
            LITERAL if dtype == torch.float64 else "eager",
            ids,
            position_ids=torch.tensor([positions]),
            attention_mask=mask,
            use_cache=False,
        )

    def own_forward(self, engine, attention, ids, **options):
        """Logits of every token by an attention implementation of transformers, (tokens, vocab)."""
        engine.model.set_attn_implementation(attention)
        try:
            with torch.inference_mode():
                return engine.model(torch.tensor([ids]), **options).logits[0]
        finally:
            engine.model.set_attn_implementation("dovetail_segments")

    def dense_oracle(self, engine, plan, extra=(), **options):
        """Logits of every token of a plan laid out in one row, with the tokens that were generated.

        Prefix and passages see the prefix and themselves; a target also its sources; the question
        sees all that the plan says it reads.
        """
        parts = [plan.prefix, *plan.context, *(target.placed for target in plan.targets)]
        sees = [{place} for place in range(len(parts))]
        for place, target in enumerate(plan.targets, 1 + len(plan.context)):
            sees[place] |= {1 + source for source in target.sources}
        sees.append({1 + place for place in plan.read_parts} | {len(parts)})
        ids, positions, owner = [], [], []
        for number, part in enumerate(parts):
            ids += part.token_ids
            positions += part.positions
            owner += [number] * len(part)
        asked = [*plan.prefill, *extra]
        ids += asked
        positions += range(plan.prefill_start, plan.prefill_start + len(asked))
        owner += [len(parts)] * len(asked)
        visible = torch.tensor(
            [
                [j <= i and other in sees[one] | {0} for j, other in enumerate(owner)]
                for i, one in enumerate(owner)
            ]
        )
        return self.stock_forward(engine, ids, positions, visible, **options)

    def segments(self, engine, lengths=(4, 9, 6, 13)):
        """A prefix and passages with it as parent, of these lengths."""
        prefix = Segment(engine.identity, "prefix", tokens(lengths[0]), name="prefix")
        passages = tuple(
            Segment(engine.identity, "passage", tokens(n, seed=i + 1), (prefix,), name=f"p{i}")
            for i, n in enumerate(lengths[1:])
        )
        return prefix, passages

    @staticmethod
    def tokens(count, seed=0):
        return tokens(count, seed)


def tokens(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(3, 300, (count,), generator=generator).tolist())


def literal_attention(
    module,
    query,
    key,
    value,
    attention_mask,
    scaling=None,
    dropout=0.0,
    softcap=None,
    s_aux=None,
    **_,
):
    """Attention as its definition reads: scaled, capped, masked; a sink is a key without value."""
    repeat = query.shape[1] // key.shape[1]
    logits = query @ key.repeat_interleave(repeat, 1).transpose(2, 3) * scaling
    if softcap is not None:
        logits = softcap * (logits / softcap).tanh()
    weights = (logits + attention_mask).exp()
    total = weights.sum(-1, keepdim=True)
    if s_aux is not None:
        total = total + s_aux.exp().view(1, -1, 1, 1)
    out = weights / total @ value.repeat_interleave(repeat, 1)
    return out.transpose(1, 2), None


@pytest.fixture(scope="session")
def families(tiny_model):
    from transformers import AttentionInterface

    AttentionInterface.register(LITERAL, literal_attention)
    return Families(tiny_model)


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(params=WINDOWED)
def windowed(request):
    """The name of a family, and changes that make a short window slide in some of its layers."""
    return request.param, WINDOWED[request.param]


@pytest.fixture(scope="session")
def scaled():
    """Families and configurations by kind of rotary scaling."""
    llamas = {kind: ("llama", {"rope_parameters": SCALED[kind]}) for kind in SCALED}
    return llamas | {"longrope": ("phi3", LONG)}
