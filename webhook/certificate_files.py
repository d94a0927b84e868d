"""A certificate from two files: cert-manager's in a cluster, anybody's without one.

They are read again every `LOOK_SECONDS`. A pair that cannot be served (half of it replaced, for
example) is told once and leaves the one in force.
"""

import asyncio
from pathlib import Path
from typing import Final

from certs.serving import ServingCertificate, UnfitCertificateError
from runtime.logs import get_logger
from webhook.serving import ServingError
from webhook.turns import take_turns

LOOK_SECONDS: Final = 30.0
_log = get_logger()


class CertificateFiles:
    """Shows what the files hold. Both are PEM, the key without a passphrase."""

    def __init__(self, certificate: ServingCertificate, chain: Path, key: Path) -> None:
        self._certificate = certificate
        self._chain = chain
        self._key = key
        self._complaint = ""

    def load(self) -> None:
        """Show the files' certificate. Raises `ServingError` for one that cannot be served."""
        self._show(*self._read())

    async def run(self, stop: asyncio.Event) -> None:
        """Look again until asked to stop."""
        await take_turns(self._look, stop)

    async def _look(self) -> float:
        try:
            self._show(*await asyncio.to_thread(self._read))
        except ServingError as error:
            if self._complaint != str(error):
                _log.error("certificate not loaded", error=str(error))
            self._complaint = str(error)
        else:
            self._complaint = ""
        return LOOK_SECONDS

    def _read(self) -> tuple[bytes, bytes]:
        return _content(self._chain), _content(self._key)

    def _show(self, chain: bytes, key: bytes) -> None:
        try:
            is_new = self._certificate.load(chain, key)
        except UnfitCertificateError as error:
            raise ServingError(
                f"{self._chain} and {self._key} are no certificate and its key;"
                " accepted: a PEM pair"
            ) from error
        if is_new:
            _log.info("certificate loaded", file=str(self._chain))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ServingError(f"{path} cannot be read: {error.strerror}") from error
