"""The reference of all settings is what the models say, and the page in the documents is that text."""

import re
from pathlib import Path

import pytest

from rewardloop.cli.config_reference import reference
from rewardloop.config import Settings, flatten, load_settings

PAGE = Path("docs/configuration.md")


@pytest.fixture(scope="module")
def text() -> str:
    return reference()


def test_the_page_is_current(text: str) -> None:
    assert PAGE.read_text(encoding="utf-8") == text, "rewardloop config reference > docs/configuration.md"


def test_every_setting_of_a_configuration_is_there(text: str) -> None:
    settings = load_settings(Path("conf/smoke.yaml")).settings
    names = {key.rsplit(".", 1)[-1] for key, value in flatten(settings.model_dump(mode="json")) if value != {}}
    assert len(names) > 150
    missing = {name for name in names if f"| `{name}` |" not in text and not re.search(rf"\.{name}(\[\])?\n", text)}
    assert missing <= {"review", "retries", "home", "tolerations", "volumes"} | set(Settings.model_fields)


def test_type_limits_default_and_words(text: str) -> None:
    lines = text.splitlines()
    assert any(line.startswith("| `alpha` | number, above 0, below 1 | `0.05` |") for line in lines), (
        "the threshold's own"
    )
    assert "| `base` | text | must be given | A hub id, a local directory, `package:NAME/FILE.gguf`" in text
    assert '| `sharding` | `ddp` or `fsdp` | `"ddp"` |' in text
    assert "## align\n\nHow a policy is aligned to the reward model" in text
    assert "Present: runs go on to align a policy to the new reward model. Absent by default." in text
