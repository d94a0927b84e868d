"""A serving certificate for one demo: signed by itself, for 127.0.0.1, gone with its directory.

<directory>/tls.crt   the certificate, and what clients trust
<directory>/tls.key   its private key
"""

import datetime as dt
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from runtime.clock import Clock

HOST: Final = "127.0.0.1"
_SLACK: Final = dt.timedelta(hours=1)
_LIFETIME: Final = dt.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Certificate:
    """Where a certificate and its key lie."""

    certificate: Path
    key: Path

    def client(self) -> ssl.SSLContext:
        """A client's side that trusts this certificate and nothing else."""
        return ssl.create_default_context(cafile=self.certificate)


def make_certificate(directory: Path, clock: Clock) -> Certificate:
    """Make a key and its certificate in a directory that exists; valid for a day."""
    made = Certificate(directory / "tls.crt", directory / "tls.key")
    key = ec.generate_private_key(ec.SECP256R1())
    made.certificate.write_bytes(_signed(key, clock).public_bytes(serialization.Encoding.PEM))
    made.key.touch(mode=0o600)
    made.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return made


def _signed(key: ec.EllipticCurvePrivateKey, clock: Clock) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "larder demo")])
    now = dt.datetime.fromtimestamp(clock.now(), dt.UTC)
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,  # it is its own authority
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    host = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))])
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SLACK)
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(host, critical=False)
        .sign(key, hashes.SHA256())
    )
