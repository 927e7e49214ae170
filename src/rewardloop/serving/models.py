"""The model that answers now, and how the next one takes its place without a request being dropped.

In: a folder, a registered version, or whichever is the champion. Out: a ``ServedModel`` whose files were verified and
whose fixture was scored again. A request is bound to the model of the moment it came in; the model before is freed with
its last request.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rewardloop.errors import BadInputError
from rewardloop.modeling.parity import check_parity
from rewardloop.modeling.reward_model import weights_digest
from rewardloop.modeling.scoring import Floats, RewardScorer, decisions
from rewardloop.storage import Storage

_log = logging.getLogger(__name__)
PARTS = ("model", "scoring.json", "parity.json")
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 300.0
"""Between attempts at a champion that cannot be loaded; each pause is twice the one before."""


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A loaded reward model and what names it."""

    scorer: RewardScorer
    digest: str
    """``weights_digest`` of its weights, by which alignment knows it."""
    name: str
    """``NAME/VERSION`` in the registry, or the folder."""
    version: str = ""
    """Empty for a folder."""
    loaded_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    scoring: dict[str, Any] = field(init=False)
    """``scoring.json``, as JSON can hold it."""

    def __post_init__(self) -> None:
        """Raise BadInputError where ``scoring.json`` holds what JSON cannot."""
        object.__setattr__(self, "scoring", _plain(self.scorer.scoring))

    @property
    def threshold(self) -> float | None:
        """Accept from this public score on; None: no threshold was certified."""
        return self.scorer.threshold

    def decide(self, public: Floats) -> list[str] | None:
        """accept, review or block; None without a threshold."""
        if self.threshold is None:
            return None
        # A version scores with the code it was registered with, which may be older than three-way decisions.
        found: list[str] = decisions(public, self.threshold, self.scoring.get("block_threshold")).tolist()
        return found


def open_folder(folder: Path, *, rounding: bool = False) -> ServedModel:
    """The reward model in ``folder``, as ``train_reward_model`` leaves it.

    Raises:
        BadInputError: a part is missing or damaged.
        RewardloopError: it scores differently than its fixture says.
    """
    missing = [part for part in PARTS if not (folder / part).exists()]
    if missing:
        raise BadInputError(
            f"--reward-model {folder}: has no {', '.join(missing)}; give a folder with {', '.join(PARTS)}, as "
            "train_reward_model writes it"
        )
    from safetensors import SafetensorError

    try:
        scorer = RewardScorer.load(folder)
        return ServedModel(scorer, _checked(scorer, folder, str(folder), rounding=rounding), str(folder))
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise BadInputError(f"--reward-model {folder}: cannot be loaded: {reason}; train or copy it again") from error


def open_registered(model_uri: str, tracking_uri: str, *, rounding: bool = False) -> ServedModel:
    """The version ``models:/NAME/VERSION``, with the scoring code that it was registered with.

    Raises:
        BadInputError: the registry has no such version.
        RewardloopError: its files are not those that were registered, or it scores differently.
    """
    from rewardloop.tracking.pyfunc_model import load_scoring
    from rewardloop.tracking.registry import open_version

    # As load_scorer does, but with the digest of the same files: a remote registry is read once.
    with open_version(model_uri, tracking_uri) as (directory, _):
        scorer = load_scoring(directory).RewardScorer.load(directory)
        digest = _checked(scorer, directory, f"{model_uri} in {tracking_uri}", rounding=rounding)
    name = model_uri.removeprefix("models:/")
    return ServedModel(scorer, digest, name, name.rpartition("/")[2])


def _checked(scorer: RewardScorer, directory: Path, where: str, *, rounding: bool) -> str:
    """Digest of the weights, once the scores are found to be those of the fixture."""
    fixture = directory / "parity.json"
    check_parity(scorer, fixture, where=where)
    if rounding:
        scorer.allow_rounding(json.loads(fixture.read_text(encoding="utf-8")))
    return weights_digest(directory / "model")


def _plain(scoring: Any) -> dict[str, Any]:
    """``scoring`` without NumPy's numbers and lists."""
    try:
        content = json.dumps(dict(scoring), allow_nan=False, default=lambda value: value.tolist())
    except (ValueError, TypeError, AttributeError) as error:
        raise BadInputError(
            f"scoring.json: cannot be given out as JSON ({error}); every number must be finite"
        ) from error
    return json.loads(content)  # type: ignore[no-any-return]


@dataclass
class Champion:
    """Whichever version the history names as champion."""

    model_name: str
    storage: Storage
    tracking_uri: str
    rounding: bool = False
    _seen: str | None = None
    """The newest record of the history that was looked into."""
    _failed: str | None = None
    """The newest record under which a load failed."""
    _failures: int = 0
    _error: Exception | None = None
    _again_at: float = 0.0
    """Monotonic."""

    def open(self) -> ServedModel:
        """Load the champion of this moment.

        Raises:
            BadInputError: there is none, or it is not in the registry.
            RewardloopError: its files are not those that were registered.
        """
        newest = self._newest()
        model = open_registered(self._resolve(), self.tracking_uri, rounding=self.rounding)
        self._seen = newest
        return model

    def newer(self, than: ServedModel) -> ServedModel | None:
        """The champion, loaded, if it is another version; None as long as it is ``than``.

        A champion that cannot be loaded is tried again after growing pauses: each attempt fetches and reads all of its
        files, beside requests that wait for answers.

        Raises:
            Exception: whatever the last attempt failed with.
        """
        newest = self._newest()
        if newest == self._seen:
            return None
        if self._error is not None and newest == self._failed and time.monotonic() < self._again_at:
            raise self._error.with_traceback(None)
        try:
            uri = self._resolve()
            model = (
                None
                if uri.rpartition("/")[2] == than.version
                else open_registered(uri, self.tracking_uri, rounding=self.rounding)
            )
        except Exception as error:
            self._failures = self._failures + 1 if newest == self._failed else 0
            self._failed, self._error = newest, error
            self._again_at = time.monotonic() + min(_FIRST_PAUSE_SECONDS * 2**self._failures, _LONGEST_PAUSE_SECONDS)
            raise
        self._seen, self._failed, self._error = newest, None, None
        return model

    def _newest(self) -> str | None:
        # One listing; the registry is asked only when somebody promoted or rolled back.
        return max(self.storage.list("history"), default=None)

    def _resolve(self) -> str:
        from rewardloop.tracking.registry import resolve

        return resolve(self.model_name, "champion", self.tracking_uri, self.storage)


class Holder:
    """The model that answers now; changed between requests, in the event loop alone."""

    def __init__(self, model: ServedModel | None = None, champion: Champion | None = None) -> None:
        self.current = model
        self.trouble: str | None = None
        """Why the champion of now could not be loaded; the one before goes on."""
        self._champion = champion

    async def follow(
        self,
        poll_seconds: float,
        *,
        swapped: Callable[[ServedModel], object] = lambda _: None,
        failed: Callable[[], object] = lambda: None,
    ) -> None:
        """Look for another champion every ``poll_seconds``, for ever; a failure keeps the model and is tried again."""
        while self._champion is not None and self.current is not None:
            await asyncio.sleep(poll_seconds)
            try:
                model = await asyncio.to_thread(self._champion.newer, self.current)
            except Exception as error:  # whatever a registry, a store or a damaged file can raise
                self._complain(error)
                failed()
                continue
            self.trouble = None
            if model is not None:
                _log.info("swapped %s for %s (%s)", self.current.name, model.name, model.digest[:12])
                self.current = model
                swapped(model)

    def _complain(self, error: Exception) -> None:
        trouble = f"{type(error).__name__}: {error}"
        if trouble != self.trouble:  # once, not at every poll
            name = self.current.name if self.current else "nothing"
            _log.error("the champion cannot be loaded, %s goes on: %s", name, trouble)
        self.trouble = trouble
