"""Tiny random models and a cheap encoder, built from configurations: nothing is downloaded."""

import hashlib
import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pytest
from hypothesis import settings

# Machines are shared and slow at times: an example's wall time says nothing about the code.
settings.register_profile("dovetail", deadline=None)
settings.load_profile("dovetail")

WORDS = "the assert statement inserts checks into a program yield returns values lazily"


def tiny_config(family, **changes):
    from transformers import AutoConfig

    sizes = {
        "vocab_size": 300,
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 512,
        "sliding_window": None,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
    }
    return AutoConfig.for_model(family, **(sizes | changes))


@pytest.fixture(scope="session")
def tiny_model():
    """Return a function (family, dtype, **config changes) -> random model in evaluation mode."""
    import torch
    from transformers import AutoModelForCausalLM

    def build(family="llama", dtype=torch.float32, seed=0, **changes):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(tiny_config(family, **changes))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(0, 0.2)
        return model.to(dtype).eval()

    return build


@pytest.fixture(scope="session")
def tiny_tokenizer():
    """Byte-level BPE of 300 entries with control tokens <unk>, <s> and </s> as ids 0, 1 and 2."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([WORDS] * 4, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


@pytest.fixture
def identity():
    """Return a function dtype -> identity of a pretended model."""
    from rag.records import ModelIdentity

    return lambda dtype="float32": ModelIdentity("tiny", "weights", "rope", dtype, "tokenizer")


class HashEncoder:
    """Unit vectors from hashes of the texts; counts what it encodes, and can be told to stop."""

    dim = 16

    def __init__(self, fingerprint="f" * 64, name="hash"):
        self.name = name
        self.fingerprint = fingerprint
        self.texts = []
        self.stop_after = None

    def encode_queries(self, texts):
        return self.encode(texts)

    def encode(self, texts, *, progress=None):
        if self.stop_after is not None and len(self.texts) + len(texts) > self.stop_after:
            raise KeyboardInterrupt
        self.texts += texts
        rows = [
            np.frombuffer(hashlib.sha256((self.fingerprint + t).encode()).digest(), np.uint16)
            for t in texts
        ]
        vectors = np.array(rows, np.float32).reshape(-1, self.dim) - 32767.5
        if progress:
            progress(len(texts))
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def encoder():
    return HashEncoder()


@pytest.fixture(scope="session")
def checkpoint(tiny_model, tiny_tokenizer, tmp_path_factory):
    """A folder with a tiny model, with room for the whole prompt, and its tokenizer."""
    folder = tmp_path_factory.mktemp("tiny")
    tiny_model(max_position_embeddings=4096).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


class FakeService:
    """A service on this machine that speaks the protocol of OpenAI, and says what it is told.

    Attributes:
        requests: path, headers and body of each request.
    """

    def __init__(self):
        self.requests = []
        self._script = []
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"service": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def answers(self, *script):
        """Give these in turn, the last one for ever.

        A dict is JSON, a list server-sent events, bytes are sent as they are; a tuple is a status,
        one of these, and headers; a number waits that many seconds first; a function is asked.
        """
        self._script = list(script)

    def says(self, text, finish="stop", usage=(7, 3), pieces=2):
        """Say a text, whole or in pieces as it is asked, by either interface."""
        counted = {"prompt_tokens": usage[0], "completion_tokens": usage[1]} if usage else None

        def answer(path, body):
            chat = path.endswith("/chat/completions")
            parts = [text[at : at + pieces] for at in range(0, len(text), pieces)]
            if not body.get("stream"):
                said = {"message": {"content": text}} if chat else {"text": text}
                told = {"content": [{"token": part, "logprob": -0.1} for part in parts]}
                scored = {"logprobs": told} if chat and body.get("logprobs") else {}
                choice = {**said, "finish_reason": finish, **scored}
                return {"choices": [choice], "usage": counted}
            events = [{"delta": {"content": p}} if chat else {"text": p} for p in parts]
            last = {"delta": {}, "finish_reason": finish} if chat else {"finish_reason": finish}
            chunks = [{"choices": [one]} for one in (*events, last)]
            return [*chunks, {"choices": [], "usage": counted}, "[DONE]"]

        self.answers(answer)

    @property
    def bodies(self):
        return [body for _, _, body in self.requests]

    def next(self, path, headers, body):
        with self._lock:
            self.requests.append((path, headers, body))
            told = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        return told(path, body) if callable(told) else told

    def close(self):
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        told = self.service.next(self.path, dict(self.headers), body)
        if isinstance(told, float):
            time.sleep(told)
            told = self.service.next(self.path, dict(self.headers), body)
        status, told, headers = told if isinstance(told, tuple) else (200, told, {})
        kind = "application/json"
        if isinstance(told, list):
            kind = "text/event-stream"
            lines = [one if isinstance(one, str) else json.dumps(one) for one in told]
            told = "".join(f"data: {line}\n\n" for line in lines).encode()
        elif isinstance(told, dict):
            told = json.dumps(told).encode()
        # Without a length the end of the connection is the end of the answer.
        sent = {"Content-Type": kind, "Connection": "close", **headers}
        try:
            self.send_response(status)
            for name, value in sent.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(told)
        except OSError:  # whoever asked has gone
            pass
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def service():
    made = FakeService()
    yield made
    made.close()
