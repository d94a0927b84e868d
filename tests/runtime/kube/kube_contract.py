"""What we rely on an API server for: one suite, for a real one and for the one in these tests."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from runtime.clock import SystemClock
from runtime.kube import client as module
from runtime.kube.client import KubeClient, KubeObject
from runtime.kube.errors import (
    AlreadyExistsError,
    ConflictError,
    NotFoundError,
)
from runtime.kube.mirror import Snapshot
from runtime.kube.paths import collection_path, object_path
from runtime.kube.watch import Surroundings, Watch
from runtime.kube.watch_protocol import Target

PATIENCE_SECONDS = 30.0


@dataclass
class Site:
    """A namespace of our own at some API server, and the watches over it."""

    client: KubeClient
    namespace: str
    watches: list[Watch] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def maps(self) -> str:
        return collection_path("v1", "configmaps", namespace=self.namespace)

    def map(self, name: str) -> str:
        return object_path("v1", "configmaps", name, namespace=self.namespace)

    def create(self, name: str, **fields: object) -> KubeObject:
        return self.client.create(self.maps, config_map(name, **fields))

    def watch(self, **selection: object) -> Watch:
        around = Surroundings(
            self.client, SystemClock(), self.stop, lambda _, error: self.failures.append(error)
        )
        watch = Watch(Target(self.maps, **selection), around, self._notify)
        self.watches.append(watch)
        return watch

    def see(self, watch: Watch, what: Callable[[Snapshot], object]) -> Snapshot:
        """Wait until the mirror shows it."""
        with self.changed:
            is_seen = self.changed.wait_for(lambda: what(watch.mirror.snapshot), PATIENCE_SECONDS)
        assert is_seen, f"never seen; the last was {watch.mirror.snapshot}"
        return watch.mirror.snapshot

    def close(self) -> None:
        self.stop.set()
        ended = [watch.close() for watch in self.watches]
        assert all(ended)
        assert self.failures == []

    def _notify(self) -> None:
        with self.changed:
            self.changed.notify_all()


def config_map(name: str, **fields: object) -> KubeObject:
    labels = fields.pop("labels", None)
    metadata = {"name": name, **({"labels": labels} if labels else {})}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, **fields}


def names(snapshot: Snapshot) -> set[str]:
    return {name for _, name in snapshot.objects} - {"kube-root-ca.crt"}


class KubeContract:
    """Give it a fixture `site`."""

    def test_what_was_created_is_there_until_it_is_deleted(self, site: Site) -> None:
        made = site.create("a", data={"x": "1"})
        assert made["metadata"]["uid"]
        assert site.client.get(site.map("a"))["data"] == {"x": "1"}
        site.client.delete(site.map("a"))
        with pytest.raises(NotFoundError):
            site.client.get(site.map("a"))
        with pytest.raises(NotFoundError):
            site.client.delete(site.map("a"))

    def test_of_two_who_create_one_is_first(self, site: Site) -> None:
        site.create("a")
        with pytest.raises(AlreadyExistsError):
            site.create("a")

    def test_a_patch_against_an_old_version_is_a_conflict(self, site: Site) -> None:
        old = site.create("a")["metadata"]["resourceVersion"]
        change = {"metadata": {"resourceVersion": old}, "data": {"x": "1"}}
        site.client.patch(site.map("a"), change)
        with pytest.raises(ConflictError) as caught:
            site.client.patch(site.map("a"), change)
        assert not isinstance(caught.value, AlreadyExistsError)

    def test_a_patch_without_a_difference_leaves_the_version(self, site: Site) -> None:
        site.create("a", labels={"b": "1"})
        change = {"metadata": {"labels": {"b": None, "c": "1"}}}
        once = site.client.patch(site.map("a"), change)
        twice = site.client.patch(site.map("a"), change)
        assert once["metadata"]["labels"] == {"c": "1"}
        assert once["metadata"]["resourceVersion"] == twice["metadata"]["resourceVersion"]

    def test_apply_makes_an_object_and_takes_back_what_it_set(self, site: Site) -> None:
        def apply(**labels: str) -> KubeObject:
            wanted = config_map("a", labels=labels)
            return site.client.apply(site.map("a"), wanted, field_manager="larder-test")

        apply(b="1", c="1")
        site.client.patch(site.map("a"), {"metadata": {"labels": {"theirs": "1"}}})
        once, twice = apply(b="2"), apply(b="2")
        assert once["metadata"]["labels"] == {"b": "2", "theirs": "1"}
        assert once["metadata"]["resourceVersion"] == twice["metadata"]["resourceVersion"]

    def test_a_list_of_several_pages_is_whole(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "PAGE_SIZE", 2)
        for name in "abcde":
            site.create(name)
        listing = site.client.list(site.maps)
        assert {i["metadata"]["name"] for i in listing.items} >= set("abcde")
        assert {(i["apiVersion"], i["kind"]) for i in listing.items} == {("v1", "ConfigMap")}

    def test_a_watch_shows_what_was_there_and_what_comes_changes_and_goes(self, site: Site) -> None:
        site.create("was-there")
        watch = site.watch()
        watch.start()
        site.see(watch, lambda s: names(s) == {"was-there"})
        site.create("comes")
        snapshot = site.see(watch, lambda s: names(s) == {"was-there", "comes"})
        assert snapshot.is_synced
        site.client.patch(site.map("comes"), {"data": {"x": "2"}})
        site.see(watch, lambda s: s.objects[site.namespace, "comes"].get("data") == {"x": "2"})
        site.client.delete(site.map("was-there"))
        site.see(watch, lambda s: names(s) == {"comes"})

    def test_a_watch_shows_only_what_it_selects(self, site: Site) -> None:
        by_name = site.watch(field_selector="metadata.name=b")
        by_label = site.watch(label_selector="larder.dev/kept=yes")
        for watch in (by_name, by_label):
            watch.start()
            site.see(watch, lambda s: s.is_known)
        site.create("a", labels={"larder.dev/kept": "yes"})
        site.create("b")
        site.see(by_label, lambda s: names(s) == {"a"})
        site.see(by_name, lambda s: names(s) == {"b"})

    def test_a_watch_of_metadata_carries_nothing_else(self, site: Site) -> None:
        site.create("a", data={"x": "1"})
        watch = site.watch(metadata_only=True)
        watch.start()
        site.see(watch, lambda s: "a" in names(s))
        site.create("b", data={"x": "1"}, labels={"l": "1"})
        snapshot = site.see(watch, lambda s: "b" in names(s))
        objects = [snapshot.objects[site.namespace, name] for name in "ab"]
        assert all("data" not in content for content in objects)
        assert {content["kind"] for content in objects} == {"PartialObjectMetadata"}
        assert objects[1]["metadata"]["labels"] == {"l": "1"}

    def test_a_watch_goes_on_from_its_version_and_misses_nothing(self, site: Site) -> None:
        watch = site.watch()
        watch.start()
        site.see(watch, lambda s: s.is_known)
        version = watch._resource_version
        later = site.watch()
        later._resource_version = version  # as after a broken connection
        site.create("meanwhile")
        later.start()
        site.see(later, lambda s: names(s) == {"meanwhile"})

    def test_a_watch_from_a_forgotten_version_lists_again(self, site: Site) -> None:
        site.create("a")
        watch = site.watch()
        watch._resource_version = "1"
        watch.start()
        site.see(watch, lambda s: names(s) == {"a"})
        site.create("b")
        site.see(watch, lambda s: names(s) == {"a", "b"})
