"""What is made and taken away below a destination, whatever an earlier run or KServe left there."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slots_and_pods import FILES, FakeTime, Pod, Slot, tree

from initializer import hit, links, wait
from initializer.links import Pair
from larder.manifest import path_fault
from larder.status import ModelState

LINKED = sorted(FILES)


def pair_of(slot: Slot, destination: Path, subpath: str = "") -> Pair:
    return Pair("hf://o/m", str(destination), slot.mount, subpath, "hf://o/m", None)


# --- an earlier run ---------------------------------------------------------------------------


def test_a_second_run_changes_nothing(pod: Pod, slot: Slot) -> None:
    slot.publish()
    first = pod.run([slot.row()], "hf://o/m", pod.models)
    before = {p: p.lstat().st_ctime_ns for p in pod.models.rglob("*")}

    second = pod.run([slot.row()], "hf://o/m", pod.models)

    assert (first.message[:4], second.message[:4]) == ("hit ", "hit ")
    assert {p: p.lstat().st_ctime_ns for p in pod.models.rglob("*")} == before


def test_a_stale_link_is_taken_away_even_if_nothing_is_in_the_way(pod: Pod, slot: Slot) -> None:
    slot.publish()
    (pod.models / "old").mkdir()
    (pod.models / "old" / "gone.bin").symlink_to(f"{slot.mount}/content/old/gone.bin")

    assert pod.run([slot.row()], "hf://o/m", pod.models).message.startswith("hit")
    assert sorted(tree(pod.models)) == sorted([*LINKED, "weights"])


def test_what_is_in_the_way_is_replaced_and_the_rest_stays(pod: Pod, slot: Slot) -> None:
    slot.publish()
    outside = pod.root / "outside"
    outside.mkdir()
    (outside / "a.bin").write_text("mine")
    (pod.models / "weights").symlink_to(outside)  # where a directory must be
    (pod.models / "config.json").write_text("{partial")  # KServe's, cut off
    (pod.models / "empty").symlink_to("/etc/passwd")  # a wrong link
    (pod.models / "stale.bin").symlink_to(f"{slot.mount}/content/stale.bin")  # of another revision
    (pod.models / "notes.txt").write_text("kept")
    (pod.models / "elsewhere").symlink_to(outside)

    run = pod.run([slot.row()], "hf://o/m", pod.models)

    content = f"-> {slot.mount}/content/"
    assert run.message.startswith("hit")
    assert tree(pod.models) == {
        **{name: content + name for name in LINKED},
        "weights": "/",
        "notes.txt": "kept",
        "elsewhere": f"-> {outside}",
    }
    assert tree(outside) == {"a.bin": "mine"}


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_destination_that_is_a_link_is_left_to_the_fallback(
    pod: Pod, slot: Slot, slash: str
) -> None:
    slot.publish()
    outside = pod.root / "outside"
    outside.mkdir()
    (outside / "x.incomplete").touch()
    (pod.models / "m").symlink_to(outside)

    run = pod.run([slot.row()], "hf://o/m", f"{pod.models}/m{slash}")

    assert run.fallback == ["hf://o/m", f"{pod.models}/m{slash}"]
    assert "Unreadable" in run.output
    assert tree(outside) == {"x.incomplete": ""}


def test_a_directory_where_a_link_must_be_is_not_removed(pod: Pod, slot: Slot) -> None:
    slot.publish()
    (pod.models / "config.json" / "sub").mkdir(parents=True)

    run = pod.run([slot.row()], "hf://o/m", pod.models)

    assert run.fallback is not None
    assert tree(pod.models) == {"config.json": "/", "config.json/sub": "/"}


NAMES = st.sampled_from(["a", "b", "d", "d/a", "d/b", "d/e/a", "f", "f/a", "x.incomplete"])
LEFTOVERS = st.dictionaries(
    NAMES, st.sampled_from(["file", "right link", "stale link", "foreign link", "directory"])
)


def scatter(top: Path, slot: Slot, leftovers: dict[str, str]) -> None:
    """What earlier runs, KServe and the tenant may have left below a destination."""
    for name, kind in leftovers.items():
        place = top / name
        if any(parent.is_symlink() for parent in place.parents) or place.is_dir():
            continue
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            if kind == "file":
                place.write_text("theirs")
            elif kind == "directory":
                place.mkdir(exist_ok=True)
            else:
                content = f"{slot.mount}/content"
                place.symlink_to(
                    {
                        "right link": f"{content}/{name}",
                        "stale link": f"{content}/gone/{name}",
                        "foreign link": str(slot.path.parent / "foreign"),
                    }[kind]
                )
        except (FileExistsError, NotADirectoryError):
            continue


@settings(max_examples=200, deadline=None)
@given(
    files=st.sets(st.sampled_from(["a", "b", "d/a", "d/b", "d/e/a", "g/h/i"]), min_size=1),
    leftovers=LEFTOVERS,
)
def test_running_twice_is_running_once_and_a_hit_is_whole(
    files: set[str], leftovers: dict[str, str]
) -> None:
    with tempfile.TemporaryDirectory() as root:
        slot = Slot(Path(root, "slots", "k"))
        slot.publish({name: name.encode() for name in files})
        foreign = slot.path.parent / "foreign"
        foreign.mkdir()
        top = Path(root, "models")
        top.mkdir()
        scatter(top, slot, leftovers)
        theirs = {n: w for n, w in tree(top).items() if w == "theirs"}
        pair = pair_of(slot, top)

        one = wait.serve([pair], FakeTime().clock)
        once = tree(top)
        two = wait.serve([pair], FakeTime().clock)

        assert (one, once) == (two, tree(top))
        assert tree(foreign) == {}
        if one[pair].is_served:
            content = f"-> {slot.mount}/content/"
            assert {n for n, w in once.items() if w.startswith(content)} == files
            assert all((top / n).read_text() == n for n in files)
        else:  # only a directory in the place of a file is not moved out of the way
            assert one[pair].reason == "Unreadable"
            assert any((top / name).is_dir() for name in files)
            links.clean_up([str(top)], [slot.mount])
            assert not [w for w in tree(top).values() if w.startswith(f"-> {slot.mount}")]
        kept = {n for n in theirs if n not in files and not n.endswith(".incomplete")}
        kept = {n for n in kept if not any(f.startswith(n + "/") for f in files)}
        assert kept <= set(tree(top))


@settings(max_examples=100, deadline=None)
@given(leftovers=LEFTOVERS)
def test_cleaning_up_takes_larders_links_and_partial_files_and_nothing_else(
    leftovers: dict[str, str],
) -> None:
    with tempfile.TemporaryDirectory() as root:
        slot = Slot(Path(root, "slots", "k"))
        top = Path(root, "models")
        top.mkdir()
        scatter(top, slot, leftovers)
        before = tree(top)

        links.clean_up([str(top)], [slot.mount])

        after = tree(top)
        ours = {n for n, w in before.items() if w.startswith(f"-> {slot.mount}/")}
        partial = {n for n, w in before.items() if n.endswith(".incomplete") and w == "theirs"}
        went = set(before) - set(after)
        assert ours | partial == {n for n in went if before[n] != "/"}
        assert all(any(o.startswith(d + "/") for o in went) for d in went if before[d] == "/")
        assert not [d for d in went if before[d] == "/" and (top / d).exists()]


# --- before the fallback ----------------------------------------------------------------------


def test_a_fallback_finds_what_it_would_have_found_without_larder(pod: Pod, slot: Slot) -> None:
    slot.publish()
    assert pod.run([slot.row()], "hf://o/m", pod.models).message.startswith("hit")
    hub = pod.models / ".cache" / "huggingface"
    (hub / "download" / "weights").mkdir(parents=True)
    (hub / "download" / "a.bin.1234abcd.incomplete").write_text("half")
    (hub / "download" / "weights" / "b.bin.1234abcd.incomplete").write_text("half")
    (hub / "download" / "c.bin.metadata").write_text("meta")
    (pod.models / "c.bin").write_text("whole")
    (pod.models / "foreign").symlink_to(pod.root)
    (pod.models / "hollow").mkdir()
    shutil.rmtree(slot.path / "content")
    slot.say(ModelState.FAILED)

    run = pod.run([slot.row()], "hf://o/m", pod.models)

    assert run.fallback == ["hf://o/m", str(pod.models)]
    assert tree(pod.models) == {
        ".cache": "/",
        ".cache/huggingface": "/",
        ".cache/huggingface/download": "/",
        ".cache/huggingface/download/c.bin.metadata": "meta",
        "c.bin": "whole",
        "foreign": f"-> {pod.root}",
        "hollow": "/",
    }


def test_a_download_that_left_only_a_partial_file_leaves_an_empty_directory(
    pod: Pod, slot: Slot
) -> None:
    (pod.models / ".cache" / "huggingface" / "download").mkdir(parents=True)
    (pod.models / ".cache" / "huggingface" / "download" / "x.incomplete").touch()

    pod.run([slot.row()], "hf://o/other", pod.models)

    assert tree(pod.models) == {}


def test_directories_made_for_links_that_failed_are_taken_back(
    slot: Slot, time: FakeTime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot.publish()

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted", "x")

    monkeypatch.setattr(hit.posix, "symlink", refuse)
    pair = pair_of(slot, tmp_path / "deep" / "m")

    outcome = wait.serve([pair], time.clock)[pair]
    links.clean_up([pair.destination], [slot.mount])

    assert outcome.reason == "Unreadable"
    assert not (tmp_path / "deep").exists()


@pytest.mark.parametrize("mount", ["", "/"])
def test_a_row_without_a_mount_path_claims_no_links(pod: Pod, mount: str) -> None:
    (pod.models / "theirs").symlink_to("/etc/passwd")

    run = pod.run(f"1\nhf://o/m\t{mount}\t\thf://o/m\n", "hf://o/m", pod.models)

    assert run.fallback == ["hf://o/m", str(pod.models)]
    assert tree(pod.models) == {"theirs": "-> /etc/passwd"}


def test_links_of_a_slot_with_a_similar_name_stay(slot: Slot, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "a").symlink_to(f"{slot.mount}0/content/a")

    links.clean_up([str(tmp_path / "m")], [slot.mount])

    assert str((tmp_path / "m" / "a").readlink()) == f"{slot.mount}0/content/a"


# --- hostile manifests ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../../escape",
        "a/../../../escape",
        "./a",
        "a/./b",
        "a//b",
        "a/",
        "..",
        ".",
        "",
        "a\0b",
    ],
)
@pytest.mark.parametrize("subpath", ["", "a", "..", "a/.."])
def test_a_hostile_path_is_never_linked(
    pod: Pod, slot: Slot, time: FakeTime, path: str, subpath: str
) -> None:
    slot.publish({"a.bin": b"x"})
    for reached in (pod.root / "escape", slot.path / "escape", slot.path.parent / "escape"):
        reached.write_text("x")
    slot.write_manifest(f"1\nsource hf://o/m x\n{'0' * 64} 1 {path}\n")
    slot.say(ModelState.READY)
    around = tree(pod.root)
    pair = pair_of(slot, pod.models, subpath)

    outcome = wait.serve([pair], time.clock)[pair]

    assert outcome.reason in {"Unreadable", "NotCached"}
    assert tree(pod.root) == around


PARTS = st.sampled_from(["..", ".", "", "a", "b", "c c", "-"])


@settings(max_examples=300, deadline=None)
@given(paths=st.lists(st.lists(PARTS, min_size=1, max_size=5).map("/".join), max_size=4))
def test_links_stay_below_the_destination_and_lead_into_content(paths: list[str]) -> None:
    with tempfile.TemporaryDirectory() as root:
        slot = Slot(Path(root, "slots", "k"))
        slot.publish({"a": b"x", "b": b"x", "c c": b"x", "-": b"x"})
        rows = "".join(f"{'0' * 64} 1 {path}\n" for path in paths)
        slot.write_manifest(f"1\nsource hf://o/m x\n{rows}")
        slot.say(ModelState.READY)
        top = Path(root, "pod", "models")
        top.mkdir(parents=True)
        around = tree(Path(root))
        pair = pair_of(slot, top)

        outcome = wait.serve([pair], FakeTime().clock)[pair]
        links_made = {n: w for n, w in tree(Path(root)).items() if around.get(n) != w}

        assert outcome.is_served == bool(links_made)
        assert all(n.startswith("pod/models/") for n in links_made)
        if any(path_fault(path) for path in paths):
            assert not outcome.is_served
        for name in links_made:
            assert (Path(root) / name).resolve().parent == slot.path / "content"


def test_a_path_is_linked_whatever_bytes_name_it(pod: Pod, slot: Slot) -> None:
    name = os.fsdecode(b"caf\xe9.bin")
    (slot.path / "content").mkdir()
    (slot.path / "content" / name).write_bytes(b"x")
    slot.write_manifest(f"1\nsource hf://o/m x\n{'0' * 64} 1 {name}\n")

    assert pod.run([slot.row()], "hf://o/m", pod.models).message.startswith("hit")
    assert (pod.models / name).read_bytes() == b"x"
