"""Whatever the store is asked to do, in any order: the inventory is what a simple model says."""

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from stocked_root import (
    IRIS,
    LLAMA,
    PROGRAM,
    QWEN,
    StockedRoot,
    assert_nothing_half_visible,
    digest_of,
    manifest_of,
)

from larder.layout import Key

KEYS = st.sampled_from([IRIS, QWEN, LLAMA])
PATHS = st.sampled_from(["a", "b", "deep/a", "deep/er/c"])
CONTENTS = st.sampled_from([b"", b"1", b"22", b"4444", b"88888888"])
FILES = st.dictionaries(PATHS, CONTENTS, max_size=4)
Files = dict[str, bytes]


class Accounting(RuleBasedStateMachine):
    """`places` says what each owner holds; `blobs` which contents have a blob."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.stocked = StockedRoot(Path(self.directory.name) / "root")
        self.places: dict[str, Files] = {}
        self.blobs: set[bytes] = set()

    def teardown(self) -> None:
        self.stocked.close()
        self.directory.cleanup()

    def _held(self) -> set[bytes]:
        return {data for files in self.places.values() for data in files.values()}

    @rule(key=KEYS, files=FILES)
    def fill(self, key: Key, files: Files) -> None:
        if f"staging/{key}" in self.places or f"slots/{key}" in self.places:
            return
        self.stocked.stage(key, files)
        self.places[f"staging/{key}"] = files
        self.blobs |= set(files.values())

    @rule(key=KEYS)
    def publish(self, key: Key) -> None:
        if f"staging/{key}" not in self.places or f"trash/{key}.aside" in self.places:
            return
        self.stocked.store.ensure_slot(key, PROGRAM)
        files = self.places.pop(f"staging/{key}")
        assert self.stocked.store.publish(key) == manifest_of(key, files)
        self.places[f"slots/{key}"] = files

    @rule(key=KEYS)
    def take_aside(self, key: Key) -> None:
        if f"slots/{key}" in self.places:
            assert self.stocked.store.take_aside(key)
            self.places[f"trash/{key}.aside"] = self.places.pop(f"slots/{key}")

    @rule(key=KEYS)
    def put_back(self, key: Key) -> None:
        if f"trash/{key}.aside" in self.places:
            assert self.stocked.store.put_back(key)
            self.places[f"slots/{key}"] = self.places.pop(f"trash/{key}.aside")

    @rule(key=KEYS)
    def evict_aside(self, key: Key) -> None:
        if f"trash/{key}.aside" in self.places:
            files = self.places.pop(f"trash/{key}.aside")
            gone = (set(files.values()) & self.blobs) - self._held()
            assert self.stocked.store.evict_aside(key) == sum(map(len, gone))
            self.blobs -= gone

    @rule(key=KEYS)
    def evict_staging(self, key: Key) -> None:
        self.stocked.store.evict_staging(key)
        self.places.pop(f"staging/{key}", None)

    @rule(keep=st.frozensets(CONTENTS))
    def collect(self, keep: frozenset[bytes]) -> None:
        gone = self.blobs - self._held() - keep
        freed_bytes = self.stocked.store.collect_blobs(frozenset(map(digest_of, keep)))
        assert freed_bytes == sum(map(len, gone))
        self.blobs -= gone

    @rule()
    @precondition(lambda self: self.places)
    def restart(self) -> None:
        self.stocked.reopen()
        assert self.stocked.store.recover() == ()
        for owner in [o for o in self.places if o.endswith(".aside")]:
            key = owner.removeprefix("trash/").removesuffix(".aside")
            self.places[f"slots/{key}"] = self.places.pop(owner)
        for owner in [o for o in self.places if o.startswith("staging/")]:
            if owner.replace("staging/", "slots/") in self.places:  # published already
                del self.places[owner]
        self.blobs &= self._held()

    @invariant()
    def each_inode_is_counted_once(self) -> None:
        facts = self.stocked.scan()
        assert facts.findings == ()
        contents = self._held() | self.blobs
        found = [i for i in facts.inodes if i.digest is not None]
        assert {(i.digest, i.size_bytes, i.owners) for i in found} == {
            (
                digest_of(data),
                len(data),
                frozenset(o for o, files in self.places.items() if data in files.values()),
            )
            for data in contents
        }
        assert len(found) == len(contents)
        ready = {f"slots/{key}" for key, slot in facts.slots.items() if slot.is_ready}
        assert ready == {owner for owner in self.places if owner.startswith("slots/")}
        assert_nothing_half_visible(self.stocked.path)


TestAccounting = Accounting.TestCase
TestAccounting.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
