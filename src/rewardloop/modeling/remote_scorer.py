"""A reward model on another node, asked over HTTP (``align.reward_url``) as if it were loaded here.

In: the address of ``rewardloop serve`` and the digest of the weights that must answer there. Out: raw scores. Lost
connections and a server that restarts are waited for; another model in its place is an error.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from rewardloop.errors import BadInputError, RewardloopError
from rewardloop.modeling.scoring import Floats, Messages

_CHUNK = 256
"""Responses in one request: enough to fill the model, and little to repeat when a connection is lost."""
_CONNECT_SECONDS = 5.0
"""A node that takes longer to accept a connection is not there."""
_UNAVAILABLE = (500, 502, 503, 504)
_RETRIES = 8
"""After 0, 1, 2, 4, ... 30 s: more than a minute in all, in which a server loads its model again."""
_RETRIES_AT_START = 2
"""Nothing is lost yet: the user shall hear of a wrong address soon."""


class RemoteScorer:
    """A served reward model: ``connect`` to it."""

    def __init__(self, url: str, *, digest: str, scoring: Mapping[str, Any], timeout_seconds: float) -> None:
        self.url = url
        self.digest = digest
        """``weights_digest`` of the served weights."""
        self.scoring = dict(scoring)
        """``scoring.json`` of the served model."""
        self._timeout = _timeout(timeout_seconds)
        self._session = _session(_RETRIES)

    @classmethod
    def connect(cls, url: str, *, expected_digest: str | None, timeout_seconds: float = 60) -> Self:
        """Ask ``url`` which model it serves.

        Args:
            url: address that ``rewardloop serve`` printed, such as ``http://node-2:8080``.
            expected_digest: ``weights_digest`` of the model that must answer; None: whichever does.
            timeout_seconds: how long one request of up to 256 responses may take.

        Raises:
            BadInputError: nothing answers there, it is not a reward model, or it is another one.
        """
        url = url.rstrip("/")
        where = f"align.reward_url: {url}"
        try:
            with _session(_RETRIES_AT_START) as session:
                answer = session.get(f"{url}/health", timeout=_timeout(timeout_seconds), allow_redirects=False)
        except (requests.RequestException, ValueError) as error:
            raise BadInputError(
                f"{where}: no reward model answers ({_reason(error)}); start rewardloop serve there, or correct the "
                "address"
            ) from error
        content = _content(answer)
        found, scoring = content.get("digest"), content.get("scoring")
        if not answer.ok or not isinstance(found, str) or not isinstance(scoring, dict) or not content.get("ready"):
            raise BadInputError(
                f"{where}: this is not rewardloop serve: /health answered {answer.status_code} "
                f"{answer.text[:80]!r}; correct the address"
            )
        if expected_digest is not None and found != expected_digest:
            raise BadInputError(
                f"{where}: serves the reward model {found[:12]}; expected {expected_digest[:12]}. Serve that one "
                "(rewardloop serve --reward-model or --version), or remove align.reward_url"
            )
        return cls(url, digest=found, scoring=scoring, timeout_seconds=timeout_seconds)

    def raw_scores(
        self,
        prompts: Sequence[Messages],
        responses: Sequence[str],
        *,
        tokens_per_batch: int | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> Floats:
        """Raw scores, float64 of shape (len(responses),); NaN where a response cannot be scored.

        Args:
            prompts: one per response.
            responses: the texts to score.
            tokens_per_batch: for ``RewardScorer`` alone: the server knows its own hardware.
            progress: told how many were done, after every request.

        Raises:
            RewardloopError: the server is gone for more than a minute, refuses, or serves another model by now.
        """
        if len(prompts) != len(responses):
            raise ValueError(f"{len(prompts)} prompts for {len(responses)} responses; expected one each")
        scores = np.full(len(responses), np.nan)
        for start in range(0, len(responses), _CHUNK):
            part = slice(start, start + _CHUNK)
            asked = [[dict(message) for message in prompt] for prompt in prompts[part]]
            scores[part] = self._ask(asked, list(responses[part]))
            if progress:
                progress(len(asked))
        return scores

    def _ask(self, prompts: list[list[dict[str, str]]], responses: list[str]) -> list[float]:
        try:
            answer = self._session.post(
                f"{self.url}/score",
                json={"prompts": prompts, "responses": responses},
                timeout=self._timeout,
                allow_redirects=False,  # people's texts go where the configuration says, and nowhere else
            )
        except requests.RequestException as error:
            raise RewardloopError(
                f"align.reward_url: {self.url}: no answer for {len(responses)} responses within "
                f"{self._timeout[1]:g} s ({_reason(error)}); start rewardloop serve again, or on a faster machine"
            ) from error
        content = _content(answer)
        if not answer.ok or answer.is_redirect:
            said = content.get("detail", answer.text[:200])
            raise RewardloopError(f"align.reward_url: {self.url}: /score answered {answer.status_code}: {said}")
        if content.get("digest") != self.digest:
            raise RewardloopError(
                f"align.reward_url: {self.url}: serves the reward model {str(content.get('digest'))[:12]} now; it was "
                f"{self.digest[:12]}. Serve that one again"
            )
        raw = content.get("raw_scores")
        if not isinstance(raw, list) or len(raw) != len(responses):
            raise RewardloopError(
                f"align.reward_url: {self.url}: /score answered {answer.text[:80]!r}; expected {len(responses)} "
                "raw_scores. Is rewardloop of the same version there?"
            )
        return [np.nan if score is None else float(score) for score in raw]


def _timeout(seconds: float) -> tuple[float, float]:
    """(to connect, to wait for the answer), in seconds."""
    return min(_CONNECT_SECONDS, seconds), seconds


def _session(retries: int) -> requests.Session:
    retry = Retry(
        total=retries,
        # A request that timed out is still being worked on: asking again and again only makes the queue longer.
        read=min(retries, 2),
        status_forcelist=_UNAVAILABLE,
        allowed_methods=["GET", "POST"],  # scoring twice changes nothing
        backoff_factor=0.5,
        backoff_max=30,
        raise_on_status=False,  # the last answer says why
    )
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    return session


def _content(answer: requests.Response) -> dict[str, Any]:
    """The answer's JSON object; empty where it has none."""
    try:
        content = answer.json()
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _reason(error: Exception) -> str:
    """The innermost cause: urllib3 wraps it with the whole address, several times."""
    cause: Any = error
    while True:
        inner = getattr(cause, "reason", None) or next(
            (item for item in cause.args if isinstance(item, Exception)), None
        )
        if not isinstance(inner, Exception):
            return f"{type(cause).__name__}: {cause}".splitlines()[0]
        cause = inner
