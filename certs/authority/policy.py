"""What is wrong with what is stored, and the one step that mends it. Pure.

`CHECKS` is a chain: the first check that finds something decides. A check states a fault: it gives
a `Step` with a reason and a sentence, or None. No finding means that nothing is to be done.
"""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import Final

from cryptography import x509

from certs.authority.issue import AUTHORITY_LIFE, LEAF_LIFE, SLACK, end_of_leaf
from certs.authority.material import Authority, Fingerprint, Leaf, Material

SPREAD: Final = dt.timedelta(minutes=30)
"""From the moment when a new authority was seen to be published until leaves of it are served.
API servers take seconds; the rest is for replicas whose clocks differ."""

_THIRD: Final = 3


class Action(Enum):
    """What a step does."""

    FOUND = auto()  # a new authority, a new leaf and, where there is none, a path
    ADD_AUTHORITY = auto()
    MARK_PUBLISHED = auto()
    ISSUE_LEAF = auto()
    CHOOSE_PATH = auto()
    DROP_AUTHORITIES = auto()
    WAIT = auto()  # nothing can or should be done now


class Reason(StrEnum):
    """Why a step is taken. Closed: a label of metrics and logs."""

    NOTHING_STORED = "NothingStored"
    AUTHORITY_UNREADABLE = "AuthorityUnreadable"
    CLOCK_BEHIND = "ClockBehind"
    PATH_MISSING = "PathMissing"
    AUTHORITY_EXPIRED = "AuthorityExpired"
    SIGNING_KEY_MISSING = "SigningKeyMissing"
    AUTHORITY_NEARS_ITS_END = "AuthorityNearsItsEnd"
    AUTHORITY_PUBLISHED = "AuthorityPublished"
    LEAF_MISSING = "LeafMissing"
    LEAF_OF_UNKNOWN_AUTHORITY = "LeafOfUnknownAuthority"
    LEAF_EXPIRED = "LeafExpired"
    LEAF_HAS_OTHER_NAMES = "LeafHasOtherNames"
    LEAF_NEARS_ITS_END = "LeafNearsItsEnd"
    LEAF_OF_OLD_AUTHORITY = "LeafOfOldAuthority"
    OLD_AUTHORITY_EXPIRED = "OldAuthorityExpired"


@dataclass(frozen=True, slots=True)
class Step:
    """What to do next. `signer` is who signs the leaf of `ISSUE_LEAF`."""

    action: Action
    reason: Reason
    message: str
    signer: Authority | None = None


@dataclass(frozen=True, slots=True)
class View:
    """All that a decision rests on.

    `published` has, for each webhook configuration that there is, the authorities in its bundle; it
    is read before `material`, never after. `now` is aware.
    """

    material: Material
    published: tuple[frozenset[Fingerprint], ...]
    names: tuple[str, ...]
    now: dt.datetime

    @property
    def newest(self) -> Authority:
        """The authority that signs, or soon will. The first checks see to it that there is one."""
        return self.material.authorities[0]

    def is_published(self, authority: Authority) -> bool:
        """Whether every configuration trusts it."""
        return all(authority.fingerprint in bundle for bundle in self.published)


def next_step(view: View) -> Step | None:
    """The first thing to do; None: all is well."""
    for check in CHECKS:
        if step := check(view):
            return step
    return None


# --- the chain ----------------------------------------------------------------------------------


def authority_missing(view: View) -> Step | None:
    """Nothing that could be published."""
    if view.material.authorities:
        return None
    if view.material.faults:
        said = "; ".join(view.material.faults)
        return Step(Action.FOUND, Reason.AUTHORITY_UNREADABLE, f"the Secret is damaged: {said}")
    return Step(Action.FOUND, Reason.NOTHING_STORED, "there are no certificates yet")


def clock_behind(view: View) -> Step | None:
    """What is stored is not valid yet: this clock went back, or the one that made it was ahead.

    Who of them is wrong cannot be told from here; what is there may well hold, so it stays.
    """
    certificates = [authority.certificate for authority in view.material.authorities]
    if view.material.leaf:
        certificates.append(view.material.leaf.certificate)
    start = max(certificate.not_valid_before_utc for certificate in certificates)
    if view.now >= start:
        return None
    return Step(
        Action.WAIT,
        Reason.CLOCK_BEHIND,
        f"the clock says {_said(view.now)}, but a stored certificate is valid from {_said(start)};"
        " set the clock, or empty the Secret to begin anew",
    )


def path_missing(view: View) -> Step | None:
    """Without a path nothing can be published."""
    if view.material.path:
        return None
    return Step(Action.CHOOSE_PATH, Reason.PATH_MISSING, "the Secret holds no usable path")


def authority_expired(view: View) -> Step | None:
    """Nobody renewed it in time, or the clock jumped."""
    end = view.newest.certificate.not_valid_after_utc
    if view.now <= end:
        return None
    return Step(
        Action.ADD_AUTHORITY, Reason.AUTHORITY_EXPIRED, f"the authority expired on {_said(end)}"
    )


def signing_key_missing(view: View) -> Step | None:
    """The newest authority cannot sign."""
    if view.newest.key:
        return None
    message = "the Secret lacks the key of the newest authority"
    return Step(Action.ADD_AUTHORITY, Reason.SIGNING_KEY_MISSING, message)


def authority_nears_its_end(view: View) -> Step | None:
    """A third of its life is left."""
    end = view.newest.certificate.not_valid_after_utc
    if end - view.now > AUTHORITY_LIFE / _THIRD:
        return None
    return Step(
        Action.ADD_AUTHORITY,
        Reason.AUTHORITY_NEARS_ITS_END,
        f"the authority ends on {_said(end)}",
    )


def authority_published_unmarked(view: View) -> Step | None:
    """Every configuration has the newest authority, and nobody wrote down since when."""
    if not _waits_for_spread(view) or _marked_at(view) or not view.is_published(view.newest):
        return None
    return Step(
        Action.MARK_PUBLISHED,
        Reason.AUTHORITY_PUBLISHED,
        f"the new authority is published everywhere; it signs from {_said(view.now + SPREAD)}",
    )


def leaf_missing(view: View) -> Step | None:
    """There is none, or none with its key."""
    if view.material.leaf:
        return None
    said = "; ".join(view.material.faults) or "the Secret holds no leaf"
    return _new_leaf(view, Reason.LEAF_MISSING, said)


def leaf_of_unknown_authority(view: View) -> Step | None:
    """No authority in the bundle verifies it."""
    if _issuer(view):
        return None
    message = "no stored authority has signed the leaf"
    return _new_leaf(view, Reason.LEAF_OF_UNKNOWN_AUTHORITY, message)


def leaf_expired(view: View) -> Step | None:
    """Nobody renewed it in time, or the clock jumped."""
    end = _leaf(view).certificate.not_valid_after_utc
    if view.now <= end:
        return None
    return _new_leaf(view, Reason.LEAF_EXPIRED, f"the leaf expired on {_said(end)}")


def leaf_has_other_names(view: View) -> Step | None:
    """The Service is called something else now."""
    try:
        extension = _leaf(view).certificate.extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
        names = set(extension.value.get_values_for_type(x509.DNSName))
    except (x509.ExtensionNotFound, ValueError):
        names = set()
    if names == set(view.names):
        return None
    wanted = ", ".join(view.names)
    return _new_leaf(view, Reason.LEAF_HAS_OTHER_NAMES, f"the leaf is not for {wanted}")


def leaf_nears_its_end(view: View) -> Step | None:
    """A third of its life is left, and a new one would live longer."""
    leaf, signer = _leaf(view), _signer(view)
    end = leaf.certificate.not_valid_after_utc
    if end - view.now > LEAF_LIFE / _THIRD:
        return None
    if signer and end_of_leaf(signer, view.now, leaf) <= end:
        return None
    return _new_leaf(view, Reason.LEAF_NEARS_ITS_END, f"the leaf ends on {_said(end)}")


def leaf_of_old_authority(view: View) -> Step | None:
    """A newer authority is trusted everywhere by now."""
    if _issuer(view) == view.newest or _signer(view) != view.newest:
        return None
    message = "the new authority has been published for long enough"
    return _new_leaf(view, Reason.LEAF_OF_OLD_AUTHORITY, message)


def old_authority_expired(view: View) -> Step | None:
    """Nothing that it signed is valid any more."""
    if not expired_authorities(view):
        return None
    message = "an old authority, and with it all that it signed, has expired"
    return Step(Action.DROP_AUTHORITIES, Reason.OLD_AUTHORITY_EXPIRED, message)


CHECKS: Final[tuple[Callable[[View], Step | None], ...]] = (
    authority_missing,
    clock_behind,
    path_missing,
    authority_expired,
    signing_key_missing,
    authority_nears_its_end,
    authority_published_unmarked,
    leaf_missing,
    leaf_of_unknown_authority,
    leaf_expired,
    leaf_has_other_names,
    leaf_nears_its_end,
    leaf_of_old_authority,
    old_authority_expired,
)


# --- what the checks share ----------------------------------------------------------------------


def expired_authorities(view: View) -> tuple[Authority, ...]:
    """Those that no clock of the cluster still believes in, less the newest and the leaf's own."""
    issuer = _issuer(view)
    return tuple(
        authority
        for authority in view.material.authorities[1:]
        if authority != issuer and view.now > authority.certificate.not_valid_after_utc + SLACK
    )


def _new_leaf(view: View, reason: Reason, message: str) -> Step:
    if signer := _signer(view):
        return Step(Action.ISSUE_LEAF, reason, message, signer)
    waiting = "no authority that could sign another is published everywhere yet"
    return Step(Action.WAIT, reason, f"{message}; {waiting}")


def _signer(view: View) -> Authority | None:
    """The newest authority whose leaves every API server accepts."""
    return next((a for a in view.material.authorities if _may_sign(view, a)), None)


def _may_sign(view: View, authority: Authority) -> bool:
    if authority.key is None or view.now > authority.certificate.not_valid_after_utc:
        return False
    if authority == _issuer(view) or len(view.material.authorities) == 1:
        return True  # what is served already, or all that ever was
    return view.is_published(authority) and (authority != view.newest or _has_spread(view))


def _waits_for_spread(view: View) -> bool:
    return len(view.material.authorities) > 1 and _issuer(view) != view.newest


def _has_spread(view: View) -> bool:
    marked_at = _marked_at(view)
    return marked_at is not None and view.now - marked_at >= SPREAD


def _marked_at(view: View) -> dt.datetime | None:
    """When the newest authority was seen to be published. A mark from the future is none."""
    marked_at = view.material.published_at
    return marked_at if marked_at and marked_at <= view.now + SLACK else None


def _issuer(view: View) -> Authority | None:
    leaf = view.material.leaf
    return next((a for a in view.material.authorities if leaf and leaf.is_signed_by(a)), None)


def _leaf(view: View) -> Leaf:
    if view.material.leaf is None:
        raise ValueError("a check before this one finds that there is no leaf")
    return view.material.leaf


def _said(moment: dt.datetime) -> str:
    return moment.isoformat(timespec="seconds")
