"""Keys and pseudonyms of labelers."""

import hashlib
import hmac
import stat
from pathlib import Path

import pytest

from rewardloop.errors import BadInputError
from rewardloop.feedback.importers.base import LabelerId
from rewardloop.feedback.pseudonyms import labeler_key, pseudonym, pseudonymized_row


def test_a_pseudonym_is_a_keyed_hash() -> None:
    expected = hmac.new(b"key", b"anna", hashlib.sha256).hexdigest()[:16]
    assert pseudonym(b"key", "anna") == f"l_{expected}"
    assert pseudonym(b"yek", "anna") != pseudonym(b"key", "anna")


def test_a_pseudonym_stays_as_it_is() -> None:
    made = pseudonym(b"key", "anna")
    assert pseudonym(b"key", made) == pseudonym(b"yek", made) == made
    for other in (made.upper(), f"{made}0", made[:-1], f"{made}\n"):
        assert pseudonym(b"key", other) != other


def test_the_key_file_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "home" / "labeler.key"
    key = labeler_key(None, path)
    assert len(key) == 64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert labeler_key(None, path) == key


def test_the_environment_goes_first_and_touches_no_file(tmp_path: Path) -> None:
    path = tmp_path / "labeler.key"
    assert labeler_key("sixteen characters", path) == b"sixteen characters"
    assert not path.exists()


@pytest.mark.parametrize("env", ["", "short", "  short after strip  "[:17]])
def test_a_short_key_is_refused(env: str, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="REWARDLOOP_LABELER_KEY: the labeler key has"):
        labeler_key(env, tmp_path / "labeler.key")


def test_marked_ids_in_raw_rows_are_replaced_in_keys_and_values() -> None:
    raw = {LabelerId("anna"): 3, "who": LabelerId("ben"), "labels": [{"labeler": LabelerId("cara")}], "text": "ben"}
    replaced = pseudonymized_row(raw, b"key")
    assert replaced == {
        pseudonym(b"key", "anna"): 3,
        "who": pseudonym(b"key", "ben"),
        "labels": [{"labeler": pseudonym(b"key", "cara")}],
        "text": "ben",
    }


def test_numbers_that_json_has_not_become_text() -> None:
    assert pseudonymized_row({"score": float("nan"), "other": [float("-inf"), 1.5]}, b"key") == {
        "score": "nan",
        "other": ["-inf", 1.5],
    }
