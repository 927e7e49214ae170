"""Which version is, and was, the champion: one small file per promotion, each created only if absent.

In: the feedback store's ``history/`` folder. Out: the champion of this moment. Of several processes that promote at
once exactly one writes the next record; the others see that the champion is no longer the one they compared with.
MLflow's aliases are a projection of this history, because setting an alias cannot be made conditional.

What ``rollback`` goes back to. The promotions form a stack: a promotion puts its version on top; a rollback takes the
champion off, and whatever else lies above the version that it goes back to. So the second of two rollbacks goes one
champion further back, and never returns to the version that the first one left. A version that is no longer on the
stack (it was rolled back from) takes the place of the champion when a rollback names it.
"""

import getpass
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from rewardloop.errors import BadInputError, RewardloopError
from rewardloop.storage import Storage

if TYPE_CHECKING:
    from mlflow import MlflowClient

_FOLDER = "history"
_COLLISIONS = 5
"""More in a row are no accident of two processes at once."""


class ChampionChangedError(RewardloopError):
    """Another version became the champion since the decision was made; nothing was written."""


class HistoryRecord(BaseModel):
    """One change of champion; it is never altered."""

    model_config = ConfigDict(extra="forbid")

    sequence: int
    action: Literal["promote", "rollback"]
    name: str
    version: str
    """The champion from here on."""
    previous: str | None
    """The champion until here."""
    who: str
    why: str
    at: str
    threshold: float | None
    compared_with: str
    """The champion that the gate compared with, in words or as a version."""
    forced: bool = False
    """Promoted in spite of the gate; ``why`` says on what grounds."""


def champions(records: Sequence[HistoryRecord]) -> list[HistoryRecord]:
    """The stack of champions, today's last; the module says by which rule. ``records``: of one model, oldest first."""
    return _replay(records)[0]


def rolled_back(records: Sequence[HistoryRecord]) -> dict[str, int]:
    """Versions that were rolled back from and not promoted again since -> sequence of the rollback."""
    return _replay(records)[1]


def _replay(records: Sequence[HistoryRecord]) -> tuple[list[HistoryRecord], dict[str, int]]:
    stack: list[HistoryRecord] = []
    left: dict[str, int] = {}
    for record in records:
        if record.action == "rollback":
            below = [place for place, one in enumerate(stack[:-1]) if one.version == record.version]
            keep = below[-1] + 1 if below else len(stack) - 1
            left |= {one.version: record.sequence for one in stack[keep:]}
            stack = stack[:keep] if below else [*stack[:keep], record]
        else:
            stack = [*stack, record]
        for one in stack:
            left.pop(one.version, None)
    return stack, left


@dataclass(frozen=True)
class History:
    """The promotions of one registered model."""

    storage: Storage
    model_name: str
    _known: dict[str, HistoryRecord] = field(default_factory=dict, compare=False, repr=False)
    """Records never change: whoever asks often (a server that follows the champion) reads each of them once."""

    def records(self) -> list[HistoryRecord]:
        """All records of this model, oldest first."""
        return [record for record in self._everything() if record.name == self.model_name]

    def champion(self) -> HistoryRecord | None:
        """The record that made today's champion, or None."""
        records = self.records()
        return records[-1] if records else None

    def previous(self) -> str | None:
        """The version that a rollback would go back to, which MLflow's alias ``previous`` names; or None."""
        stack = champions(self.records())
        return stack[-2].version if len(stack) > 1 else None

    def append(
        self,
        action: Literal["promote", "rollback"],
        version: str,
        *,
        expected: str | None,
        why: str,
        threshold: float | None,
        compared_with: str,
        who: str | None = None,
        forced: bool = False,
    ) -> HistoryRecord:
        """Make ``version`` the champion, if ``expected`` still is.

        Args:
            action: what kind of change it is.
            version: the new champion.
            expected: the version that the decision was made against; None when there was no champion.
            why: the reason, for people.
            threshold: the new champion's threshold on the public scale.
            compared_with: what the gate compared with.
            who: decides; None: the user of this process.
            forced: promoted in spite of the gate.

        Raises:
            ChampionChangedError: another version became the champion meanwhile; nothing was written.
        """
        while True:
            everything = self._everything()
            own = [record for record in everything if record.name == self.model_name]
            current = own[-1].version if own else None
            if current != expected:
                raise ChampionChangedError(
                    f"{self.model_name}: version {version} does not become the champion: it was judged against "
                    f"{_named(expected)}, but the champion is now {_named(current)}. Run again to compare with that"
                )
            record = HistoryRecord(
                sequence=everything[-1].sequence + 1 if everything else 1,
                action=action,
                name=self.model_name,
                version=version,
                previous=current,
                who=who or this_user(),
                why=why,
                at=datetime.now(UTC).isoformat(timespec="seconds"),
                threshold=threshold,
                compared_with=compared_with,
                forced=forced,
            )
            path = f"{_FOLDER}/{record.sequence:08d}.json"
            if self.storage.create(path, record.model_dump_json(indent=1).encode()):
                return record

    def project_aliases(self, client: "MlflowClient") -> None:
        """Make MLflow's ``champion`` and ``previous`` say what the history says.

        Of several processes that promote at once, each looks again once it has written: whoever writes an alias last
        has seen the last record.

        Raises:
            BadInputError: the registry has no such version.
            RewardloopError: MLflow does not answer.
        """
        from mlflow.exceptions import MlflowException

        from rewardloop.tracking.outage import first_line, is_outage

        records, collisions = self.records(), 0
        while records:
            champion = records[-1]
            stack = champions(records)
            try:
                aliases = client.get_registered_model(self.model_name).aliases
                if str(aliases.get("champion")) != champion.version:
                    client.set_registered_model_alias(self.model_name, "champion", champion.version)
                self._project_previous(client, aliases, stack[-2].version if len(stack) > 1 else None)
            except MlflowException as error:
                if is_outage(error):
                    raise RewardloopError(
                        f"{self.model_name}: MLflow at {client.tracking_uri} does not answer ({first_line(error)}); "
                        "start it, or try again"
                    ) from error
                # MLflow stumbles where two processes create the same alias at once; the second look finds it there.
                collisions += 1
                if error.error_code != "RESOURCE_DOES_NOT_EXIST" and collisions < _COLLISIONS:
                    continue
                raise BadInputError(
                    f"{self.model_name}: the history in {self.storage.path(_FOLDER)} names version {champion.version} "
                    f"as champion, but the registry in {client.tracking_uri} does not fit: {error.message}. "
                    "Correct tracking.uri or store.url: they do not belong together"
                ) from error
            records = self.records()
            if records[-1].sequence == champion.sequence:
                return

    def _project_previous(self, client: "MlflowClient", aliases: Mapping[str, str], version: str | None) -> None:
        from mlflow.exceptions import MlflowException

        if version is not None and str(aliases.get("previous")) == version:
            return
        if version is not None:
            try:
                client.set_registered_model_alias(self.model_name, "previous", version)
                return
            except MlflowException as error:
                # Housekeeping may have removed a version that became the previous one only later, by a rollback.
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
        if "previous" in aliases:
            client.delete_registered_model_alias(self.model_name, "previous")

    def _everything(self) -> list[HistoryRecord]:
        names = [name for name in self.storage.list(_FOLDER) if name.endswith(".json")]
        return [self._known.get(name) or self._read(name) for name in names]

    def _read(self, name: str) -> HistoryRecord:
        place = f"{_FOLDER}/{name}"
        try:
            record = HistoryRecord.model_validate_json(self.storage.read(place))
        except ValidationError as error:
            raise BadInputError(
                f"{self.storage.path(place)}: is not a record of the history ({error.error_count()} errors, the first: "
                f"{error.errors()[0]['msg']}); restore it from a copy"
            ) from error
        self._known[name] = record
        return record


def champion_version(store: str, organization: str) -> str | None:
    """The version of an organization's reward model that is the champion now.

    Args:
        store: URL of the feedback store.
        organization: as in the configuration.
    """
    champion = History(Storage.open(store), f"{organization}-reward").champion()
    return champion.version if champion else None


def _named(version: str | None) -> str:
    return "no champion" if version is None else f"version {version}"


def this_user() -> str:
    """Name of the user that this process runs as."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"
