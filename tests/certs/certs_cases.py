"""A fixed moment, material of any age, and two verifiers that share no code with Larder."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from certs.authority import (
    Authority,
    Fingerprint,
    Leaf,
    Material,
    View,
    bundle_of,
    fingerprints,
    make_authority,
    make_leaf,
)

NOW = dt.datetime(2031, 5, 6, 7, 8, 9, tzinfo=dt.UTC)
NAME = "larder-webhook.larder-system.svc"
NAMES = (NAME,)
PATH = "p" * 43
DAY = dt.timedelta(days=1)
HOUR = dt.timedelta(hours=1)
MINUTE = dt.timedelta(minutes=1)


def material(
    authority_age: dt.timedelta = dt.timedelta(0), leaf_age: dt.timedelta = dt.timedelta(0)
) -> Material:
    """As it is after a founding, so long before NOW."""
    authority = make_authority(NOW - authority_age)
    return Material((authority,), leaf=make_leaf(authority, NAMES, NOW - leaf_age), path=PATH)


def in_rotation(old_age: dt.timedelta = 241 * DAY, marked: dt.datetime | None = None) -> Material:
    """An old authority whose leaf is served, and a new one that joined the bundle."""
    old = material(old_age)
    new = make_authority(NOW - HOUR, old.authorities[0])
    return replace(old, authorities=(new, *old.authorities), published_at=marked)


def published(*authorities: Authority) -> tuple[frozenset[Fingerprint], ...]:
    """Two webhooks that trust these authorities."""
    return (fingerprints(bundle_of(authorities)),) * 2


def view(what: Material, now: dt.datetime = NOW, **changes: object) -> View:
    """All is published, unless `changes` say otherwise."""
    whole = View(what, published(*what.authorities), NAMES, now)
    return replace(whole, **changes)  # type: ignore[arg-type] # a test's shorthand


def why_refused(leaf: Leaf, bundle: bytes, name: str, now: dt.datetime) -> str:
    """What a strict verifier has against a leaf; empty: nothing."""
    try:
        roots = x509.load_pem_x509_certificates(bundle)
    except ValueError:
        return "the bundle is not PEM"
    verifier = PolicyBuilder().store(Store(roots)).time(now)
    try:
        verifier.build_server_verifier(x509.DNSName(name)).verify(leaf.certificate, [])
    except VerificationError as error:
        return str(error)
    return ""


def pem(certificates: Sequence[x509.Certificate]) -> bytes:
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)
