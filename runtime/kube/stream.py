"""The open answer to a watch: lines as they arrive, and a way to wake whoever reads them."""

from collections.abc import Generator
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from urllib3 import HTTPResponse
from urllib3.exceptions import ReadTimeoutError

from runtime.kube.errors import LostPlaceError, translated

_CHUNK_BYTES: Final = 64 * 1024


class Stream:
    """Lines of a watch. Closing it closes the connection: half an answer is of no use to others."""

    def __init__(self, response: HTTPResponse, what: str, silence_seconds: float) -> None:
        self._response = response
        self._what = what
        self._silence_seconds = silence_seconds
        if response.connection is not None and response.connection.sock is not None:
            response.connection.sock.settimeout(silence_seconds)

    def batches(self) -> Generator[tuple[bytes, ...]]:
        """Whole lines, as many as have arrived; a half line waits for its rest, or is dropped.

        Ends when the server ends the answer. Raises `UnavailableError` where the connection breaks,
        `LostPlaceError` where nothing came for `silence_seconds`.
        """
        rest = b""
        while chunk := self._read():
            *lines, rest = (rest + chunk).split(b"\n")
            if whole := tuple(line for line in lines if line.strip()):
                yield whole

    def interrupt(self) -> None:
        """Wake a reader in another thread; it sees a broken connection."""
        with suppress(OSError, ValueError, RuntimeError):  # it is closed, or ended, just now
            self._response.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with suppress(OSError):
            self._response.close()

    def _read(self) -> bytes:
        with translated(self._what):
            try:
                return self._response.read1(_CHUNK_BYTES)
            except ReadTimeoutError as error:
                raise LostPlaceError(
                    f"{self._what}: silent for {self._silence_seconds:g} s"
                ) from error
