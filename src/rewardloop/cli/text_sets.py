"""The texts that a configuration names, kept in the store, where every step finds them by their digest.

In: settings. Out: name -> digest; without the section ``align`` there are none.
"""

from pathlib import Path

from rewardloop.config import Settings
from rewardloop.errors import BadInputError
from rewardloop.storage import Storage


def keep_text_sets(settings: Settings, storage: Storage) -> dict[str, str]:
    """Read every named file and put its rows into the store.

    Raises:
        BadInputError: a file cannot be read, or a row of it; the setting that names it is named.
    """
    if settings.align is None:
        return {}
    # Reading texts takes the scorer's idea of a prompt, and with it torch: a second that other commands need not pay.
    from rewardloop.feedback.text_sets import Kind, keep_text_set, read_text_set

    named: dict[str, tuple[str | None, Kind]] = {
        "align.prompts": (settings.align.prompts, "prompts"),
        "sft.demonstrations": (settings.sft.demonstrations, "demonstrations"),
        "policy_evaluation.toxicity_prompts": (settings.policy_evaluation.toxicity_prompts, "prompts"),
        "policy_evaluation.reference_texts": (settings.policy_evaluation.reference_texts, "texts"),
    }
    digests = {}
    for setting, (file, kind) in named.items():
        try:
            limit = settings.store.max_read_bytes
            digest = keep_text_set(storage, read_text_set(Path(file), kind, limit=limit)) if file else ""
        except BadInputError as error:
            raise BadInputError(f"{setting}: {error}") from error
        digests[setting.rpartition(".")[2]] = digest
    return digests
