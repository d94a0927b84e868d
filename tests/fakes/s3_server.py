"""An S3 bucket on a real server: versitygw, which keeps what it is given on disk, or moto."""

import base64
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import google_crc32c
from botocore.config import Config

from tests.fakes.servers import free_port, installed, running

ACCESS_KEY = "AKIALARDERTESTKEY"
SECRET_KEY = "sesame+open/sesame+secret"  # noqa: S105 - of servers that tests start
REGION = "eu-test-1"


@contextmanager
def versitygw(folder: Path) -> Iterator[str]:
    """Keys are file names to it, so that odd ones are moto's."""
    program, port = installed("versitygw"), free_port()
    (folder / "buckets").mkdir()
    command = [str(program), "--port", f"127.0.0.1:{port}", "--region", REGION]
    command += ["posix", str(folder / "buckets")]
    keys = {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY}
    with running(command, port, folder / "log", keys) as url:
        yield url


@contextmanager
def moto(folder: Path) -> Iterator[str]:
    """Checks no signature and copies an object for each range: for small ones."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with running(command, port, folder / "log") as url:
        yield url


def s3_client(url: str, **config: Any) -> Any:
    """A client for a server of these tests."""
    return boto3.client(
        "s3",
        endpoint_url=url,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        region_name=REGION,
        config=Config(s3={"addressing_style": "path"}, **config),
    )


def crc32c(content: bytes) -> str:
    """What boto3 does not make without a library of AWS's; the store compares it."""
    return base64.b64encode(google_crc32c.value(content).to_bytes(4)).decode()


class Bucket:
    """A bucket of one test's own."""

    def __init__(self, url: str, name: str) -> None:
        self.url = url
        self.name = name
        self.client: Any = s3_client(url)
        location = {"LocationConstraint": REGION}
        self.client.create_bucket(Bucket=name, CreateBucketConfiguration=location)

    def close(self) -> None:
        self.client.close()

    def put(self, objects: Mapping[str, bytes]) -> None:
        """Have these objects and no others."""
        listed = self.client.list_objects_v2(Bucket=self.name).get("Contents", [])
        for key in {found["Key"] for found in listed} - objects.keys():
            self.client.delete_object(Bucket=self.name, Key=key)
        for key, content in objects.items():
            self.add(key, content)

    def add(self, key: str, content: bytes, **more: Any) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=content, **more)

    def add_in_parts(self, key: str, parts: Sequence[bytes], **more: Any) -> None:
        """Have an object of these parts; stores want each but the last to have 5 MiB."""
        upload = self.client.create_multipart_upload(Bucket=self.name, Key=key, **more)
        names = {"Bucket": self.name, "Key": key, "UploadId": upload["UploadId"]}
        done = []
        for number, part in enumerate(parts, start=1):
            if more.get("ChecksumAlgorithm") == "CRC32C":
                more["ChecksumCRC32C"] = crc32c(part)
            said = self.client.upload_part(**names, PartNumber=number, Body=part, **more)
            kept = {name: said[name] for name in said if name.startswith(("ETag", "Checksum"))}
            done.append({**kept, "PartNumber": number})
        self.client.complete_multipart_upload(**names, MultipartUpload={"Parts": done})
