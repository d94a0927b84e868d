import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from certs.authority import (
    OUR_KEYS,
    Material,
    bundle_of,
    fingerprints,
    make_authority,
    make_leaf,
    read_material,
    write_material,
)
from tests.certs.certs_cases import NAMES, NOW, PATH, in_rotation, material, pem

WHOLE = write_material(in_rotation(marked=NOW))
RSA_KEY = rsa.generate_private_key(65537, 2048).private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.NoEncryption(),
)


def shown(what: Material) -> list[Any]:
    """What two materials have in common if they are the same."""
    return [
        bundle_of(what.authorities),
        [a.key and a.key.private_numbers() for a in what.authorities],
        what.leaf and (what.leaf.certificate_pem, what.leaf.key_pem),
        what.published_at,
        what.path,
        what.faults,
    ]


@pytest.mark.parametrize(
    "make",
    [
        Material,
        material,
        lambda: in_rotation(marked=NOW),
        lambda: in_rotation(marked=NOW.astimezone(dt.timezone(dt.timedelta(hours=9)))),
    ],
    ids=["nothing", "founded", "in rotation", "with a time of another zone"],
)
def test_what_was_written_reads_the_same(make: Callable[[], Material]) -> None:
    what = make()
    data = write_material(what)
    assert set(data) <= set(OUR_KEYS)
    assert shown(read_material(data)) == shown(what)
    assert write_material(read_material(data)) == data


def test_a_key_finds_its_authority_whatever_the_order() -> None:
    keys = WHOLE["ca.key"].split(b"-----END PRIVATE KEY-----\n")
    swapped = b"-----END PRIVATE KEY-----\n".join([keys[1], keys[0], b""])
    assert swapped != WHOLE["ca.key"]
    read = read_material({**WHOLE, "ca.key": swapped})
    assert shown(read) == shown(read_material(WHOLE))


def test_a_missing_key_leaves_its_authority_without_one() -> None:
    data = {**WHOLE, "ca.key": WHOLE["ca.key"].split(b"-----BEGIN")[0]}
    read = read_material(data)
    assert [a.key for a in read.authorities] == [None, None]
    assert read.faults == ()


OTHER_LEAF = make_leaf(make_authority(NOW), NAMES, NOW)
GARBLED = WHOLE["ca.crt"].replace(b"\nM", b"\n!")


@pytest.mark.parametrize(
    ("key", "value", "fault", "lost"),
    [
        ("ca.crt", b"nonsense", "ca.crt is not a list of authorities in PEM", "authorities"),
        ("ca.crt", GARBLED, "ca.crt is not a list of authorities in PEM", "authorities"),
        ("ca.crt", WHOLE["tls.crt"], "ca.crt is not a list of authorities", "authorities"),
        ("ca.key", RSA_KEY, "ca.key holds something else than keys of ours", None),
        ("tls.crt", b"\xff", "tls.crt holds no certificate in PEM", "leaf"),
        ("tls.key", b"", "tls.key is not the key of tls.crt", "leaf"),
        ("tls.key", OTHER_LEAF.key_pem, "tls.key is not the key of tls.crt", "leaf"),
        ("tls.key", RSA_KEY, "tls.key is not the key of tls.crt", "leaf"),
        ("ca.published-at", b"yesterday", "ca.published-at is no time", "published_at"),
        ("ca.published-at", b"2031-05-06T07:08:09", "is no time with its zone", "published_at"),
        ("ca.published-at", b"\xff", "ca.published-at is no time", "published_at"),
        ("path", b"../etc", "path is not 32 to 63 small letters", "path"),
        ("path", b"P" * 40, "path is not 32 to 63 small letters", "path"),
        ("path", b"short", "path is not 32 to 63 small letters", "path"),
        ("path", b"\xff" * 40, "path is not 32 to 63 small letters", "path"),
    ],
)
def test_a_damaged_part_is_missing_with_a_fault_and_the_others_stay(
    key: str, value: bytes, fault: str, lost: str | None
) -> None:
    read, whole = read_material({**WHOLE, key: value}), read_material(WHOLE)
    assert fault in "; ".join(read.faults)
    for name in ("authorities", "leaf", "published_at", "path"):
        if name == lost:
            assert not getattr(read, name)
        elif name != "authorities":
            assert bool(getattr(read, name))
    if lost != "authorities":
        assert bundle_of(read.authorities) == bundle_of(whole.authorities)


def test_a_certificate_that_does_not_say_what_it_is_is_no_authority() -> None:
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody")])
    plain = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + dt.timedelta(1))
        .sign(key, hashes.SHA256())
    )
    read = read_material({**WHOLE, "ca.crt": pem([plain])})
    assert read.authorities == ()


@given(st.dictionaries(st.sampled_from(OUR_KEYS), st.binary(max_size=80)))
def test_no_data_however_odd_raises(data: dict[str, bytes]) -> None:
    read_material({**WHOLE, **data})
    read_material(data)


@given(st.sampled_from(OUR_KEYS), st.integers(0, 10_000), st.integers(1, 255))
def test_no_flipped_byte_raises(key: str, place: int, flip: int) -> None:
    data = bytearray(WHOLE[key])
    data[place % len(data)] ^= flip
    read_material({**WHOLE, key: bytes(data)})


def test_a_bundle_that_no_api_server_could_read_has_no_authorities() -> None:
    assert fingerprints(b"") == fingerprints(b"garbage") == frozenset()
    assert len(fingerprints(WHOLE["ca.crt"])) == 2


def test_empty_values_are_nothing_stored() -> None:
    assert read_material(dict.fromkeys(OUR_KEYS, b"")) == Material()


def test_the_path_shows_in_no_text() -> None:
    assert PATH not in repr(material())
