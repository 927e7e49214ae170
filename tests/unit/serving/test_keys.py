"""API keys: only digests are kept, and a damaged file lets nobody in by accident."""

import hashlib
from pathlib import Path

import pytest

from rewardloop.errors import BadInputError
from rewardloop.serving.keys import ApiKeys, new_key


def test_a_new_key_is_known_by_its_line(tmp_path: Path) -> None:
    (key, line), (other, other_line) = new_key("search"), new_key("chat")
    assert key != other
    assert line == f"search {hashlib.sha256(key.encode()).hexdigest()}"
    path = tmp_path / "keys"
    path.write_text(f"# who may ask\n\n{line}\n{other_line}\n")
    keys = ApiKeys.read(path)
    assert (keys.name_of(key), keys.name_of(other)) == ("search", "chat")
    assert keys.name_of(key[:-1]) is None
    assert keys.name_of("") is None
    assert key not in path.read_text()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("search secret\n", "line 1: no line as rewardloop serve-key prints it"),
        ("a " + "0" * 64 + "\na " + "1" * 64, "line 2: a name that was given before"),
        ("# nobody yet\n", "holds no key; add the line that rewardloop serve-key NAME prints"),
    ],
)
def test_a_file_that_is_wrong(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "keys"
    path.write_text(content)
    with pytest.raises(BadInputError, match=says):
        ApiKeys.read(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"REWARDLOOP_API_KEYS_FILE: .*none cannot be read: No such file"):
        ApiKeys.read(tmp_path / "none")


@pytest.mark.parametrize("name", ["", "two words", "#comment"])
def test_a_name_that_no_line_can_hold(name: str) -> None:
    with pytest.raises(BadInputError, match="expected a name without white space"):
        new_key(name)
