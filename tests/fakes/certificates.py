"""A certificate authority of a test's own, and a leaf for 127.0.0.1."""

import datetime as dt
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def issue(folder: Path) -> tuple[Path, Path]:
    """A certificate authority's file, and a file with a leaf of it and the leaf's key."""
    now = dt.datetime.fromtimestamp(folder.stat().st_mtime, dt.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority")])
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    certificates = []
    for key, is_authority in zip(keys, (True, False), strict=True):
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        certificates.append(
            x509.CertificateBuilder()
            .subject_name(name if is_authority else x509.Name([]))
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
            .add_extension(x509.SubjectAlternativeName([address]), critical=False)
            .sign(keys[0], hashes.SHA256())
        )
    authority, leaf = (c.public_bytes(serialization.Encoding.PEM) for c in certificates)
    key = keys[1].private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / "ca.pem").write_bytes(authority)
    (folder / "leaf.pem").write_bytes(leaf + key)
    return folder / "ca.pem", folder / "leaf.pem"
