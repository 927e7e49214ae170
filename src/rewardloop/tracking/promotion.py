"""A version becomes the champion: by promotion, by a person's approval, or by a rollback.

In: a version, who decides and why. Out: the next record of the history, whose conditional creation is what serializes
everybody; MLflow's aliases follow (``projection``). Reward model and threshold move together: a version has one.
"""

from collections.abc import Callable, Mapping, Sequence

from rewardloop.errors import BadInputError, NotBlessedError
from rewardloop.evidence import Check
from rewardloop.storage import Storage
from rewardloop.tracking.history import ChampionChangedError, History, HistoryRecord, champions
from rewardloop.tracking.quick_look import RegistryAwayError, tags_of
from rewardloop.tracking.tags import AGAINST, BLESSED, FIRST, MANIFEST, REFERENCE, REMOVING, REWARD_MODEL, THRESHOLD

_POLICY = "-policy"

Compare = Callable[[str, str], Sequence[Check]]
"""(candidate's version, champion's version) -> the gate's checks of the one against the other."""


def promote(
    name: str,
    version: str,
    *,
    store: str,
    tracking_uri: str,
    who: str,
    why: str,
    compare: Compare,
    force: str | None = None,
) -> HistoryRecord:
    """Make a blessed version the champion, if it is not worse than the champion of this moment.

    A version that was blessed against exactly that champion is promoted as it is; another is compared again, and once
    more whenever somebody else was faster. One that is the champion already keeps its record.

    Args:
        name: the registered model.
        version: a number.
        store: URL of the feedback store.
        tracking_uri: where MLflow is.
        who: decides.
        why: the reason, for people.
        compare: the gate against the champion of this moment.
        force: why it becomes the champion in spite of the gate; the record says so for ever.

    Raises:
        NotBlessedError: it was not blessed, or is worse than the champion of this moment.
        BadInputError: there is no such version, it was not registered by rewardloop, or a reason is empty.
    """
    check_reason(why)
    tags = _tags(name, version, tracking_uri)
    if force is not None:
        check_reason(force, "--force")
    elif tags.get(BLESSED) != "true":
        raise NotBlessedError(
            f"{name} version {version}: was not blessed by the gate and does not become the champion. To make it the "
            "champion all the same, with a mark in the history for ever: --force REASON"
        )
    history = History(Storage.open(store), name)
    while True:
        champion = history.champion()
        if champion is not None and champion.version == version:
            return champion
        if force is None:
            compared = _compare(name, version, champion, tags, History(history.storage, _reward_name(name)), compare)
            # Comparing takes a while, in which housekeeping may have removed the version.
            _tags(name, version, tracking_uri)
        else:
            compared = "nothing: forced"
        try:
            return history.append(
                "promote",
                version,
                expected=champion.version if champion else None,
                who=who,
                why=why if force is None else force,
                threshold=threshold_of(tags),
                compared_with=compared,
                forced=force is not None,
            )
        except ChampionChangedError:
            continue


def approve(
    name: str, version: str, *, by: str, reason: str, store: str, tracking_uri: str, compare: Compare
) -> HistoryRecord:
    """Promote a version that waits for a person; arguments and errors as of ``promote``.

    Raises:
        BadInputError: besides, the version does not wait: it was promoted before, or the champion is newer.
    """
    if not by.strip():
        raise BadInputError("approve: nobody's name was given; say who decides, with --by NAME")
    check_reason(reason)
    records = History(Storage.open(store), name).records()
    if not records or records[-1].version != version:  # the same approval again is no error
        why = not_waiting(version, records)
        if why:
            raise BadInputError(f"{name} version {version}: does not wait for approval: {why}")
    return promote(name, version, store=store, tracking_uri=tracking_uri, who=by, why=reason, compare=compare)


def rollback(name: str, *, store: str, tracking_uri: str, who: str, why: str, to: str | None = None) -> HistoryRecord:
    """Go back to the champion before (``history`` says by which rule), or to ``to``, which once was champion.

    Nothing is compared and MLflow is not imported: the answer is to be there in a second. The aliases follow when they
    are projected. While MLflow is away the history alone decides, with the threshold that the version had as champion:
    a bad model must not stay because two things broke at once.

    Raises:
        BadInputError: there is no such champion, it is no longer in the registry, or the reason is empty.
        ChampionChangedError: somebody else changed the champion meanwhile.
    """
    check_reason(why)
    history = History(Storage.open(store), name)
    records = history.records()
    stack = champions(records)
    if not stack:
        raise BadInputError(f"{name}: there is no champion yet, so there is nothing to go back from")
    current, before = stack[-1].version, sorted({one.version for one in records}, key=int)
    if to is None:
        if len(stack) < 2:
            left = [one for one in before if one != current]
            others = f"; versions that were rolled back from: {', '.join(left)} (--to VERSION)" if left else ""
            raise BadInputError(f"{name}: version {current} has no previous champion to go back to{others}")
        to = stack[-2].version
    elif to == current:
        raise BadInputError(f"{name}: version {to} is the champion already")
    elif to not in before:
        raise BadInputError(
            f"{name}: version {to} never was the champion; those that were: {', '.join(before)}. To make it the "
            f"champion: rewardloop promote {to}"
        )
    compared = "nothing: a rollback"
    try:
        threshold = threshold_of(_tags(name, to, tracking_uri, patient=False))
    except RegistryAwayError:
        threshold = next(one.threshold for one in reversed(records) if one.version == to)
        compared += ", while MLflow did not answer"
    return history.append(
        "rollback", to, expected=current, who=who, why=why, threshold=threshold, compared_with=compared
    )


def not_waiting(version: str, records: Sequence[HistoryRecord]) -> str | None:
    """Why a blessed version does not wait for approval; None when it does.

    It waits while it never was the champion and the champion is older: what was overtaken by a newer champion can still
    be promoted, but nobody is asked for it.
    """
    own = [one for one in records if one.version == version]
    if own:
        then = f"it was made the champion on {own[0].at} by {own[0].who}"
        return f"{then}; to go back to it: rewardloop rollback --to {version}"
    if records and int(records[-1].version) > int(version):
        return (
            f"the champion is the newer version {records[-1].version}; to promote it all the same: rewardloop promote "
            f"{version}"
        )
    return None


def check_reason(reason: str, where: str = "--reason") -> None:
    """Raise BadInputError for a reason that says nothing."""
    if not reason.strip():
        raise BadInputError(f"{where}: is empty; say why, for those who read the history later")


def threshold_of(tags: Mapping[str, str]) -> float | None:
    """The threshold that moves together with the version; None where none was certified."""
    return float(tags[THRESHOLD]) if THRESHOLD in tags else None


def _tags(name: str, version: str, tracking_uri: str, *, patient: bool = True) -> Mapping[str, str]:
    tags = tags_of(name, version, tracking_uri, patient=patient) if version.isdecimal() else None
    if tags is None:
        raise BadInputError(
            f"{name}: there is no version {version!r} in {tracking_uri}; rewardloop status lists the versions"
        )
    if MANIFEST not in tags:
        raise BadInputError(f"{name} version {version}: has no tag {MANIFEST}: it was not registered by rewardloop")
    if REMOVING in tags:
        raise BadInputError(
            f"{name} version {version}: is being removed by rewardloop gc (since {tags[REMOVING]}); to keep it, wait "
            f"until gc has ended, then delete the tag {REMOVING}"
        )
    return tags


def _compare(
    name: str,
    version: str,
    champion: HistoryRecord | None,
    tags: Mapping[str, str],
    reward_model: History,
    compare: Compare,
) -> str:
    """What the version was compared with, once it has passed."""
    if name.endswith(_POLICY):
        return _check_aligned(name, version, tags, reward_model)
    if champion is None or champion.version == tags.get(AGAINST):
        return champion.version if champion else "no champion: first version"
    failed = [check for check in compare(version, champion.version) if not check.passed]
    if failed:
        raise NotBlessedError(
            f"{name} version {version}: does not become the champion: it was blessed against "
            f"{_named(tags.get(AGAINST))}, and compared with version {champion.version}, the champion now, it fails: "
            f"{' '.join(check.reason for check in failed)} --force REASON overrides that, with a mark in the history"
        )
    return champion.version


def _check_aligned(name: str, version: str, tags: Mapping[str, str], reward_model: History) -> str:
    champion = reward_model.champion()
    aligned_to = tags.get(REWARD_MODEL, "no reward model")
    if champion is None or aligned_to != f"models:/{reward_model.model_name}/{champion.version}":
        now = f"version {champion.version}" if champion else "none"
        raise NotBlessedError(
            f"{name} version {version}: is aligned to {aligned_to}, but the champion of {reward_model.model_name} is "
            f"{now}; promote that first, or run again. --force REASON overrides that, with a mark in the history"
        )
    return REFERENCE


def _reward_name(name: str) -> str:
    return f"{name.removesuffix(_POLICY)}-reward" if name.endswith(_POLICY) else name


def _named(version: str | None) -> str:
    return "no champion" if version is None or version == FIRST else f"version {version}"
