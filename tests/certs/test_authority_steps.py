from dataclasses import replace

import pytest

from certs.authority import (
    Action,
    Material,
    Reason,
    Step,
    bundle_of,
    make_leaf,
    next_step,
    take_step,
)
from tests.certs.certs_cases import (
    DAY,
    HOUR,
    NAME,
    NAMES,
    NOW,
    PATH,
    in_rotation,
    material,
    view,
    why_refused,
)

FRESH = "f" * 43


def stepped(seen: object, **changes: object) -> Material:
    what = view(seen, **changes)  # type: ignore[arg-type] # a test's shorthand
    step = next_step(what)
    assert step is not None
    return take_step(what, step, FRESH)


def test_a_founding_makes_all_that_is_served() -> None:
    made = stepped(Material())
    assert made.leaf is not None
    assert why_refused(made.leaf, bundle_of(made.authorities), NAME, NOW) == ""
    assert (made.path, made.published_at, made.faults) == (FRESH, None, ())
    assert next_step(view(made)) is None


def test_a_founding_after_damage_keeps_the_path_that_is_called() -> None:
    assert stepped(Material(path=PATH, faults=("ca.crt is damaged",))).path == PATH


def test_a_new_authority_joins_in_front_and_unmarks() -> None:
    old = replace(material(241 * DAY), published_at=NOW)
    made = stepped(old)
    assert made.authorities[1:] == old.authorities
    assert (made.published_at, made.leaf, made.path) == (None, old.leaf, PATH)


def test_a_publication_is_written_down() -> None:
    assert stepped(in_rotation()).published_at == NOW


def test_a_leaf_of_the_new_authority_takes_the_old_ones_key() -> None:
    made = stepped(in_rotation(marked=NOW - HOUR))
    assert made.leaf is not None
    assert made.leaf.is_signed_by(made.authorities[0])
    assert [authority.key is None for authority in made.authorities] == [False, True]


def test_a_leaf_of_the_old_authority_leaves_the_keys() -> None:
    both = in_rotation(marked=NOW)
    made = stepped(replace(both, leaf=make_leaf(both.authorities[1], NAMES, NOW - 21 * DAY)))
    assert made.leaf is not None
    assert made.leaf.is_signed_by(both.authorities[1])
    assert made.authorities == both.authorities


def test_a_path_is_chosen_and_all_else_stays() -> None:
    before = replace(material(), path=None, faults=("path is damaged",))
    assert stepped(before) == replace(before, path=FRESH, faults=())


def test_only_the_expired_authority_leaves() -> None:
    both = in_rotation(361 * DAY, marked=NOW - HOUR)
    new = both.authorities[0]
    made = stepped(replace(both, leaf=make_leaf(new, NAMES, NOW)))
    assert made.authorities == (new,)


def test_waiting_changes_nothing() -> None:
    what = replace(material(), faults=("ca.key is odd",))
    step = Step(Action.WAIT, Reason.CLOCK_BEHIND, "wait")
    assert take_step(view(what), step, FRESH) is what


def test_a_leaf_without_a_signer_is_a_defect() -> None:
    with pytest.raises(ValueError, match="who signs"):
        take_step(view(material()), Step(Action.ISSUE_LEAF, Reason.LEAF_MISSING, ""), FRESH)
