"""Registered versions and champions, as the status shows them.

In: the history and the registry. Out: a line per version, newest first, and one per champion.
"""

from collections.abc import Mapping, Sequence

from rewardloop.errors import RewardloopError
from rewardloop.operation.status_report import ChampionLine, VersionLine
from rewardloop.storage import Storage
from rewardloop.tracking.history import History, HistoryRecord, rolled_back
from rewardloop.tracking.promotion import not_waiting, threshold_of
from rewardloop.tracking.tags import BLESSED, ROLLED_BACK


def champion_lines(names: Sequence[str], storage: Storage) -> list[ChampionLine]:
    """Of every model that has a champion; MLflow is not asked."""
    lines = []
    for name in names:
        history = History(storage, name)
        champion = history.champion()
        if champion is not None:
            lines.append(
                ChampionLine(
                    model=name,
                    version=champion.version,
                    previous=history.previous(),
                    threshold=champion.threshold,
                    since=champion.at,
                    who=champion.who,
                    why=champion.why,
                    action=champion.action,
                    forced=champion.forced,
                )
            )
    return lines


def version_lines(
    names: Sequence[str], storage: Storage, tracking_uri: str | None, problems: list[str]
) -> list[VersionLine]:
    """Of every registered version; aliases and flags are repaired before.

    Args:
        names: the reward model, then the policy.
        storage: of the feedback store.
        tracking_uri: what ``connect`` returned; None: MLflow did not answer.
        problems: what could not be read is added.
    """
    if tracking_uri is None:
        return []
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    from rewardloop.tracking.outage import first_line
    from rewardloop.tracking.projection import project
    from rewardloop.tracking.registry import versions

    lines = []
    try:
        project(names[0], storage, tracking_uri)
    except RewardloopError as error:
        problems.append(first_line(error))
    client = MlflowClient(tracking_uri=tracking_uri)
    for name in names:
        try:
            known = versions(client, name)
            aliases = client.get_registered_model(name).aliases if known else {}
        except MlflowException as error:
            problems.append(first_line(error))
            continue
        records = History(storage, name).records()
        for one in sorted(known, key=lambda version: int(version.version), reverse=True):
            here = [alias for alias, version in aliases.items() if str(version) == str(one.version)]
            lines.append(_line(name, str(one.version), one.tags, sorted(here), records))
    return lines


def _line(
    name: str, version: str, tags: Mapping[str, str], aliases: list[str], records: Sequence[HistoryRecord]
) -> VersionLine:
    blessed = tags.get(BLESSED) == "true"
    own = [record for record in records if record.version == version and record.action == "promote"]
    return VersionLine(
        model=name,
        version=version,
        aliases=aliases,
        threshold=threshold_of(tags),
        blessed=blessed,
        accuracy=float(tags["accuracy"]) if "accuracy" in tags else None,
        corpus=tags.get("corpus_digest"),
        waiting=blessed and not_waiting(version, records) is None,
        forced=bool(own) and own[-1].forced,
        rolled_back=rolled_back(records).get(version),
        reward_model_rolled_back=int(tags[ROLLED_BACK]) if ROLLED_BACK in tags else None,
    )
