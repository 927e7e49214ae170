"""Versions in a real registry without any files, for tests of what decides by tags alone."""

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException


def plant(
    tracking_uri: str, name: str, *, blessed: bool = True, against: str = "none", source: str = "nowhere", **tags: str
) -> str:
    """One more version of ``name``; its number."""
    client = MlflowClient(tracking_uri=tracking_uri)
    try:
        client.get_registered_model(name)
    except MlflowException:
        client.create_registered_model(name)
    known = {"manifest_digest": "e5" * 32, "blessed_against": against, "threshold": "0.5"}
    known |= {"blessed": "true"} if blessed else {}
    return str(client.create_model_version(name, source, tags=known | tags).version)


def aliases(tracking_uri: str, name: str) -> dict[str, str]:
    """Alias -> version."""
    found = MlflowClient(tracking_uri=tracking_uri).get_registered_model(name).aliases
    return {alias: str(version) for alias, version in found.items()}
