"""Whether an image is in its registry, asked as a container engine asks: for the manifest's head, with a guest's token.

In: the name of an image. Out: a ``Finding``; a registry that wants credentials, or is silent, leaves the image "not
checked". (OCI Distribution Specification 1.1, "Pulling manifests"; the token as in Docker's "Token Authentication".)
"""

import re

from rewardloop.prerequisites import Finding

_KINDS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_LOCAL = ("localhost", "127.0.0.1")


def check_image(image: str, setting: str, *, timeout_seconds: float) -> Finding:
    """Ask the registry of ``image`` for its manifest."""
    import requests

    host, name, reference = parts(image)
    try:
        status = _status(host, name, reference, timeout_seconds)
    except (requests.RequestException, ValueError, KeyError) as error:
        kind = type(error).__name__
        return Finding("image", "not checked", f"{image}: its registry {host} was not reached from here ({kind})")
    if status == 200:
        return Finding("image", "ok", f"{image}: in its registry")
    if status == 404:
        return Finding("image", "failed", f"{image}: image not found in {host}", setting)
    return Finding("image", "not checked", f"{image}: {host} does not answer guests ({status})")


def parts(image: str) -> tuple[str, str, str]:
    """(registry, repository, tag or digest) of an image's name, as container engines complete it."""
    name, at, digest = image.partition("@")
    first, slash, rest = name.partition("/")
    if not (slash and ("." in first or ":" in first or first == "localhost")):
        first, rest = "registry-1.docker.io", name if slash else f"library/{name}"
    first = "registry-1.docker.io" if first == "docker.io" else first
    repository, colon, tag = rest.rpartition(":")
    if not colon:
        repository, tag = rest, "latest"
    return first, repository, digest if at else tag


def _status(host: str, name: str, reference: str, timeout_seconds: float) -> int:
    import requests

    scheme = "http" if host.partition(":")[0] in _LOCAL else "https"
    url = f"{scheme}://{host}/v2/{name}/manifests/{reference}"
    headers = {"Accept": ", ".join(_KINDS)}
    answer = requests.head(url, headers=headers, timeout=timeout_seconds)
    challenge = answer.headers.get("WWW-Authenticate", "")
    if answer.status_code == 401 and challenge.lower().startswith("bearer "):
        wanted = dict(_CHALLENGE.findall(challenge))
        asked = {key: value for key, value in wanted.items() if key in ("service", "scope")}
        given = requests.get(wanted["realm"], params=asked, timeout=timeout_seconds)
        if given.status_code != 200:
            return given.status_code
        token = given.json().get("token") or given.json()["access_token"]
        answer = requests.head(url, headers=headers | {"Authorization": f"Bearer {token}"}, timeout=timeout_seconds)
    return answer.status_code
