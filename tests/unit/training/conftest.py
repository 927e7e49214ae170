"""What the tests of PPO share."""

from pathlib import Path

import pytest

from tests.policies import letters_base


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model whose tokens are letters."""
    return letters_base(tmp_path_factory.mktemp("letters"))
