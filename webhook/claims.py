"""Which of Larder's claims a pod may be given, kept by a watch of those that carry its label.

Anybody may label a claim of their own so: what it is bound to decides (`larder.claims`). Of each
claim, only its name and that verdict stay. Claims are taken away minutes after they were marked, so
a watch that is out of touch speaks for none.
"""

from collections.abc import Iterable
from typing import Final

from larder.claims import MANAGED_BY, MANAGED_BY_LABEL, is_usable
from runtime.kube.objects import KubeObject, labels_only, name_of
from runtime.kube.paths import collection_path
from runtime.kube.watch_protocol import Target
from webhook.state import UsableClaims

CLAIMS: Final = Target(
    collection_path("v1", "persistentvolumeclaims"),
    label_selector=f"{MANAGED_BY_LABEL}={MANAGED_BY}",
)
_USABLE: Final = "usable"


def verdict_only(content: KubeObject) -> KubeObject:
    """What a mirror holds of a claim."""
    kept = labels_only(content)
    kept["metadata"].pop("labels", None)
    return kept | {_USABLE: is_usable(content)}


def usable_claims(contents: Iterable[KubeObject]) -> UsableClaims | None:
    """The names of claims that pods may be given, by namespace; None where nobody makes any."""
    names: dict[str, set[str]] = {}
    for content in contents:
        namespace, name = name_of(content)
        known = names.setdefault(namespace, set())
        if content[_USABLE]:
            known.add(name)
    return {namespace: frozenset(known) for namespace, known in names.items()} or None
