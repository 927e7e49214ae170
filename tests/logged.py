"""Logged decisions for tests, written as ``rewardloop serve`` writes them."""

from datetime import datetime
from typing import Any

from rewardloop.evidence.decisions import DecisionRecord
from rewardloop.records import normalize_text, prompt_key, text_digest
from rewardloop.storage import Storage


def decision(
    at: datetime, response: str = "Good.", prompt: str = "", *, version: str = "3", **changes: Any
) -> DecisionRecord:
    """One accepted answer; texts are kept with ``texts=True``."""
    turns = [{"role": "user", "content": prompt}] if prompt else []
    texts = {"prompt": turns, "response": response} if changes.pop("texts", False) else {}
    known: dict[str, Any] = {
        "at": at.isoformat(),
        "request_id": "r",
        "model_version": version,
        "prompt_hash": prompt_key((turn["role"], turn["content"]) for turn in turns),
        "response_hash": text_digest(normalize_text(response)),
        "prompt_characters": len(prompt),
        "response_characters": len(response),
        "score": 1.0,
        "decision": "accept",
        "threshold": 0.5,
    }
    return DecisionRecord.model_validate(known | texts | changes)


def write_decisions(storage: Storage, name: str, *lines: DecisionRecord | str) -> None:
    """One file of the log: ``name`` is DATE/FILE.jsonl; a text is a line as it is."""
    text = "".join(f"{line if isinstance(line, str) else line.model_dump_json()}\n" for line in lines)
    storage.write(f"decisions/{name}", text.encode())
