"""The certificate that a running server shows: replaced between two handshakes, never ruined.

The server is given one context for its whole life. It has no certificate itself: at each handshake
it hands over to the newest context that was loaded completely. A pair that does not load leaves
the last one in force; loading into a live context instead would ruin it at a failure, and would go
on showing an old certificate whose key is of another type. Open connections keep what they have.
The key is never written to a disk.
"""

import os
import ssl
from typing import Final

from larder.errors import LarderError

_NOT_READY: Final = ssl.ALERT_DESCRIPTION_INTERNAL_ERROR


class UnfitCertificateError(LarderError):
    """A certificate and key that cannot be served; the ones before stay in force."""


class ServingCertificate:
    """Give `context` to the server; `load` in the thread of its event loop."""

    def __init__(self) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.sni_callback = self._hand_over
        self._current: ssl.SSLContext | None = None
        self._pair = b""

    def load(self, certificate_pem: bytes, key_pem: bytes) -> bool:
        """Show this certificate from the next handshake on; False: it is the one shown already.

        Raises `UnfitCertificateError`, and changes nothing, if they are not a pair.
        """
        pair = certificate_pem + key_pem
        if pair == self._pair:
            return False
        self._current = _context_with(pair)
        self._pair = pair
        return True

    def _hand_over(
        self, handshake: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext
    ) -> int | None:
        if self._current is None:
            return _NOT_READY
        handshake.context = self._current
        return None


def _context_with(pair: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    descriptor = os.memfd_create("certificate")  # the library reads files only; this one is memory
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(pair)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password=lambda: "")  # asks nobody
    except ssl.SSLError as error:
        raise UnfitCertificateError(
            "the certificate and its key cannot be served; accepted: a PEM pair"
        ) from error
    finally:
        os.close(descriptor)
    return context
