"""What the Secret holds, as values.

    ca.crt            the authorities to trust, newest first, PEM; what `caBundle` is to be
    ca.key            the keys of those that may still sign, PEM; they never leave the Secret
    ca.published-at   when every configuration was first seen to publish the newest, RFC 3339
    tls.crt tls.key   the leaf that is served, and its key, PEM
    path              the unguessable first part of the admission paths

A part that cannot be read counts as missing, with a fault that names it; the others stay good.
"""

import datetime as dt
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NewType

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

Key = ec.EllipticCurvePrivateKey
Fingerprint = NewType("Fingerprint", bytes)

CA_CERTIFICATES: Final = "ca.crt"
CA_KEYS: Final = "ca.key"
PUBLISHED_AT: Final = "ca.published-at"
LEAF_CERTIFICATE: Final = "tls.crt"
LEAF_KEY: Final = "tls.key"
PATH: Final = "path"
OUR_KEYS: Final = (CA_CERTIFICATES, CA_KEYS, PUBLISHED_AT, LEAF_CERTIFICATE, LEAF_KEY, PATH)

_PATH: Final = re.compile(r"[a-z0-9]{32,63}")  # an API server takes nothing else in a path
_KEY_BLOCK: Final = re.compile(
    rb"-----BEGIN PRIVATE KEY-----.+?-----END PRIVATE KEY-----", re.DOTALL
)
_UNREADABLE: Final = (ValueError, TypeError, UnsupportedAlgorithm)


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate that verifies leaves; with a key it also signs them."""

    certificate: x509.Certificate
    key: Key | None = field(repr=False)

    @property
    def fingerprint(self) -> Fingerprint:
        """What tells it from every other certificate."""
        return _fingerprint(self.certificate)


@dataclass(frozen=True, slots=True)
class Leaf:
    """The certificate that is served, and its key."""

    certificate: x509.Certificate
    key: Key = field(repr=False)

    @property
    def certificate_pem(self) -> bytes:
        """The certificate, as TLS libraries load it."""
        return _pem(self.certificate)

    @property
    def key_pem(self) -> bytes:
        """The key, as TLS libraries load it."""
        return _key_pem(self.key)

    def is_signed_by(self, authority: Authority) -> bool:
        """Whether this authority's key made the signature."""
        try:
            self.certificate.verify_directly_issued_by(authority.certificate)
        except (InvalidSignature, *_UNREADABLE):
            return False
        return True


@dataclass(frozen=True, slots=True)
class Material:
    """Everything in the Secret that could be read. `authorities` are newest first."""

    authorities: tuple[Authority, ...] = ()
    published_at: dt.datetime | None = None
    leaf: Leaf | None = None
    path: str | None = field(default=None, repr=False)
    faults: tuple[str, ...] = ()


def read_material(data: Mapping[str, bytes]) -> Material:
    """Read a Secret's data, whatever it is; never raises."""
    faults: list[str] = []
    return Material(
        _read_authorities(data, faults),
        _read_published_at(data, faults),
        _read_leaf(data, faults),
        _read_path(data, faults),
        tuple(faults),
    )


def write_material(material: Material) -> dict[str, bytes]:
    """The Secret's data; reading it gives the same material."""
    data = {}
    if material.authorities:
        data[CA_CERTIFICATES] = bundle_of(material.authorities)
        data[CA_KEYS] = b"".join(_key_pem(a.key) for a in material.authorities if a.key)
    if material.published_at:
        data[PUBLISHED_AT] = material.published_at.isoformat().encode()
    if material.leaf:
        data[LEAF_CERTIFICATE] = material.leaf.certificate_pem
        data[LEAF_KEY] = material.leaf.key_pem
    if material.path:
        data[PATH] = material.path.encode()
    return data


def bundle_of(authorities: Sequence[Authority]) -> bytes:
    """The certificates, PEM: what `caBundle` is to be."""
    return b"".join(_pem(authority.certificate) for authority in authorities)


def fingerprints(bundle: bytes) -> frozenset[Fingerprint]:
    """Of the certificates in a bundle; of none where an API server could not read it either."""
    try:
        return frozenset(map(_fingerprint, x509.load_pem_x509_certificates(bundle)))
    except _UNREADABLE:
        return frozenset()


def _read_authorities(data: Mapping[str, bytes], faults: list[str]) -> tuple[Authority, ...]:
    if not data.get(CA_CERTIFICATES):
        return ()
    try:
        certificates = x509.load_pem_x509_certificates(data[CA_CERTIFICATES])
        publics = [_public(certificate.public_key()) for certificate in certificates]
        are_authorities = all(map(_is_authority, certificates))
    except _UNREADABLE:
        are_authorities, certificates, publics = False, [], []
    if not are_authorities:
        faults.append(f"{CA_CERTIFICATES} is not a list of authorities in PEM")
        return ()
    keys = {_public(key.public_key()): key for key in _read_keys(data.get(CA_KEYS, b""), faults)}
    return tuple(
        Authority(certificate, keys.get(public))
        for certificate, public in zip(certificates, publics, strict=True)
    )


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound:
        return False
    return constraints.value.ca


def _read_keys(pem: bytes, faults: list[str]) -> Iterable[Key]:
    for block in _KEY_BLOCK.findall(pem):
        if key := _read_key(block):
            yield key
        else:
            faults.append(f"{CA_KEYS} holds something else than keys of ours")


def _read_key(pem: bytes) -> Key | None:
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except _UNREADABLE:
        return None
    return key if isinstance(key, ec.EllipticCurvePrivateKey) else None


def _read_leaf(data: Mapping[str, bytes], faults: list[str]) -> Leaf | None:
    if not data.get(LEAF_CERTIFICATE):
        return None
    try:
        certificate = x509.load_pem_x509_certificate(data[LEAF_CERTIFICATE])
        public = _public(certificate.public_key())
    except _UNREADABLE:
        faults.append(f"{LEAF_CERTIFICATE} holds no certificate in PEM")
        return None
    key = _read_key(data.get(LEAF_KEY, b""))
    if key is None or _public(key.public_key()) != public:
        faults.append(f"{LEAF_KEY} is not the key of {LEAF_CERTIFICATE}")
        return None
    return Leaf(certificate, key)


def _read_published_at(data: Mapping[str, bytes], faults: list[str]) -> dt.datetime | None:
    if not data.get(PUBLISHED_AT):
        return None
    try:
        moment = dt.datetime.fromisoformat(data[PUBLISHED_AT].decode())
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        faults.append(f"{PUBLISHED_AT} is no time with its zone")
        return None
    return moment


def _read_path(data: Mapping[str, bytes], faults: list[str]) -> str | None:
    if not data.get(PATH):
        return None
    path = data[PATH].decode("ascii", "replace")
    if not _PATH.fullmatch(path):
        faults.append(f"{PATH} is not 32 to 63 small letters and digits")
        return None
    return path


def _fingerprint(certificate: x509.Certificate) -> Fingerprint:
    return Fingerprint(certificate.fingerprint(hashes.SHA256()))


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _public(key: CertificatePublicKeyTypes) -> bytes:
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
