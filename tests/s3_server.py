"""An S3 server on the loopback address, and a bucket in it; what it stores is held in its memory."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from recsys_spark.warehouse.location import ObjectPath, arrow_files, locate

# What any S3 server but AWS's takes for a key, where a test starts it itself.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests", "AWS_EC2_METADATA_DISABLED": "true"}
REGION = "eu-central-1"

_numbers = count(1)


@contextmanager
def s3_server() -> Iterator[str]:
    """The endpoint of a server that runs inside the block, in a thread of this process."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    """The endpoint of the one server of a process of the test run."""
    with s3_server() as found:
        yield found


@pytest.fixture
def s3_root(endpoint: str) -> ObjectPath:
    """A warehouse's place in a bucket of its own."""
    return new_bucket(endpoint) / "warehouse"


def new_bucket(endpoint: str) -> ObjectPath:
    """An empty bucket."""
    bucket = locate(f"s3://shop-{next(_numbers)}", endpoint, REGION)
    assert isinstance(bucket, ObjectPath)
    from pyarrow.fs import S3FileSystem

    host = endpoint.removeprefix("http://")
    S3FileSystem(endpoint_override=host, scheme="http", region=REGION, allow_bucket_creation=True).create_dir(
        bucket.name
    )
    return bucket


def copy_to(folder: Path, root: ObjectPath) -> None:
    """Copies all files of a folder, with their relative paths."""
    from pyarrow.fs import LocalFileSystem, copy_files

    files, key = arrow_files(root)
    copy_files(str(folder), key, LocalFileSystem(), files)
