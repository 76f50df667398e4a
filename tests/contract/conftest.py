"""The in-process S3 that the contract suite talks to: moto, on a loopback port of its own."""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def moto_bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Iterator[str]]:
    """Yield an iterator of storage addresses, each of a prefix of its own in a bucket of an in-process moto."""
    from boto3 import client  # noqa: PLC0415 - only where a test asks for it
    from botocore.config import Config  # noqa: PLC0415
    from moto.server import ThreadedMotoServer  # noqa: PLC0415

    patch = pytest.MonkeyPatch()
    patch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")
    patch.setenv("AWS_CONFIG_FILE", str(tmp_path_factory.mktemp("aws") / "config"))
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    s3 = client("s3", endpoint_url=endpoint, region_name="us-east-1", config=Config(s3={"addressing_style": "path"}))
    s3.create_bucket(Bucket="contract")
    s3.close()
    try:
        yield (f"s3://contract/test-{n}?endpoint={endpoint}&region=us-east-1" for n in itertools.count())
    finally:
        server.stop()
        patch.undo()
