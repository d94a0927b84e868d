"""What has reached the disk before what: a power cut keeps P2."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from crashes import died
from stocked_root import (
    IRIS,
    IRIS_FILES,
    PROGRAM,
    StockedRoot,
    assert_nothing_half_visible,
    open_root,
)

from agent.store import at
from larder.status import ModelState, SlotStatus


def _traced(
    stocked: StockedRoot, monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]
) -> list[str]:
    """The syncs, renames and unlinks of some work, in order, as words."""
    events: list[str] = []
    rename, renameat2, unlink = os.rename, at._renameat2, os.unlink

    def place(fd: int) -> str:
        path = Path(f"/proc/self/fd/{fd}").readlink()
        name = "<temporary>" if at.is_temporary(path.name) else path.name
        return str(path.with_name(name).relative_to(stocked.path))

    def traced_rename(src: str, dst: str, **fds: int) -> None:
        rename(src, dst, **fds)
        events.append(f"rename to {place(fds['dst_dir_fd'])}/{dst}")

    def traced_renameat2(src_fd: int, src: bytes, dst_fd: int, dst: bytes) -> int:
        result = renameat2(src_fd, src, dst_fd, dst)
        events.append(f"rename to {place(dst_fd)}/{dst.decode()}")
        return result

    def traced_unlink(name: str, *, dir_fd: int) -> None:
        unlink(name, dir_fd=dir_fd)
        events.append(f"unlink {place(dir_fd)}/{name}")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda fd: events.append(f"sync {place(fd)}"))
        patch.setattr(os, "rename", traced_rename)
        patch.setattr(os, "unlink", traced_unlink)
        patch.setattr(at, "_renameat2", traced_renameat2)
        work()
    return events


def test_content_appears_after_its_tree_and_manifest_are_synced_and_before_staging_goes(
    stocked: StockedRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    stocked.store.ensure_slot(IRIS, PROGRAM)
    stocked.stage(IRIS, IRIS_FILES)

    events = _traced(stocked, monkeypatch, lambda: stocked.store.publish(IRIS))

    slot, tree = f"slots/{IRIS}", f"staging/{IRIS}/tree"
    assert events[:10] == [
        f"sync {tree}/deep/down",
        f"sync {tree}/deep",
        f"sync {tree}",
        f"sync {slot}/<temporary>",
        f"rename to {slot}/manifest",
        f"sync {slot}",
        f"rename to {slot}/content",
        f"sync {slot}",
        f"sync staging/{IRIS}",
        "sync slots",
    ]
    assert events[10] == f"rename to trash/staging-{IRIS}-0"


def test_an_eviction_is_decided_on_disk_before_anything_is_removed(
    stocked: StockedRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    stocked.publish(IRIS, {"only": b"iris"})

    events = _traced(stocked, monkeypatch, lambda: stocked.evict(IRIS))

    assert events[:8] == [
        f"rename to trash/{IRIS}.aside",
        "sync trash",
        f"sync slots/{IRIS}",
        f"rename to trash/{IRIS}.evicted-0",
        "sync trash",
        "sync trash",
        f"unlink slots/{IRIS}/manifest",
        f"sync slots/{IRIS}",
    ]
    assert events[8].startswith(f"unlink trash/{IRIS}.evicted-0/")


def test_what_goes_back_is_synced_where_it_is_before_where_it_was(
    stocked: StockedRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    stocked.publish(IRIS, IRIS_FILES)
    for put_back in (lambda: stocked.store.put_back(IRIS), stocked.store.recover):
        stocked.store.take_aside(IRIS)
        assert _traced(stocked, monkeypatch, put_back) == [
            f"rename to slots/{IRIS}/content",
            f"sync slots/{IRIS}",
            "sync trash",
        ]


def test_a_status_is_written_without_waiting_for_the_disk(
    stocked: StockedRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    stocked.store.ensure_slot(IRIS, PROGRAM)
    status = SlotStatus(ModelState.QUEUED)
    assert _traced(stocked, monkeypatch, lambda: stocked.store.write_status(IRIS, status)) == [
        f"rename to slots/{IRIS}/status.json"
    ]


def test_a_first_start_killed_anywhere_is_finished_by_the_next(tmp_path: Path) -> None:
    for step in range(1, 100):
        root = tmp_path / str(step)
        killed = died(step, lambda root=root: open_root(root).close())
        open_root(root).close()
        assert_nothing_half_visible(root)
        if not killed:
            assert step > 8
            return
