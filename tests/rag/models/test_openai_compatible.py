"""Models behind a service: what is sent, what is read, what goes wrong, and where the key is not."""

import math
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from rag.errors import RemoteModelError
from rag.models.http_service import _lines, checked_url
from rag.models.openai_compatible import OpenAICompatibleModel
from rag.models.reply import Reply, StreamingModel
from rag.protocols import TextModel
from rag.records import TokenUse

KEY = "sk-very-secret"


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def waits(monkeypatch):
    """Seconds that were waited between tries; no time passes."""
    waited = []
    monkeypatch.setattr("rag.models.http_service.time.sleep", waited.append)
    return waited


@pytest.fixture
def model(service):
    """Return a function (**options) -> model behind the service; closed at the end."""
    made = []

    def build(name="tiny", url=None, **options):
        made.append(OpenAICompatibleModel(name, url or service.url, **options))
        return made[-1]

    yield build
    for one in made:
        one.close()
        one.close()


def chat(text, finish="stop", **more):
    return {"choices": [{"message": {"content": text}, "finish_reason": finish}], **more}


def delta(text, finish=None, **more):
    return {"choices": [{"delta": {"content": text}, "finish_reason": finish, **more}]}


def failure(call, *arguments, **options):
    with pytest.raises(RemoteModelError) as failed:
        call(*arguments, **options)
    return str(failed.value)


# --- what is asked and said -----------------------------------------------------------------


def test_a_chat_service_gets_the_prompt_as_one_message_and_its_reply_comes_back(service, model):
    service.answers(chat(" Blue. ", usage={"prompt_tokens": 9, "completion_tokens": 2}))
    (found,) = model().complete(["Which?"], max_tokens=5, stop=["\n"], temperature=0.5, seed=3)
    assert found == Reply("Blue.", finish="stop", use=TokenUse(9, 0, 9, 2))
    ((path, headers, body),) = service.requests
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert body == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "Which?"}],
        "max_tokens": 5,
        "stop": ["\n"],
        "temperature": 0.5,
        "seed": 3,
        "logprobs": True,
    }


def test_a_completion_service_gets_the_prompt_as_it_is(service, model):
    service.says(" blue", usage=None)
    (found,) = model(api="completions").complete(["Sky:"])
    assert found == Reply("blue", finish="stop")
    ((path, _, body),) = service.requests
    assert path == "/v1/completions"
    told = {"model": "tiny", "prompt": "Sky:", "max_tokens": 64, "temperature": 0.0}
    assert body == {**told, "logprobs": 1}


def test_a_seed_is_sent_where_it_means_something(service, model):
    service.says("x")
    for options in ({}, {"seed": 4}, {"temperature": 0.1}):
        model().complete(["p"], **options)
    assert [body.get("seed") for body in service.bodies] == [None, 4, 0]


def test_fields_can_be_added_and_left_out(service, model):
    service.says("x")
    extra = {"max_tokens": None, "max_completion_tokens": 9, "stream_options": None}
    more = model(extra_body=extra)
    more.complete(["p"])
    list(more.stream("p"))
    whole, pieces = service.bodies
    assert "max_tokens" not in whole
    assert whole["max_completion_tokens"] == 9
    assert pieces["stream"] is True
    assert "stream_options" not in pieces


@pytest.mark.parametrize("api", ["chat", "completions"])
@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("stop", "stop"),
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("length", "length"),
        ("max_tokens", "length"),
        ("content_filter", ""),
        (None, ""),
    ],
)
def test_finish_reasons(service, model, reason, finish, api):
    service.says("text", finish=reason)
    assert model(api=api).complete(["p"])[0].finish == finish


def test_a_reply_ends_before_the_first_stop_text_even_if_the_service_ignores_it(service, model):
    service.says("one. two; three", finish="length")
    stop = [";", ".", "?", "!", "|"]
    (found,) = model().complete(["p"], stop=stop)
    assert (found.text, found.finish) == ("one", "stop")
    assert service.bodies[0]["stop"] == stop[:4]


def test_a_reply_without_a_text_is_an_empty_one(service, model):
    service.answers(chat(None, "length"))
    assert model().complete(["p"]) == [Reply("", finish="length")]


def test_many_prompts_keep_their_order_and_go_together(service, model):
    together = threading.Barrier(3, timeout=10)

    def echo(path, body):
        together.wait()
        return chat(body["messages"][0]["content"].upper())

    service.answers(echo)
    found = model(concurrency=3).complete(["a", "b", "c"])
    assert [one.text for one in found] == ["A", "B", "C"]
    assert model().complete([]) == []


def test_no_more_prompts_are_asked_at_once_than_allowed(service, model):
    under_way, most = [], []

    def echo(path, body):
        under_way.append(1)
        most.append(len(under_way))
        time.sleep(0.02)
        under_way.pop()
        return chat("x")

    service.answers(echo)
    model(concurrency=2).complete(["p"] * 6)
    assert max(most) <= 2
    assert len(service.requests) == 6


def test_one_prompt_that_fails_fails_the_call(service, model):
    service.answers(
        lambda path, body: (
            (400, {"error": "no"}, {}) if body["messages"][0]["content"] == "b" else chat("x")
        )
    )
    assert failure(model().complete, ["a", "b", "c"]).endswith("answered 400: no")


def test_log_probabilities_of_tokens_come_where_the_service_tells_them(service, model):
    tokens = [("Bl", -0.5), ("ue", -0.25), (". No", -2.0)]
    told = {"content": [{"token": token, "logprob": value} for token, value in tokens]}
    said = chat("Blue. No")
    said["choices"][0]["logprobs"] = told
    service.answers(said)
    (found,) = model().complete(["p"], stop=[" No"])
    assert (found.text, found.tokens, found.logprobs) == (
        "Blue.",
        ("Bl", "ue", "."),
        (-0.5, -0.25, -2.0),
    )
    assert service.bodies[0]["logprobs"] is True
    said["choices"][0]["message"]["content"] = "Blüe. No"
    assert model().complete(["p"])[0].tokens == ()
    model(token_logprobs=False).complete(["p"])
    assert "logprobs" not in service.bodies[-1]


@pytest.mark.parametrize("status", [400, 403, 422])
def test_a_service_that_refuses_log_probabilities_is_asked_without(service, model, status):
    def strict(path, body):
        refused = (status, {"error": {"message": "Unknown field: logprobs"}}, {})
        return refused if "logprobs" in body else chat("Blue")

    service.answers(strict)
    asked = model()
    assert asked.complete(["p"])[0].text == asked.complete(["q"])[0].text == "Blue"
    assert ["logprobs" in body for body in service.bodies] == [True, False, False]
    service.answers((status, {"error": "another reason"}, {}))
    assert failure(model().complete, ["p"]).endswith(f"answered {status}: another reason")


def test_completions_tell_their_log_probabilities_in_another_form(service, model):
    told = {"tokens": [" Bl", "ue"], "token_logprobs": [None, -0.25]}
    service.answers({"choices": [{"text": " Blue", "logprobs": told, "finish_reason": "stop"}]})
    (found,) = model(api="completions").complete(["p"])
    assert (found.text, found.tokens, found.logprobs) == ("Blue", (" Bl", "ue"), (0.0, -0.25))
    assert service.bodies[0]["logprobs"] == 1


def test_a_lone_surrogate_of_a_damaged_document_is_no_fault(service, model):
    service.says("x")
    model().complete(["a\udc80b"])
    assert service.bodies[0]["messages"][0]["content"] == "a\udc80b"


# --- streams --------------------------------------------------------------------------------


@pytest.mark.parametrize("api", ["chat", "completions"])
@pytest.mark.parametrize("pieces", [1, 3, 100])
def test_pieces_join_to_the_reply(service, model, api, pieces):
    service.says(" A blue\nsky. ", pieces=pieces)
    *shown, last = model(api=api).stream("p", stop=["\n\n"])
    assert "".join(shown) == " A blue\nsky. "
    assert last == Reply("A blue\nsky.", finish="stop", use=TokenUse(7, 0, 7, 3))
    assert service.bodies[0]["stream_options"] == {"include_usage": True}


def test_what_may_begin_a_stop_text_is_held_back(service, model):
    service.answers(
        [delta("ab\n"), delta("\nc"), delta("d\n"), delta("\nEND"), delta("more"), "[DONE]"]
    )
    *shown, last = model().stream("p", stop=["\n\nEND"])
    assert shown == ["ab", "\n\nc", "d"]
    assert last == Reply("ab\n\ncd", finish="stop")


def test_a_stream_is_read_whatever_separators_its_text_and_lines_hold(service, model):
    text = "one\u2028two\x85three é"
    raw = ": a comment\r\nevent: x\r\n"
    raw += f'data:{{"choices":[{{"delta":{{"content":"{text}"}}}}]}}\r\n\r\ndata: [DONE]\r\n'
    service.answers((200, raw.encode(), {"Content-Type": "text/event-stream"}))
    *shown, last = model().stream("p")
    assert "".join(shown) == last.text == text


def test_lines_are_put_together_from_whatever_comes_at_once():
    assert list(_lines(iter([b"a", b"b\nc", b"", b"\n\nd"]))) == [b"ab", b"c", b"", b"d"]


def test_a_service_that_does_not_stream_answers_all_the_same(service, model):
    service.answers(chat("Blue."))
    assert list(model().stream("p")) == ["Blue.", Reply("Blue.", finish="stop")]


@pytest.mark.parametrize(
    ("events", "what"),
    [
        ([delta("Bl")], "broke off before the reply was complete"),
        ([delta("Bl"), {"error": {"message": "overloaded"}}], "answered an error: overloaded"),
        ([delta("Bl"), "{nonsense"], "answered what is no JSON: {nonsense"),
        (["[DONE]"], "answered without choices"),
        ([{"choices": []}, "[DONE]"], "answered without choices"),
        (["[1]"], "answered no JSON object: [1]"),
    ],
)
def test_a_stream_that_breaks_is_an_error(service, model, events, what):
    service.answers(events)
    assert failure(lambda: list(model().stream("p"))) == f"{service.url}/chat/completions {what}"


def test_a_stream_that_says_why_it_ended_is_complete_without_its_last_line(service, model):
    service.answers([delta("Blue", "stop")])
    assert list(model().stream("p"))[-1] == Reply("Blue", finish="stop")


def test_a_connection_that_breaks_in_a_stream_is_an_error(service, model):
    cut = (200, b'data: {"choices": []}\n', {"Content-Length": "999", "Content-Type": "text/x"})
    service.answers(cut)
    assert "/chat/completions broke off: " in failure(lambda: list(model().stream("p")))


def test_a_stream_is_tried_again_before_it_begins(service, model, waits):
    service.answers((503, {}, {}), [delta("Blue", "stop"), "[DONE]"])
    assert list(model().stream("p"))[-1].text == "Blue"
    assert waits == [0.5]


# --- what goes wrong ------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_busy_service_is_asked_again(service, model, waits, status):
    service.answers((status, {}, {}), (status, {}, {}), chat("x"))
    assert model().complete(["p"])[0].text == "x"
    assert waits == [0.5, 1.0]


def test_it_waits_as_long_as_the_service_asks_but_not_for_ever(service, model, waits):
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=8), usegmt=True)
    past = format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True)
    told = ["7", soon, past, "9999", "later"]
    script = [(429, {}, {"Retry-After": one}) for one in told]
    service.answers(*script, chat("x"))
    model(retries=5).complete(["p"])
    assert waits[0] == 7.0
    assert 5 < waits[1] <= 8
    assert waits[2:] == [0.0, 30.0, 8.0]


def test_in_the_end_it_gives_up(service, model, waits):
    service.answers((500, {"error": {"message": "out of\nmemory"}}, {}))
    assert failure(model(retries=2).complete, ["p"]) == (
        f"{service.url}/chat/completions answered 500: out of memory"
    )
    assert (len(service.requests), waits) == (3, [0.5, 1.0])


@pytest.mark.parametrize("status", [400, 401, 404, 307])
def test_a_refusal_is_final(service, model, waits, status):
    service.answers((status, {"message": "no such model"}, {"Location": "https://elsewhere.org"}))
    assert failure(model().complete, ["p"]).endswith(f"answered {status}: no such model")
    assert (len(service.requests), waits) == (1, [])


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (b"<html>gateway\x1b[2J</html>", "answered what is no JSON: <html>gateway [2J</html>"),
        (b"", "answered what is no JSON: nothing"),
        (b"[]", "answered no JSON object: []"),
        ({}, "answered without choices"),
        ({"choices": []}, "answered without choices"),
        ({"choices": ["x"]}, "answered without choices"),
        ({"error": "no"}, "answered an error: no"),
    ],
)
def test_an_answer_that_is_none_is_an_error(service, model, answer, what):
    service.answers(answer)
    assert failure(model().complete, ["p"]) == f"{service.url}/chat/completions {what}"


def test_a_long_message_is_cut(service, model):
    service.answers((400, {"detail": "long " * 1000}, {}))
    assert len(failure(model().complete, ["p"])) < 400


def test_a_port_that_nobody_listens_on_is_an_error_after_all_tries(model, waits):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    said = failure(model(url=url, retries=2).complete, ["p"])
    assert said.startswith(f"{url}/chat/completions cannot be reached: ")
    assert waits == [0.5, 1.0]


def test_a_service_that_does_not_answer_in_time_is_asked_once(service, model, waits, monkeypatch):
    monkeypatch.setattr("rag.models.http_service.time.sleep", time.sleep)
    held = threading.Event()
    service.answers(lambda path, body: held.wait(10) and chat("x"))
    said = failure(model(timeout_s=0.1).complete, ["p"])
    held.set()
    assert said.endswith("/chat/completions did not answer within 0.1 s (timeout_s)")
    assert len(service.requests) == 1


# --- the key --------------------------------------------------------------------------------


def test_the_key_is_sent_in_its_header_and_shown_nowhere(service, model):
    service.answers((401, {"error": {"message": f"wrong key {KEY}"}}, {}))
    asked = model()
    with pytest.raises(RemoteModelError, match=r"answered 401: wrong key \*\*\*$"):
        asked.complete(["p"])
    with pytest.raises(RemoteModelError) as failed:
        list(asked.stream("p"))
    seen = [str(failed.value), repr(failed.value), repr(asked), asked.name, asked.fingerprint]
    assert KEY not in "".join([*seen, *asked.notes, repr(vars(asked)), str(service.bodies)])
    assert KEY not in repr(vars(asked._service)) + repr(asked._service._client.headers)


def test_another_variable_may_hold_the_key_and_none_need_to(service, model, monkeypatch):
    service.says("x")
    monkeypatch.setenv("MINE", " k-2\n")
    model(api_key_env="MINE").complete(["p"])
    model(api_key_env="UNSET_VARIABLE").complete(["p"])
    sent = [headers.get("Authorization") for _, headers, _ in service.requests]
    assert sent == ["Bearer k-2", None]


def test_a_key_instead_of_a_variable_is_refused_without_showing_it(model):
    with pytest.raises(ValueError, match="must be the name of an environment variable") as wrong:
        model(api_key_env=KEY)
    assert KEY not in str(wrong.value)


@pytest.mark.parametrize("bad", ["k\ney", "k y", "schlüssel"])
def test_a_key_that_is_no_header_is_refused_without_showing_it(model, monkeypatch, bad):
    monkeypatch.setenv("OPENAI_API_KEY", bad)
    with pytest.raises(ValueError, match="OPENAI_API_KEY must hold a key") as wrong:
        model().complete(["p"])
    assert bad not in str(wrong.value)


# --- where it may be ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example.com/v1",
        "http://localhost:8000/v1",
        "http://127.0.0.1/v1/",
        "http://[::1]:8000",
        "http://192.168.1.4:8000/v1",
        "http://vllm:8000/v1",
        "http://models.internal/v1",
        "HTTPS://API.example.com/v1",
    ],
)
def test_urls_that_are_allowed(url):
    assert checked_url(url) == url.rstrip("/")


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("http://api.example.com/v1", "must be https outside this machine and its network"),
        ("http://8.8.8.8/v1", "must be https outside this machine and its network"),
        ("http://localhost.example.com/v1", "must be https outside"),
        ("http://[::ffff:8.8.8.8]/v1", "must be https outside"),
        ("ftp://localhost/v1", "must be http://… or https://…, got 'ftp://localhost/v1'"),
        ("localhost:8000", "must be http://… or https://…"),
        ("https:///v1", "must be http://… or https://…"),
        ("", "must be http://… or https://…, got ''"),
        ("https://a.org/v1?key=x", "must end with its path"),
        ("https://a.org/v1#m", "must end with its path"),
        ("https://a.org:port/v1", "is no URL"),
    ],
)
def test_urls_that_are_not(url, what):
    with pytest.raises(ValueError, match=r"^base_url ") as wrong:
        checked_url(url)
    assert what in str(wrong.value)


def test_plain_http_to_anybody_has_to_be_allowed():
    assert checked_url("http://api.example.com/v1", insecure_http=True)


def test_a_password_in_a_url_is_refused_without_showing_it():
    with pytest.raises(ValueError, match="must not hold a user or a password") as wrong:
        checked_url("https://me:hunter2@api.example.com/v1")
    assert "hunter2" not in str(wrong.value)


def test_hosts_nearby_are_asked_without_a_proxy_and_others_with_it(service, model, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    service.says("x")
    assert model().complete(["p"])[0].text == "x"
    assert model(url="https://a.example.org/v1")._service._client._mounts
    assert not model()._service._client._mounts


# --- log-probabilities of a given text ------------------------------------------------------


def echoed(tokens, scores):
    return {"choices": [{"text": "", "logprobs": {"tokens": tokens, "token_logprobs": scores}}]}


def test_a_server_that_echoes_scores_continuations(service, model):
    service.answers(
        echoed(["<s>", "Is", " it", "?", " y", "es", " and"], [None, -9, -9, -9, -1, -0.5, -7]),
        echoed(["Is", " it", "? n", "o", "!"], [None, -9.0, -2.0, -0.25, -7.0]),
    )
    scores = model(api="completions").logprobs("Is it?", [" yes", " no", ""])
    assert scores == [-1.5, -2.25, 0.0]
    assert [body["prompt"] for body in service.bodies] == ["Is it? yes", "Is it? no"]
    assert all(body["echo"] and body["logprobs"] == 1 for body in service.bodies)
    assert math.isclose(math.exp(scores[0]), 0.2231, abs_tol=1e-4)


def test_services_that_do_not_tell_are_said(service, model):
    with pytest.raises(NotImplementedError, match="tiny gives no log-probabilities of a given"):
        model().logprobs("p", ["x"])
    for told in (echoed(["p"], [-1.0]), echoed(["px"], []), {"choices": [{"text": "p"}]}):
        service.answers(told)
        with pytest.raises(NotImplementedError, match="does not echo it with them"):
            model(api="completions").logprobs("p", ["x"])
    with pytest.raises(ValueError, match="must be a list of texts"):
        model(api="completions").logprobs("p", "x")
    with pytest.raises(ValueError, match="a prompt must not be empty"):
        model(api="completions").logprobs("", ["x"])


# --- the protocol ---------------------------------------------------------------------------


def test_it_is_a_text_model_whose_fingerprint_follows_what_is_asked(service, model):
    first = model()
    assert isinstance(first, TextModel)
    assert isinstance(first, StreamingModel)
    assert repr(first) == f"OpenAICompatibleModel('tiny', '{service.url}', api='chat')"
    same = [model(), model(retries=0, timeout_s=3, concurrency=1, api_key_env="OTHER")]
    assert {one.fingerprint for one in same} == {first.fingerprint}
    others = [
        model("large"),
        model(url="http://localhost:1"),
        model(api="completions"),
        model(token_logprobs=False),
        model(extra_body={"top_p": 0.5}),
    ]
    assert len({one.fingerprint for one in (first, *others)}) == 6


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"name": " "}, "model must be the service's name"),
        ({"api": "responses"}, "api must be one of chat, completions, got 'responses'"),
        ({"concurrency": 0}, "concurrency must be at least 1, got 0"),
        ({"retries": -1}, "retries must be at least 0, got -1"),
        ({"timeout_s": 0}, "timeout_s must be above 0, got 0"),
        ({"timeout_s": math.nan}, "timeout_s must be above 0, got nan"),
    ],
)
def test_options_out_of_range(model, options, what):
    with pytest.raises(ValueError, match=what):
        model(**options)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"max_tokens": 0}, "max_tokens must be at least 1, got 0"),
        ({"temperature": -1}, "temperature must be at least 0, got -1"),
        ({"temperature": math.nan}, "temperature must be at least 0, got nan"),
        ({"stop": [""]}, "stop must hold"),
    ],
)
def test_arguments_out_of_range(model, options, what):
    with pytest.raises(ValueError, match=what):
        model().complete(["p"], **options)
