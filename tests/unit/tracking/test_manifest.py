"""Every byte of a version is accounted for."""

from pathlib import Path

import pytest

from rewardloop.errors import RewardloopError
from rewardloop.tracking.manifest import verify_manifest, write_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_bytes(b"\x00\x01")
    (tmp_path / "scoring.json").write_text("{}")
    return tmp_path


def test_unchanged_files_pass_and_equal_files_have_equal_digests(folder: Path) -> None:
    digest = write_manifest(folder)
    verify_manifest(folder, digest)
    assert write_manifest(folder) == digest


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("model/weights", b"\x00\x02", "weights.*changed"),
        ("model/weights", None, "weights.*missing"),
        ("model/more", b"", "more.*not part"),
        ("manifest.json", b"{}", "manifest.json"),
        ("manifest.json", None, "manifest.json"),
    ],
)
def test_the_file_that_differs_is_named(folder: Path, name: str, content: bytes | None, named: str) -> None:
    digest = write_manifest(folder)
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(RewardloopError, match=named):
        verify_manifest(folder, digest)
