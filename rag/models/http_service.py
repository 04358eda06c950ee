"""Posting JSON to a service: retries, a key that nobody sees, and errors that a person can read."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rag.errors import RemoteModelError

if TYPE_CHECKING:
    import httpx

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0
SHOWN = 300
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LOCAL_NAMES = (".localhost", ".local", ".internal", ".lan")


class HttpService:
    """Posts JSON below one URL; may be used from several threads.

    The key is read from the environment for each request and kept nowhere; redirects are not
    followed, so it reaches the host that was named and no other. What a service says is shown in
    errors without it. Hosts of this machine and network are asked directly, all others through the
    proxy that the environment names, if it names one.

    Attributes:
        base_url: without a slash at its end.
        api_key_env: name of the environment variable that holds the key.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key_env: str = "OPENAI_API_KEY",
        timeout_s: float = 120.0,
        retries: int = 3,
        insecure_http: bool = False,
    ) -> None:
        """Look at the arguments; nothing is sent.

        Args:
            base_url: as `https://host/v1`.
            api_key_env: name of a variable; if it is set it is sent as a bearer token.
            timeout_s: the longest to wait for a connection, and for each piece of an answer.
            retries: how often to try again after a failed connection, 429 and 5xx.
            insecure_http: allow `http` to hosts outside this machine and network.

        Raises:
            ValueError: if one of them is not allowed.
        """
        self.base_url = checked_url(base_url, insecure_http=insecure_http)
        if not _VARIABLE.fullmatch(api_key_env):
            # It may be the key itself: what came is not shown.
            raise ValueError("api_key_env must be the name of an environment variable, not a key")
        if not timeout_s > 0:
            raise ValueError(f"timeout_s must be above 0, got {timeout_s}")
        if retries < 0:
            raise ValueError(f"retries must be at least 0, got {retries}")
        import httpx

        self.api_key_env = api_key_env
        self._timeout_s = timeout_s
        self._retries = retries
        host = urlsplit(self.base_url).hostname or ""
        self._client = httpx.Client(timeout=timeout_s, trust_env=not is_local(host))

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the JSON object that answers a request.

        Raises:
            RemoteModelError: if there is no such answer.
        """
        with self._answered(path, body, stream=False) as response:
            return self._object(path, response.content)

    def events(
        self, path: str, body: Mapping[str, Any]
    ) -> Generator[dict[str, Any] | None, None, None]:
        """Yield the JSON objects of a stream of server-sent events, and None at `[DONE]`.

        An answer that is one JSON object instead is yielded as that.

        Raises:
            RemoteModelError: if there is no such answer, or the connection breaks.
        """
        import httpx

        with self._answered(path, body, stream=True) as response:
            try:
                if response.headers.get("content-type", "").startswith("application/json"):
                    yield self._object(path, response.read())
                    yield None
                    return
                for line in _lines(response.iter_bytes()):
                    field, _, data = line.partition(b":")
                    if field != b"data":
                        continue
                    if data.strip() == b"[DONE]":
                        yield None
                        return
                    yield self._object(path, data)
            except httpx.TransportError as error:
                raise self.error(path, f"broke off: {_told(error)}") from error

    def error(self, path: str, what: str, status: int = 0) -> RemoteModelError:
        """Return an error that names the URL, with the key masked."""
        key = self._key()
        message = f"{self.base_url}{path} {what}"
        return RemoteModelError(message.replace(key, "***") if key else message, status)

    def close(self) -> None:
        """Close the connections; twice is harmless."""
        self._client.close()

    @contextmanager
    def _answered(
        self, path: str, body: Mapping[str, Any], *, stream: bool
    ) -> Iterator[httpx.Response]:
        """Yield the response of a request that succeeded, in the end."""
        import httpx

        for tries_left in range(self._retries, -1, -1):
            wait_s = FIRST_WAIT_S * 2.0 ** (self._retries - tries_left)
            try:
                response = self._client.send(self._request(path, body), stream=stream)
                if not response.is_success:
                    response.read()
            except (httpx.ReadTimeout, httpx.WriteTimeout) as error:
                what = f"did not answer within {self._timeout_s:g} s (timeout_s)"
                raise self.error(path, what) from error
            except httpx.TransportError as error:
                if not tries_left:
                    raise self.error(path, f"cannot be reached: {_told(error)}") from error
            else:
                with closing(response):
                    if response.is_success:
                        yield response
                        return
                    status = response.status_code
                    if not tries_left or not (status == 429 or status >= 500):
                        what = f"answered {status}: {_said(response.content)}"
                        raise self.error(path, what, status)
                    wait_s = _retry_after_s(response.headers.get("retry-after", ""), wait_s)
            time.sleep(min(wait_s, LONGEST_WAIT_S))

    def _request(self, path: str, body: Mapping[str, Any]) -> httpx.Request:
        key = self._key()
        if not key.isascii() or not key.isprintable() or " " in key:
            raise ValueError(
                f"the environment variable {self.api_key_env} must hold a key of visible ASCII "
                "characters"
            )
        headers = {"Content-Type": "application/json"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        # Written as ASCII: a lone surrogate of a damaged document is no UTF-8.
        content = json.dumps(body)
        return self._client.build_request(
            "POST", f"{self.base_url}{path}", content=content, headers=headers
        )

    def _key(self) -> str:
        return os.environ.get(self.api_key_env, "").strip()

    def _object(self, path: str, content: bytes) -> dict[str, Any]:
        try:
            found = json.loads(content)
        except ValueError as error:
            raise self.error(path, f"answered what is no JSON: {_shown(content)}") from error
        if not isinstance(found, dict):
            raise self.error(path, f"answered no JSON object: {_shown(content)}")
        if found.get("error"):
            raise self.error(path, f"answered an error: {_said(content)}")
        return found


def checked_url(url: str, *, insecure_http: bool = False) -> str:
    """Return a URL that keys and passages may be sent to, without a slash at its end.

    `https` goes anywhere; `http`, which anybody on the way can read, only to this machine and its
    network: loopback and private addresses, names without a dot, and names in `.local`,
    `.internal`, `.lan` and `.localhost`.

    Args:
        url: of a service.
        insecure_http: allow `http` to any host.

    Raises:
        ValueError: for anything else, and for a URL with a user, a query or a fragment.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"base_url is no URL: {error}") from error
    if parts.username is not None or parts.password is not None:
        raise ValueError("base_url must not hold a user or a password; put a key in api_key_env")
    if parts.query or parts.fragment:
        raise ValueError("base_url must end with its path, got a query or a fragment after it")
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError(f"base_url must be http://… or https://…, got {url!r}")
    if parts.scheme == "http" and not insecure_http and not is_local(host):
        raise ValueError(
            f"base_url must be https outside this machine and its network, got {url!r}; "
            "insecure_http: true allows it"
        )
    return url.rstrip("/")


def is_local(host: str) -> bool:
    """Return whether a host is this machine or stands in its network, by its name alone."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.endswith(_LOCAL_NAMES)
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_private or address.is_link_local


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield lines; only a line feed ends one, as JSON text may hold any other separator."""
    begun = b""
    for chunk in chunks:
        *lines, begun = (begun + chunk).split(b"\n")
        yield from lines
    yield begun


def _retry_after_s(told: str, otherwise: float) -> float:
    """Return the seconds that a `Retry-After` asks to wait, in either of its forms."""
    if told.strip().isdecimal():
        return float(told)
    try:
        at = parsedate_to_datetime(told)
    except ValueError:
        return otherwise
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())


def _said(content: bytes) -> str:
    """Return the message in the body of an error, in any of the usual places."""
    try:
        found = json.loads(content)
    except ValueError:
        return _shown(content)
    for name in ("error", "message", "detail"):
        if isinstance(found, dict) and found.get(name):
            found = found[name]
    return _printable(found if isinstance(found, str) else json.dumps(found))


def _shown(content: bytes) -> str:
    return _printable(content.decode("utf-8", "replace")) or "nothing"


def _printable(text: str) -> str:
    """Return a foreign text on one line, cut, without control characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= SHOWN else line[: SHOWN - 1] + "…"


def _told(error: Exception) -> str:
    return _printable(str(error)) or type(error).__name__
