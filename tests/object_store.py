"""An object store for tests: a real S3 server on 127.0.0.1."""

from collections.abc import Iterator
from contextlib import contextmanager

import fsspec
import pytest
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem


@contextmanager
def serving_bucket(name: str) -> Iterator[str]:
    """URL of an empty bucket; the environment leads everybody there meanwhile."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ACCESS_KEY_ID", "test")
            patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
            patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
            S3FileSystem.clear_instance_cache()  # others may have one of another server
            fsspec.filesystem("s3").mkdir(name)
            yield f"s3://{name}"
    finally:
        S3FileSystem.clear_instance_cache()
        server.stop()
