"""The server against its own OpenAPI document: no 5xx, and every answer is one that the document describes."""

from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from openapi_spec_validator import validate
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.served import app_of, serving, write_reward_model

EXAMPLES = 30
OPERATIONS = [
    ("POST", "/v1/decide"),
    ("POST", "/v1/score"),
    ("POST", "/score"),
    ("GET", "/v1/model"),
    ("GET", "/health"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
]


@pytest.fixture(scope="module")
def document_url(tiny_base: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    scorer = write_reward_model(tmp_path_factory.mktemp("reward_model"), tiny_base, threshold=0.0)
    with serving(app_of(scorer, "digest", max_responses=64)) as address:
        yield f"{address}/openapi.json"


@pytest.fixture(scope="module")
def served_api(document_url: str) -> Any:
    # schemathesis does not know 413, the answer to more rows than one request may have.
    wrong = {"negative_data_rejection": {"expected-statuses": [400, 413, 415, 422]}}
    return schemathesis.openapi.from_url(document_url, config=SchemathesisConfig.from_dict({"checks": wrong}))


@pytest.mark.parametrize(
    ("method", "path", "mode"),
    [(*operation, GenerationMode.POSITIVE) for operation in OPERATIONS]
    # What takes nothing can be given nothing wrong.
    + [(*operation, GenerationMode.NEGATIVE) for operation in OPERATIONS if operation[0] == "POST"],
)
def test_every_answer_is_as_described(served_api: Any, method: str, path: str, mode: GenerationMode) -> None:
    @given(case=served_api[path][method].as_strategy(generation_mode=mode))
    @settings(
        max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    def every_case(case: schemathesis.Case) -> None:
        # That two lists are equally long is no rule that a schema can hold.
        excluded = [positive_data_acceptance] if path == "/score" else []
        case.call_and_validate(timeout=30, excluded_checks=excluded)

    every_case()


def test_the_document_is_valid_and_complete(document_url: str) -> None:
    document = requests.get(document_url, timeout=10).json()
    validate(document)
    decide = document["paths"]["/v1/decide"]["post"]
    assert decide["operationId"] == "decide"
    assert {"200", "400", "413", "422", "429", "503", "504"} <= set(decide["responses"])
    assert decide["responses"]["429"]["headers"]["Retry-After"]
    assert document["components"]["schemas"]["DecideRequest"]["properties"]["rows"]["maxItems"] == 64
    found = [(method.upper(), path) for path, methods in document["paths"].items() for method in methods]
    assert sorted(found) == sorted(OPERATIONS)
    assert all(operation["operationId"] for path in document["paths"].values() for operation in path.values())
