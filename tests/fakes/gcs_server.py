"""A bucket of Google Cloud Storage on fake-gcs-server."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from tests.fakes.servers import free_port, installed, running


@contextmanager
def fake_gcs(folder: Path) -> Iterator[str]:
    """Asks for no credentials."""
    program, port = installed("fake-gcs-server"), free_port()
    command = [str(program), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port)]
    command += ["-backend", "memory", "-public-host", f"127.0.0.1:{port}"]
    with running(command, port, folder / "log") as url:
        yield url


class GcsBucket:
    """A bucket of one test's own."""

    def __init__(self, url: str, name: str) -> None:
        self.url = url
        self.name = name
        self.client: Any = storage.Client(
            project="test",
            credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]  # google's
            client_options={"api_endpoint": url},
        )
        self.bucket = self.client.create_bucket(name)

    def close(self) -> None:
        self.client.close()

    def put(self, objects: Mapping[str, bytes]) -> None:
        """Have these objects and no others."""
        for blob in list(self.bucket.list_blobs()):
            if blob.name not in objects:
                blob.delete()
        for name, content in objects.items():
            self.bucket.blob(name).upload_from_string(content)
