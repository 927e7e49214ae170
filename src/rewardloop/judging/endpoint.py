"""A judge behind an OpenAI-compatible endpoint.

In: ``judge.url``, ``judge.model`` and a key. Out: answers of ``/chat/completions``. Lost connections, 429 and 5xx are
asked again, after the pause that the endpoint asks for where it does; redirects are not followed, and no message holds
the key.
"""

import threading
import time
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import requests
import stamina
import urllib3

from rewardloop.config import JudgeSettings
from rewardloop.errors import BadInputError, RewardloopError
from rewardloop.judging.backends import UnanswerableError
from rewardloop.judging.cache import Answer
from rewardloop.judging.limits import Budget, Pace, Usage
from rewardloop.judging.questions import Question
from rewardloop.judging.replies import completion, retry_after, said, usage_of

_CONNECT_SECONDS = 5.0
"""A node that takes longer to accept a connection is not there."""
_PASSING = {408, 409, 425, 429, 500, 502, 503, 504, 529}
_REFUSED = {400, 413, 422}
"""Of one question: too long for the model, against the endpoint's own rules."""
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 30.0
_FRAME = 64
"""Tokens around the texts of a request, at most, per message: roles and separators."""
_BLOCK = 1 << 16


class _PassingError(Exception):
    """Asking again may help; ``wait`` is the pause in seconds that the endpoint asks for."""

    def __init__(self, words: str, wait: float | None = None) -> None:
        super().__init__(words)
        self.wait = wait


class _TooLargeError(UnanswerableError):
    """What came is longer than an answer may be, and was paid for."""


class _Key(requests.auth.AuthBase):
    """Sets the header itself: without it requests would look for a login in the user's netrc."""

    def __init__(self, key: str | None) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request


class Endpoint:
    """One model of one endpoint; safe to use from several threads."""

    def __init__(self, settings: JudgeSettings, key: str | None) -> None:
        """Check address and key; nothing is asked yet.

        Args:
            settings: with ``url`` and ``model``.
            key: value of the variable ``judge.key_variable``; None: no key is sent.

        Raises:
            BadInputError: the key is no key, or would travel in the clear.
        """
        assert settings.url is not None, "the caller has chosen the endpoint"
        self._settings = settings
        self._url = settings.url.rstrip("/")
        self._secret = _checked_key(key, settings)
        self._stopped = threading.Event()
        self._local = threading.local()
        self._pace = Pace(settings.requests_per_minute)
        self.budget = Budget(settings.price_input, settings.price_output, settings.max_cost)

    @property
    def identity(self) -> dict[str, object]:
        """The model and how it is asked."""
        names = ("model", "temperature", "max_new_tokens")
        return {name: getattr(self._settings, name) for name in names}

    @property
    def place(self) -> str:
        """The address."""
        return self._url

    @property
    def concurrent(self) -> int:
        """Requests on their way at a time."""
        return self._settings.concurrent

    def stop(self) -> None:
        """Ask nothing again from now on."""
        self._stopped.set()

    def answer(self, question: Question) -> Answer:
        """Ask once, and again while the endpoint does not answer.

        Raises:
            UnanswerableError: the endpoint refuses this question, or answers with what is no chat completion.
            BudgetSpentError: asking could cost more than is left of ``judge.max_cost``.
            BadInputError: key, address or model are wrong.
            RewardloopError: the endpoint did not answer for ``judge.patience_seconds``.
        """
        body = self._body(question)
        # No tokenizer makes more tokens of a text than it has bytes.
        size = sum(len(message["content"].encode()) + _FRAME for message in question.messages)
        most = size, self._settings.max_new_tokens
        reserved, used = self.budget.reserve(*most), None
        try:
            for attempt in stamina.retry_context(
                on=self._may_pass,
                attempts=None,
                timeout=self._settings.patience_seconds,
                wait_initial=_FIRST_PAUSE_SECONDS,
                wait_max=_LONGEST_PAUSE_SECONDS,
            ):
                with attempt:
                    content = self._ask(body)
            # Whatever it says: an answer that came is paid for.
            used = usage_of(content)
            return completion(content)
        except _TooLargeError:
            used = Usage()
            raise
        except _PassingError as error:
            raise RewardloopError(
                f"{self._where}: did not answer for long ({error}). What was answered is kept: run again when it "
                "answers, or raise judge.patience_seconds"
            ) from None
        finally:
            self.budget.release(reserved, used, most)

    @property
    def _where(self) -> str:
        return f"judge.url: {self._url}"

    def _may_pass(self, error: Exception) -> bool | float:
        if not isinstance(error, _PassingError) or self._stopped.is_set():
            return False
        if error.wait is None:
            return True
        if error.wait > self._settings.patience_seconds:
            return False
        self._pace.pause(error.wait)
        return error.wait

    def _body(self, question: Question) -> dict[str, Any]:
        settings = self._settings
        body: dict[str, Any] = {"model": settings.model, "messages": [dict(one) for one in question.messages]}
        body[settings.max_new_tokens_field] = settings.max_new_tokens
        if settings.temperature is not None:
            body["temperature"] = settings.temperature
        return body

    def _ask(self, body: Mapping[str, Any]) -> bytes:
        """The body of a whole answer of status 200."""
        self._pace.wait()
        seconds = self._settings.timeout_seconds
        deadline = time.monotonic() + seconds
        try:
            with self._session().post(
                f"{self._url}/chat/completions",
                json=body,
                timeout=(min(_CONNECT_SECONDS, seconds), seconds),
                allow_redirects=False,  # people's texts and the key go where the configuration says, and nowhere else
                stream=True,
            ) as response:
                content = self._read(response, deadline)
                self._check(response, content)
        except (requests.exceptions.SSLError, requests.exceptions.InvalidURL) as error:
            raise BadInputError(
                f"{self._where}: {self._clean(str(error))}; correct the address or the certificate"
            ) from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise _PassingError(self._clean(f"{type(error).__name__}: {error}")) from None
        return content

    def _session(self) -> requests.Session:
        """A session per thread: requests does not promise that one may be shared."""
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            session.auth = _Key(self._secret)
            session.headers["Accept-Encoding"] = "identity"
        return session

    def _read(self, response: requests.Response, deadline: float) -> bytes:
        """The body, as long as it is not too large nor too slow: a timeout alone starts anew with every byte."""
        parts, left = [], self._settings.max_answer_bytes
        while part := response.raw.read1(_BLOCK, decode_content=True):
            parts.append(part)
            left -= len(part)
            if left < 0:
                words = f"an answer of more than {self._settings.max_answer_bytes:,} bytes"
                raise _TooLargeError(words) if response.status_code == 200 else UnanswerableError(words)
            if time.monotonic() > deadline:
                raise requests.ReadTimeout(f"no whole answer within {self._settings.timeout_seconds:g} s")
        return b"".join(parts)

    def _check(self, response: requests.Response, content: bytes) -> None:
        status = response.status_code
        if status == 200:
            return
        words = self._clean(said(content))
        if status in _REFUSED:
            raise UnanswerableError(f"refused by the endpoint ({status})")
        if status in (401, 403):
            raise BadInputError(
                f"{self._where}: answered {status}: {words}; correct the key in the variable that judge.key_variable "
                f"names ({self._settings.key_variable or 'none is set'})"
            )
        if response.is_redirect or 300 <= status < 400:
            raise BadInputError(
                f"{self._where}: answered {status}, a redirect, which is not followed; correct judge.url"
            )
        if status in _PASSING and "insufficient_quota" not in words:
            wait = retry_after(response.headers.get("Retry-After"))
            raise _PassingError(f"{status}: {words}", wait)
        raise BadInputError(f"{self._where}: answered {status}: {words}; correct judge.url or judge.model")

    def _clean(self, text: str) -> str:
        """Some endpoints quote the key that they refuse."""
        return text.replace(self._secret, "***") if self._secret else text


def _checked_key(key: str | None, settings: JudgeSettings) -> str | None:
    if settings.key_variable is None:
        return None
    key = (key or "").strip()
    if not key:
        raise BadInputError(
            f"judge.key_variable: the environment variable {settings.key_variable} is not set; set it to the "
            "endpoint's key, or judge.key_variable to null where there is none"
        )
    if not key.isascii() or any(character.isspace() for character in key):
        raise BadInputError(f"judge.key_variable: {settings.key_variable} holds spaces or letters that no key has")
    parts = urlsplit(settings.url or "")
    if parts.scheme != "https" and not _is_loopback(parts.hostname or ""):
        raise BadInputError(
            f"judge.url: {settings.url}: the key would travel in the clear; use https:// (http:// only on this machine)"
        )
    return key


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
