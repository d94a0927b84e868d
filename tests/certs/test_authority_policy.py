"""Each check of the chain, by a table: what is stored and published, and what the chain says."""

import datetime as dt
from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from certs.authority import (
    Action,
    Authority,
    Leaf,
    Material,
    Reason,
    View,
    make_authority,
    make_leaf,
    next_step,
    read_material,
    take_step,
    write_material,
)
from certs.authority import policy as checks
from tests.certs.certs_cases import (
    DAY,
    HOUR,
    MINUTE,
    NAMES,
    NOW,
    PATH,
    in_rotation,
    material,
    published,
    view,
)

A, R = Action, Reason


def keyless(authority: Authority) -> Authority:
    return replace(authority, key=None)


def with_other_leaf() -> Material:
    return replace(material(), leaf=make_leaf(make_authority(NOW), NAMES, NOW))


def nameless() -> Material:
    """A leaf of ours without any name."""
    whole = material()
    assert whole.leaf is not None
    authority, old = whole.authorities[0], whole.leaf.certificate
    assert authority.key is not None
    builder = x509.CertificateBuilder(
        issuer_name=old.issuer,
        subject_name=old.subject,
        public_key=old.public_key(),
        serial_number=7,
        not_valid_before=old.not_valid_before_utc,
        not_valid_after=old.not_valid_after_utc,
    )
    bare = builder.sign(authority.key, hashes.SHA256())
    return replace(whole, leaf=Leaf(bare, whole.leaf.key))


def damaged(**parts: bytes) -> Material:
    return read_material({**write_material(material()), **parts})


def handed_over(authority_age: dt.timedelta) -> Material:
    """The new authority has signed the leaf; the old one is still trusted."""
    both = in_rotation(authority_age, marked=NOW - HOUR)
    new, old = both.authorities
    leaf = make_leaf(new, NAMES, NOW, both.leaf)
    return replace(both, leaf=leaf, authorities=(new, keyless(old)))


ROTATING = in_rotation()
CASES: dict[str, tuple[Any, tuple[Action, Reason] | None]] = {
    "nothing is stored": (view(Material()), (A.FOUND, R.NOTHING_STORED)),
    "the authorities are damaged": (
        view(damaged(**{"ca.crt": b"?"})),
        (A.FOUND, R.AUTHORITY_UNREADABLE),
    ),
    "all is fresh": (view(material()), None),
    "all is fresh, and nothing published yet": (view(material(), published=published()), None),
    "the clock is a little behind": (view(material(), NOW - 59 * MINUTE), None),
    "the clock is two hours behind": (view(material(), NOW - 2 * HOUR), (A.WAIT, R.CLOCK_BEHIND)),
    "the clock is at the beginning of time": (
        view(material(), dt.datetime.fromtimestamp(0, dt.UTC)),
        (A.WAIT, R.CLOCK_BEHIND),
    ),
    "the clock is behind, and there is no leaf": (
        view(replace(material(), leaf=None), NOW - 2 * HOUR),
        (A.WAIT, R.CLOCK_BEHIND),
    ),
    "the leaf alone is not valid yet": (
        view(replace(material(9 * DAY), leaf=material().leaf), NOW - 2 * HOUR),
        (A.WAIT, R.CLOCK_BEHIND),
    ),
    "there is no path": (view(replace(material(), path=None)), (A.CHOOSE_PATH, R.PATH_MISSING)),
    "the authority has more than a third of its life": (view(material(240 * DAY - HOUR)), None),
    "the authority has a third of its life": (
        view(material(240 * DAY)),
        (A.ADD_AUTHORITY, R.AUTHORITY_NEARS_ITS_END),
    ),
    "the clock jumped past the authority's end": (
        view(material(), NOW + 361 * DAY),
        (A.ADD_AUTHORITY, R.AUTHORITY_EXPIRED),
    ),
    "the newest authority has no key": (
        view(replace(material(), authorities=(keyless(material().authorities[0]),))),
        (A.ADD_AUTHORITY, R.SIGNING_KEY_MISSING),
    ),
    "a new authority is not published": (
        view(ROTATING, published=published(*ROTATING.authorities[1:])),
        None,
    ),
    "a new authority is published by one configuration of two": (
        view(
            ROTATING,
            published=(
                *published(*ROTATING.authorities)[:1],
                *published(*ROTATING.authorities[1:])[:1],
            ),
        ),
        None,
    ),
    "a new authority is published": (view(ROTATING), (A.MARK_PUBLISHED, R.AUTHORITY_PUBLISHED)),
    "a new authority is published, and there are no configurations": (
        view(ROTATING, published=()),
        (A.MARK_PUBLISHED, R.AUTHORITY_PUBLISHED),
    ),
    "a new authority was just marked": (view(in_rotation(marked=NOW)), None),
    "a new authority was marked by a clock slightly ahead": (
        view(in_rotation(marked=NOW + 10 * MINUTE)),
        None,
    ),
    "a new authority was marked by a clock days ahead": (
        view(in_rotation(marked=NOW + 2 * DAY)),
        (A.MARK_PUBLISHED, R.AUTHORITY_PUBLISHED),
    ),
    "a new authority was marked 29 minutes ago": (
        view(in_rotation(marked=NOW - 29 * MINUTE)),
        None,
    ),
    "a new authority was marked half an hour ago": (
        view(in_rotation(marked=NOW - 30 * MINUTE)),
        (A.ISSUE_LEAF, R.LEAF_OF_OLD_AUTHORITY),
    ),
    "a new authority was marked, and is published no more": (
        view(in_rotation(marked=NOW - DAY), published=published()),
        None,
    ),
    "the leaf is missing": (
        view(replace(material(), leaf=None)),
        (A.ISSUE_LEAF, R.LEAF_MISSING),
    ),
    "the leaf is damaged": (view(damaged(**{"tls.key": b"?"})), (A.ISSUE_LEAF, R.LEAF_MISSING)),
    "the leaf is missing, and no authority may sign": (
        view(replace(in_rotation(marked=NOW), leaf=None), published=published()),
        (A.WAIT, R.LEAF_MISSING),
    ),
    "the leaf is somebody else's": (
        view(with_other_leaf()),
        (A.ISSUE_LEAF, R.LEAF_OF_UNKNOWN_AUTHORITY),
    ),
    "the Service has another name": (
        view(material(), names=("other.svc",)),
        (A.ISSUE_LEAF, R.LEAF_HAS_OTHER_NAMES),
    ),
    "the leaf has no names": (view(nameless()), (A.ISSUE_LEAF, R.LEAF_HAS_OTHER_NAMES)),
    "the leaf has more than a third of its life": (
        view(material(20 * DAY, 20 * DAY - HOUR)),
        None,
    ),
    "the leaf has a third of its life": (
        view(material(20 * DAY, 20 * DAY)),
        (A.ISSUE_LEAF, R.LEAF_NEARS_ITS_END),
    ),
    "the clock jumped past the leaf's end": (
        view(material(), NOW + 31 * DAY),
        (A.ISSUE_LEAF, R.LEAF_EXPIRED),
    ),
    "the clock jumped past the old authority's end in mid-rotation": (
        view(in_rotation(marked=NOW + 119 * DAY), NOW + 119 * DAY + HOUR),
        (A.ISSUE_LEAF, R.LEAF_EXPIRED),
    ),
    "all expired but a new authority that nobody publishes": (
        view(in_rotation(), NOW + 120 * DAY, published=published()),
        (A.WAIT, R.LEAF_EXPIRED),
    ),
    "the leaf nears its end in mid-rotation": (
        view(replace(in_rotation(), leaf=None, published_at=NOW)),
        (A.ISSUE_LEAF, R.LEAF_MISSING),
    ),
    "the leaf nears its end, and so does its authority": (
        view(in_rotation(355 * DAY), published=published()),
        None,
    ),
    "the old authority is alive": (view(handed_over(358 * DAY)), None),
    "the old authority expired half an hour ago": (
        view(handed_over(360 * DAY + 30 * MINUTE)),
        None,
    ),
    "the old authority expired two hours ago": (
        view(handed_over(360 * DAY + 2 * HOUR)),
        (A.DROP_AUTHORITIES, R.OLD_AUTHORITY_EXPIRED),
    ),
}


@pytest.mark.parametrize(("seen", "expected"), CASES.values(), ids=CASES.keys())
def test_the_chain_says(seen: View, expected: tuple[Action, Reason] | None) -> None:
    step = next_step(seen)
    assert (step and (step.action, step.reason)) == expected
    assert step is None or (step.message and PATH not in step.message)


def test_every_reason_and_action_is_reached_by_the_table() -> None:
    found = [expected for _, expected in CASES.values() if expected]
    assert {reason for _, reason in found} == set(Reason)
    assert {action for action, _ in found} == set(Action)


def test_every_check_of_the_module_is_in_the_chain() -> None:
    names = {
        name
        for name, value in vars(checks).items()
        if not name.startswith("_") and getattr(value, "__annotations__", {}).get("return")
    }
    reasons = {check.__name__ for check in checks.CHECKS}
    assert reasons <= names
    assert len(checks.CHECKS) == len(reasons)


def test_while_the_new_authority_spreads_the_old_one_goes_on_signing() -> None:
    both = in_rotation(marked=NOW)
    old = both.authorities[1]
    step = next_step(view(replace(both, leaf=make_leaf(old, NAMES, NOW - 20 * DAY))))
    assert step is not None
    assert (step.reason, step.signer) == (R.LEAF_NEARS_ITS_END, old)


def test_an_authority_that_somebody_does_not_publish_never_signs_beside_one_that_is() -> None:
    both = replace(in_rotation(marked=NOW - DAY), leaf=None)
    new, old = both.authorities
    step = next_step(view(both, published=published(old)))
    assert step is not None
    assert step.signer is old
    step = next_step(view(both))
    assert step is not None
    assert step.signer is new


def test_a_check_that_needs_a_leaf_says_so() -> None:
    with pytest.raises(ValueError, match="there is no leaf"):
        checks.leaf_expired(view(Material()))


def test_a_whole_rotation_step_by_step() -> None:
    now, held, trusted, reasons = NOW, Material(), published(), []
    while R.OLD_AUTHORITY_EXPIRED not in reasons:
        step = next_step(View(held, trusted, NAMES, now))
        if step:
            held = take_step(View(held, trusted, NAMES, now), step, PATH)
            reasons.append(step.reason)
        trusted = published(*held.authorities)
        assert held.leaf is not None
        is_handing_over = not held.leaf.is_signed_by(held.authorities[0])
        now += 10 * MINUTE if step or is_handing_over else 6 * HOUR
        assert now < NOW + 400 * DAY
    assert [reason for reason in reasons if reason is not R.LEAF_NEARS_ITS_END] == [
        R.NOTHING_STORED,
        R.AUTHORITY_NEARS_ITS_END,
        R.AUTHORITY_PUBLISHED,
        R.LEAF_OF_OLD_AUTHORITY,
        R.OLD_AUTHORITY_EXPIRED,
    ]
    assert (len(held.authorities), held.path) == (1, PATH)
