"""Responses of a registered policy, from a real registry."""

import json
from pathlib import Path

import pytest

from rewardloop.cli.sample_responses import sample_responses
from rewardloop.errors import BadInputError
from rewardloop.modeling.policy import PolicyInfo
from rewardloop.tracking.connection import connect
from rewardloop.tracking.flavors import POLICY
from rewardloop.tracking.manifest import write_manifest
from rewardloop.tracking.registration import register
from rewardloop.tracking.tags import MANIFEST


def test_a_registered_policy_is_sampled_by_version_and_alias(tmp_path: Path, tiny_base: str) -> None:
    uri = connect(None, tmp_path / "home", 5)
    folder = tmp_path / "made" / POLICY.folder
    PolicyInfo(base=tiny_base, start="base", plain_text=True).write(folder)
    same = {MANIFEST: write_manifest(folder)}
    register(
        folder, name="acme-policy", same=same, tags={}, tracking_uri=uri, parent_run_id=None, flavor=POLICY,
        verify=lambda model, where: 0.0,
    )  # fmt: skip
    config = tmp_path / "rewardloop.yaml"
    config.write_text(
        f"organization: acme\nhome: {tmp_path / 'home'}\nstore: {{url: {tmp_path / 'store'}}}\n"
        f"model: {{base: {tiny_base}}}\ntracking: {{uri: '{uri}'}}\nlabeling: {{max_new_tokens: 4}}\n"
    )
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "hello"}\n{"prompt": "why?"}\n')
    output = tmp_path / "out.jsonl"
    for version in ("1", "candidate"):  # the alias is the same version, so that all is there already
        sample_responses(prompts, output, 2, config, None, [f"models:/acme-policy/{version}"])
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    models = {response["model"] for line in lines for response in line["responses"]}
    assert (len(lines), models) == (2, {"models:/acme-policy/1"})
    with pytest.raises(BadInputError, match="acme-policy: no version or alias '7'"):
        sample_responses(prompts, tmp_path / "other.jsonl", 2, config, None, ["models:/acme-policy/7"])
    with pytest.raises(BadInputError, match="there is no champion yet"):
        sample_responses(prompts, tmp_path / "other.jsonl", 2, config, None, ["models:/acme-policy/champion"])
