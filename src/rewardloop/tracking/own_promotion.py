"""Whether a run that was cut short had already made its version the champion.

In: the history, and the versions' tags in the registry. Out: that promotion, whose ``previous`` is the champion that
the run was compared with: a run that goes on is judged against that one, not against its own version.
"""

from rewardloop.storage import Storage
from rewardloop.tracking.history import History, HistoryRecord

RUN_TAG = "rewardloop_run_id"
"""Tag of a version that names the run it was registered by."""


def promotion_by_run(history: History, run_id: str, tracking_uri: str) -> HistoryRecord | None:
    """The record by which a version of this run first became the champion, or None.

    Args:
        history: of the run's reward model.
        run_id: ``RunRecord.run_id``.
        tracking_uri: what ``connect`` returned.
    """
    promoted = [record for record in history.records() if record.action == "promote"]
    if not promoted:
        return None
    from rewardloop.tracking.registry import find

    version = find(history.model_name, {RUN_TAG: run_id}, tracking_uri)
    return next((record for record in promoted if record.version == version), None)


def champion_now(store: str, organization: str, *, compared_with: str | None, run_id: str | None) -> str | None:
    """The champion of this moment; the one before it where it is this very run's own.

    Args:
        store: URL of the feedback store.
        organization: as in the configuration.
        compared_with: the champion that the candidate was compared with; where that still is the champion, MLflow is
            not asked.
        run_id: the run; None outside one.
    """
    history = History(Storage.open(store), f"{organization}-reward")
    champion = history.champion()
    now = champion.version if champion else None
    if run_id is None or now == compared_with:
        return now
    from rewardloop.tracking.runs import current_run

    run = current_run()
    own = promotion_by_run(history, run_id, run[0]) if run else None
    return own.previous if own else now
