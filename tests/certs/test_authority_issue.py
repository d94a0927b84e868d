import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from certs.authority import Authority, bundle_of, make_authority, make_leaf
from tests.certs.certs_cases import DAY, HOUR, MINUTE, NAME, NAMES, NOW, why_refused


def test_a_leaf_is_accepted_by_a_strict_verifier_from_an_hour_ago_to_its_end() -> None:
    authority = make_authority(NOW)
    leaf, bundle = make_leaf(authority, NAMES, NOW), bundle_of([authority])
    moments = [NOW - HOUR, NOW, NOW + 30 * DAY]
    assert [why_refused(leaf, bundle, NAME, moment) for moment in moments] == ["", "", ""]
    assert "not valid at validation time" in why_refused(leaf, bundle, NAME, NOW - 61 * MINUTE)
    assert "not valid at validation time" in why_refused(
        leaf, bundle, NAME, NOW + 30 * DAY + MINUTE
    )
    assert "subject" in why_refused(leaf, bundle, "other.larder-system.svc", NOW).lower()


def test_a_leaf_has_what_strict_verifiers_ask_for() -> None:
    authority = make_authority(NOW)
    leaf = make_leaf(authority, NAMES, NOW).certificate
    extensions = leaf.extensions
    issuer = authority.certificate.extensions
    get = extensions.get_extension_for_class
    assert isinstance(leaf.public_key(), ec.EllipticCurvePublicKey)
    assert list(get(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert get(x509.KeyUsage).value.digital_signature
    assert not get(x509.KeyUsage).value.key_cert_sign
    assert not get(x509.BasicConstraints).value.ca
    assert (
        get(x509.AuthorityKeyIdentifier).value.key_identifier
        == issuer.get_extension_for_class(x509.SubjectKeyIdentifier).value.key_identifier
    )
    assert get(x509.SubjectKeyIdentifier).value.key_identifier
    assert issuer.get_extension_for_class(x509.BasicConstraints).value == x509.BasicConstraints(
        ca=True, path_length=0
    )
    assert issuer.get_extension_for_class(x509.KeyUsage).value.key_cert_sign


def test_no_leaf_outlives_its_authority() -> None:
    authority = make_authority(NOW - 350 * DAY)
    end = authority.certificate.not_valid_after_utc
    assert make_leaf(authority, NAMES, NOW).certificate.not_valid_after_utc == end


def test_an_authority_without_its_key_signs_nothing() -> None:
    with pytest.raises(ValueError, match="without its key"):
        make_leaf(Authority(make_authority(NOW).certificate, None), NAMES, NOW)


@pytest.mark.parametrize(
    "wrong_by",
    [dt.timedelta(0), 50 * 360 * DAY, -50 * 360 * DAY, 20 * DAY, -20 * DAY],
    ids=["right", "decades ahead", "decades behind", "weeks ahead", "weeks behind"],
)
def test_a_successor_holds_whenever_its_predecessor_did_whatever_the_clock_said(
    wrong_by: dt.timedelta,
) -> None:
    old = make_authority(NOW - 5 * DAY)
    old_leaf = make_leaf(old, NAMES, NOW - DAY)
    new = make_authority(NOW + wrong_by, old)
    new_leaf = make_leaf(new, NAMES, NOW + wrong_by, old_leaf)
    for moment in (NOW - 5 * DAY - HOUR, NOW, NOW + 29 * DAY):
        assert why_refused(old_leaf, bundle_of([old]), NAME, moment) == ""
        assert why_refused(new_leaf, bundle_of([old, new]), NAME, moment) == ""


def test_two_authorities_of_one_name_each_verify_their_own_leaves_alone() -> None:
    one, two = make_authority(NOW), make_authority(NOW)
    leaf = make_leaf(two, NAMES, NOW)
    assert one.certificate.subject == two.certificate.subject
    assert why_refused(leaf, bundle_of([one, two]), NAME, NOW) == ""
    assert why_refused(leaf, bundle_of([one]), NAME, NOW)
    assert (leaf.is_signed_by(one), leaf.is_signed_by(two)) == (False, True)


def test_keys_show_in_no_text() -> None:
    authority = make_authority(NOW)
    assert "key" not in repr(authority)
    assert "key" not in repr(make_leaf(authority, NAMES, NOW))
