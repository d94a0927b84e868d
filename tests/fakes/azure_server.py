"""A container of Azure Blob Storage on azurite, which checks signatures."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from azure.storage.blob import BlobServiceClient, ContentSettings

from tests.fakes.servers import free_port, installed, running

ACCOUNT = "devstoreaccount1"
ACCOUNT_KEY = "c2VzYW1lLW9wZW4tc2VzYW1lLW9mLWFuLWFjY291bnQ="


@contextmanager
def azurite(folder: Path) -> Iterator[str]:
    """The URL of the account."""
    program, port = installed("azurite-blob"), free_port()
    command = [str(program), "--blobHost", "127.0.0.1", "--blobPort", str(port), "--silent"]
    command += ["--location", str(folder), "--skipApiVersionCheck", "--disableTelemetry"]
    accounts = {"AZURITE_ACCOUNTS": f"{ACCOUNT}:{ACCOUNT_KEY}"}
    with running(command, port, folder / "log", accounts) as url:
        yield f"{url}/{ACCOUNT}"


class Container:
    """A container of one test's own; `access` is what the public may."""

    def __init__(self, url: str, name: str, access: str | None = None) -> None:
        self.url = url
        self.name = name
        credential = {"account_name": ACCOUNT, "account_key": ACCOUNT_KEY}
        self.service = BlobServiceClient(url, credential=credential)
        self.client = self.service.create_container(name, public_access=access)

    def close(self) -> None:
        self.service.close()

    def put(self, blobs: Mapping[str, bytes]) -> None:
        """Have these blobs and no others."""
        for blob in list(self.client.list_blobs()):
            if blob.name not in blobs:
                self.client.delete_blob(blob.name)
        for name, content in blobs.items():
            self.add(name, content)

    def add(self, name: str, content: bytes, md5: bytes | None = None) -> None:
        settings = ContentSettings(content_md5=bytearray(md5)) if md5 else None
        self.client.upload_blob(name, content, overwrite=True, content_settings=settings)
