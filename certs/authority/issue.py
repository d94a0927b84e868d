"""Makes authorities and leaves: P-256, with every extension that a strict verifier asks for.

An API server is content with less; `cryptography` and newer Pythons are not. A successor's validity
covers its predecessor's, so that no clock, however wrong, replaces what holds by what does not.
"""

import datetime as dt
from collections.abc import Sequence
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certs.authority.material import Authority, Key, Leaf

AUTHORITY_LIFE: Final = dt.timedelta(days=360)
LEAF_LIFE: Final = dt.timedelta(days=30)
SLACK: Final = dt.timedelta(hours=1)  # clocks of a cluster differ

_AUTHORITY_NAME: Final = "larder authority"
_LEAF_NAME: Final = "larder webhook"
_SIGNATURE: Final = hashes.SHA256()


def make_authority(now: dt.datetime, predecessor: Authority | None = None) -> Authority:
    """A new authority, valid from an hour ago."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(_AUTHORITY_NAME)
    start, end = now - SLACK, now + AUTHORITY_LIFE
    if predecessor:
        start = min(start, predecessor.certificate.not_valid_before_utc)
        end = max(end, predecessor.certificate.not_valid_after_utc)
    certificate = (
        _builder(name, name, key, start, end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, _SIGNATURE)
    )
    return Authority(certificate, key)


def make_leaf(
    authority: Authority, names: Sequence[str], now: dt.datetime, predecessor: Leaf | None = None
) -> Leaf:
    """A new leaf for these DNS names, valid from when its authority is; it never outlives it."""
    if authority.key is None:
        raise ValueError("an authority without its key cannot sign")
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = authority.certificate
    certificate = (
        _builder(
            _name(_LEAF_NAME),
            issuer.subject,
            key,
            issuer.not_valid_before_utc,
            end_of_leaf(authority, now, predecessor),
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()),
            critical=False,
        )
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False
        )
        .sign(authority.key, _SIGNATURE)
    )
    return Leaf(certificate, key)


def end_of_leaf(
    authority: Authority, now: dt.datetime, predecessor: Leaf | None = None
) -> dt.datetime:
    """When a leaf that this authority signs now would end."""
    end = now + LEAF_LIFE
    if predecessor:
        end = max(end, predecessor.certificate.not_valid_after_utc)
    return min(end, authority.certificate.not_valid_after_utc)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: Key, start: dt.datetime, end: dt.datetime
) -> x509.CertificateBuilder:
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
