"""Certificates as values: what is stored, what is wrong with it, what comes next. Pure.

Time and the path's random words are passed in; keys and serial numbers come from `cryptography`.

A rotation goes in steps. Each follows from what the Secret holds, what the webhook configurations
publish, and the time; nothing else is remembered, so any replica can take the next step:

    an authority has a third of its life left  →  a new one joins the bundle
    every configuration publishes it           →  when that was seen is written down
    half an hour later                         →  the new authority signs a new leaf
    the old one has expired                    →  it leaves the bundle

No leaf outlives the authority that signed it, so no old leaf lives when the old authority leaves.
A successor is valid whenever its predecessor was, and longer: whatever the clock said that made it,
it holds where the one before it held. A clock behind what is stored changes nothing at all.
"""

from certs.authority.issue import make_authority, make_leaf
from certs.authority.material import (
    OUR_KEYS,
    Authority,
    Fingerprint,
    Leaf,
    Material,
    bundle_of,
    fingerprints,
    read_material,
    write_material,
)
from certs.authority.policy import Action, Reason, Step, View, next_step
from certs.authority.steps import take_step

__all__ = [
    "OUR_KEYS",
    "Action",
    "Authority",
    "Fingerprint",
    "Leaf",
    "Material",
    "Reason",
    "Step",
    "View",
    "bundle_of",
    "fingerprints",
    "make_authority",
    "make_leaf",
    "next_step",
    "read_material",
    "take_step",
    "write_material",
]
