"""Where mirrors of the kill suite live, read and damaged with code that shares nothing with the product."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from typing import TypeAlias

    from mypy_boto3_s3 import S3Client

__all__ = ["Bucket", "Directory", "Place", "Places", "open_client", "public_part"]

Places: TypeAlias = "Callable[[], Place]"
"""Makes an empty place each time."""


class Place(Protocol):
    """One storage."""

    @property
    def address(self) -> str:
        """What the product is told."""
        ...

    def read(self) -> dict[str, bytes]:
        """Return every object that a reader can see."""
        ...

    def write(self, key: str, body: bytes | None) -> None:
        """Put an object there, or remove it, behind everybody's back."""
        ...


class Directory:
    """A ``file:`` storage."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.address = f"file:{root}?fsync=off"

    def read(self) -> dict[str, bytes]:
        """Return every visible file; the names of the storage's own begin with a dot."""
        found = self._root.rglob("*") if self._root.exists() else ()
        files = {path.relative_to(self._root).as_posix(): path for path in found if path.is_file()}
        return {key: path.read_bytes() for key, path in files.items() if not key.startswith(".")}

    def write(self, key: str, body: bytes | None) -> None:
        """Put a file there, or remove it."""
        path = self._root / key
        if body is None:
            path.unlink()
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)


class Bucket:
    """A prefix of a bucket. Bytes are fetched once for each ETag that a key has."""

    def __init__(self, client: S3Client, *, bucket: str, prefix: str, address: str) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/"
        self._known: dict[tuple[str, str], bytes] = {}
        self.address = address

    def read(self) -> dict[str, bytes]:
        """Return every object below the prefix."""
        objects: dict[str, bytes] = {}
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix, PaginationConfig={"PageSize": 1000}
        )
        for item in (item for page in pages for item in page.get("Contents", ())):
            found = (item["Key"], item["ETag"])
            if found not in self._known:
                try:
                    answer = self._client.get_object(Bucket=self._bucket, Key=item["Key"])
                except self._client.exceptions.NoSuchKey:
                    continue  # removed since it was listed, by a request that its sender's death overtook
                self._known[found] = answer["Body"].read()
                assert len(self._known[found]) == answer["ContentLength"], item["Key"]
            objects[item["Key"].removeprefix(self._prefix)] = self._known[found]
        return objects

    def write(self, key: str, body: bytes | None) -> None:
        """Put an object there, or remove it."""
        full = self._prefix + key
        if body is None:
            self._client.delete_object(Bucket=self._bucket, Key=full)
        else:
            self._client.put_object(Bucket=self._bucket, Key=full, Body=body)


@contextmanager
def open_client(endpoint: str, *, access_key: str, secret_key: str) -> Iterator[S3Client]:
    """Open a client of a server on loopback, which asks for no checksum framing: one server would store it."""
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required"),
    )
    try:
        yield client
    finally:
        client.close()


def public_part(objects: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the packages of a mirror: what must be the same however it came about."""
    return {key: body for key, body in objects.items() if key.startswith("npm/")}
