"""What the tests of the feedback package share."""

from pathlib import Path

import pytest

from rewardloop.config import Settings
from rewardloop.feedback.store import FeedbackStore

KEY = b"a labeler key of the tests"


@pytest.fixture
def settings() -> Settings:
    return Settings.model_validate(
        {"organization": "acme", "model": {"base": "random:tiny"}, "splits": {"golden": 0.25, "anchors": 3}}
    )


@pytest.fixture
def store(tmp_path: Path) -> FeedbackStore:
    return FeedbackStore.open(str(tmp_path / "store"))


@pytest.fixture
def key() -> bytes:
    return KEY
