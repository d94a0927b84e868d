"""Carries out a step on values: material in, material out. Pure but for new keys."""

import datetime as dt
from dataclasses import replace

from certs.authority.issue import make_authority, make_leaf
from certs.authority.material import Authority, Leaf, Material
from certs.authority.policy import Action, Step, View, expired_authorities


def take_step(view: View, step: Step, fresh_path: str) -> Material:
    """The material after a step. `fresh_path` is used where a path is to be chosen.

    What could not be read is left out of it: a step also clears damage away.
    """
    material = replace(view.material, faults=())
    match step.action:
        case Action.FOUND:
            return _founded(view, material.path or fresh_path)
        case Action.ADD_AUTHORITY:
            return _with_new_authority(material, view.now)
        case Action.MARK_PUBLISHED:
            return replace(material, published_at=view.now)
        case Action.ISSUE_LEAF:
            return _with_new_leaf(view, material, step)
        case Action.CHOOSE_PATH:
            return replace(material, path=fresh_path)
        case Action.DROP_AUTHORITIES:
            gone = expired_authorities(view)
            kept = tuple(a for a in material.authorities if a not in gone)
            return replace(material, authorities=kept)
        case Action.WAIT:
            return view.material


def _founded(view: View, path: str) -> Material:
    authority = make_authority(view.now)
    leaf = make_leaf(authority, view.names, view.now)
    return Material(authorities=(authority,), leaf=leaf, path=path)


def _with_new_authority(material: Material, now: dt.datetime) -> Material:
    new = make_authority(now, material.authorities[0])
    return replace(material, authorities=(new, *material.authorities), published_at=None)


def _with_new_leaf(view: View, material: Material, step: Step) -> Material:
    if step.signer is None:
        raise ValueError("a step that issues a leaf names who signs it")
    leaf = make_leaf(step.signer, view.names, view.now, material.leaf)
    return replace(material, leaf=leaf, authorities=_retired(material.authorities, leaf))


def _retired(authorities: tuple[Authority, ...], leaf: Leaf) -> tuple[Authority, ...]:
    """Once the newest has signed, its predecessors need not sign any more: their keys go."""
    newest, *older = authorities
    if not leaf.is_signed_by(newest):
        return authorities
    return newest, *(replace(authority, key=None) for authority in older)
