"""Which version is, and was, the champion: one small file per promotion, each created only if absent.

In: the feedback store's ``history/`` folder. Out: the champion of this moment. Of several processes that promote at
once exactly one writes the next record; the others see that the champion is no longer the one they compared with.
MLflow's aliases are a projection of this history, because setting an alias cannot be made conditional.
"""

import getpass
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from rewardloop.errors import BadInputError, RewardloopError
from rewardloop.storage import Storage

if TYPE_CHECKING:
    from mlflow import MlflowClient

_FOLDER = "history"


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


@dataclass(frozen=True)
class History:
    """The promotions of one registered model."""

    storage: Storage
    model_name: str

    def records(self) -> list[HistoryRecord]:
        """All records of this model, oldest first."""
        return [record for record in self._everything() if record.name == self.model_name]

    def champion(self) -> HistoryRecord | None:
        """The record that made today's champion, or None."""
        records = self.records()
        return records[-1] if records else None

    def append(
        self,
        action: Literal["promote", "rollback"],
        version: str,
        *,
        expected: str | None,
        why: str,
        threshold: float | None,
        compared_with: str,
    ) -> HistoryRecord:
        """Make ``version`` the champion, if ``expected`` still is.

        Args:
            action: what kind of change it is.
            version: the new champion.
            expected: the version that the decision was made against; None when there was no champion.
            why: the reason, for people.
            threshold: the new champion's threshold on the public scale.
            compared_with: what the gate compared with.

        Raises:
            RewardloopError: another version became the champion meanwhile; nothing was written.
        """
        while True:
            everything = self._everything()
            own = [record for record in everything if record.name == self.model_name]
            current = own[-1].version if own else None
            if current != expected:
                raise RewardloopError(
                    f"{self.model_name}: version {version} does not become the champion: it was judged against "
                    f"{_named(expected)}, but the champion is now {_named(current)}. Run again to compare with that"
                )
            record = HistoryRecord(
                sequence=everything[-1].sequence + 1 if everything else 1,
                action=action,
                name=self.model_name,
                version=version,
                previous=current,
                who=_user(),
                why=why,
                at=datetime.now(UTC).isoformat(timespec="seconds"),
                threshold=threshold,
                compared_with=compared_with,
            )
            path = f"{_FOLDER}/{record.sequence:08d}.json"
            if self.storage.create(path, record.model_dump_json(indent=1).encode()):
                return record

    def project_aliases(self, client: "MlflowClient") -> None:
        """Make MLflow's ``champion`` and ``previous`` say what the history says.

        Raises:
            BadInputError: the registry has no such version.
        """
        from mlflow.exceptions import MlflowException

        champion = self.champion()
        if champion is None:
            return
        try:
            aliases = client.get_registered_model(self.model_name).aliases
            for alias, version in (("champion", champion.version), ("previous", champion.previous)):
                if version is None:
                    if alias in aliases:
                        client.delete_registered_model_alias(self.model_name, alias)
                elif str(aliases.get(alias)) != version:
                    client.set_registered_model_alias(self.model_name, alias, version)
        except MlflowException as error:
            raise BadInputError(
                f"{self.model_name}: the history in {self.storage.path(_FOLDER)} names version {champion.version} as "
                f"champion, but the registry in {client.tracking_uri} does not fit: {error.message}. "
                "Correct tracking.uri or store.url: they do not belong together"
            ) from error

    def _everything(self) -> list[HistoryRecord]:
        names = [name for name in self.storage.list(_FOLDER) if name.endswith(".json")]
        return [HistoryRecord.model_validate_json(self.storage.read(f"{_FOLDER}/{name}")) for name in names]


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


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"
