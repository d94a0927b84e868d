"""The real program, run as a pod runs it: what is linked, what is said, what falls back."""

import re
import sys
from pathlib import Path

import pytest
from slots_and_pods import COMMIT, FILES, Pod, Slot, tree

from larder.status import ModelState

LINKED = {"config.json", "empty", "weights/a.bin", "weights/b.bin"}


def links_of(slot: Slot, *names: str, below: str = "") -> dict[str, str]:
    return {name: f"-> {slot.mount}/content/{below}{name}" for name in names}


def files_only(top: Path) -> dict[str, str]:
    return {name: what for name, what in tree(top).items() if what != "/"}


# --- hits -----------------------------------------------------------------------------------------


def test_a_hit_links_every_file_below_real_directories(pod: Pod, slot: Slot) -> None:
    slot.publish()

    run = pod.run([slot.row()], "hf://o/m", pod.models)

    assert (run.code, run.fallback) == (0, None)
    assert tree(pod.models) == {"weights": "/", **links_of(slot, *LINKED)}
    assert {n: (pod.models / n).read_bytes() for n in LINKED} == FILES
    assert not (pod.models / "weights").is_symlink()


def test_a_hit_says_so_in_one_log_line_and_the_termination_message(pod: Pod, slot: Slot) -> None:
    slot.publish()

    run = pod.run([slot.row()], "hf://o/m", pod.models)

    assert re.fullmatch(r"hit \d+\.\d\ds", run.message)
    assert run.output == f"larder: {run.message}\n"


def test_a_hit_imports_nothing_but_what_python_has_at_hand(pod: Pod, slot: Slot) -> None:
    slot.publish()
    names = "posix.write(1, ('loaded ' + ' '.join(sys.modules)).encode())"
    source = pod.initializer.read_text()
    pod.initializer.write_text(source.replace("    posix._exit(0)", f"    {names}; posix._exit(0)"))
    bare = pod.root / "bare"
    bare.write_text(f"import posix, sys, time; {names}")

    hit = pod.run([slot.row()], "hf://o/m", pod.models)
    nothing = pod.run_command([sys.executable, "-I", "-S", str(bare)], "")

    assert hit.message.startswith("hit")
    assert hit.output.partition("loaded ")[2] == nothing.output.partition("loaded ")[2]


@pytest.mark.parametrize(
    "destination",
    ["models", "models/", "fresh", "fresh/deep/er"],
    ids=["an empty one", "one with a slash", "one to be made", "one with parents to be made"],
)
def test_a_hit_accepts_any_destination(pod: Pod, slot: Slot, destination: str) -> None:
    slot.publish()

    run = pod.run([slot.row()], "hf://o/m", f"{pod.root}/{destination}")

    assert (run.code, run.fallback, run.message[:4]) == (0, None, "hit ")
    assert files_only(pod.root / destination) == links_of(slot, *LINKED)


def test_a_hit_survives_a_log_and_a_message_that_cannot_be_written(pod: Pod, slot: Slot) -> None:
    slot.publish()
    pod.environment["LARDER_TERMINATION_LOG"] = str(pod.root / "no" / "such" / "place")

    closed = ["sh", "-c", 'exec "$@" >&-', "sh"]
    command = [*closed, sys.executable, "-I", "-S", str(pod.initializer)]
    run = pod.run_command([*command, "hf://o/m", str(pod.models)], [slot.row()])

    assert (run.code, run.output, run.fallback) == (0, "", None)
    assert files_only(pod.models) == links_of(slot, *LINKED)


def test_a_slot_needs_no_status_to_hit(pod: Pod, slot: Slot) -> None:
    slot.publish()
    slot.say(ModelState.DOWNLOADING)

    assert pod.run([slot.row()], "hf://o/m", pod.models).message.startswith("hit")


@pytest.mark.parametrize(
    ("subpath", "expected"),
    [
        ("weights", {"a.bin": "weights/a.bin", "b.bin": "weights/b.bin"}),
        ("weights/", {"a.bin": "weights/a.bin", "b.bin": "weights/b.bin"}),
        ("weights/a.bin", {"a.bin": "weights/a.bin"}),
        ("config.json", {"config.json": "config.json"}),
    ],
    ids=["a directory", "a directory with a slash", "a file by its base name", "a file at the top"],
)
def test_a_subpath_links_what_lies_below_it(
    pod: Pod, slot: Slot, subpath: str, expected: dict[str, str]
) -> None:
    slot.publish()

    run = pod.run([slot.row("s3://b/m/x", subpath)], "s3://b/m/x", pod.models)

    assert run.message.startswith("hit")
    content = f"{slot.mount}/content"
    assert tree(pod.models) == {name: f"-> {content}/{path}" for name, path in expected.items()}


def test_several_uris_are_served_by_their_slots(pod: Pod, slot: Slot, other_slot: Slot) -> None:
    slot.publish()
    other_slot.publish({"adapter.bin": b"x"})
    rows = [slot.row("hf://o/base"), other_slot.row("hf://o/lora")]

    run = pod.run(rows, "hf://o/lora", pod.models / "lora", "hf://o/base", pod.models)

    assert (run.code, run.fallback, run.message[:4]) == (0, None, "hit ")
    assert files_only(pod.models) == {
        **links_of(slot, *LINKED),
        "lora/adapter.bin": f"-> {other_slot.mount}/content/adapter.bin",
    }


def test_odd_names_are_linked_as_they_are(pod: Pod, slot: Slot) -> None:
    files = {"a b/c'd\"e": b"1", "$HOME;*/ü": b"2", "-rf": b"3"}
    slot.publish(files)
    uri = 's3://b/m $HOME "x" ;*?'

    run = pod.run([slot.row(uri)], uri, pod.models)

    assert run.message.startswith("hit")
    assert {n: (pod.models / n).read_bytes() for n in files} == files


# --- fallbacks ------------------------------------------------------------------------------------


def reason(run_output: str) -> str:
    """The reason that the log gives for the first URI."""
    found = re.search(r"^larder: \S+: (\w+)", run_output, re.MULTILINE)
    return found[1] if found else ""


def test_a_uri_without_a_row_is_not_cached(pod: Pod, slot: Slot) -> None:
    run = pod.run([slot.row()], "hf://o/other", pod.models)

    assert run.fallback == ["hf://o/other", str(pod.models)]
    assert (reason(run.output), run.message) == ("NotCached", "")


@pytest.mark.parametrize(
    "slots",
    ["", "2\nhf://o/m\t/m\t\thf://o/m\n", "1\nhf://o/m\n", "1\na\tb\tc\td\te\n", "1\n\n"],
    ids=["none", "a later version", "too few fields", "too many fields", "an empty row"],
)
def test_unknown_or_malformed_slots_fall_back(pod: Pod, slots: str) -> None:
    run = pod.run(slots, "hf://o/m", pod.models, "s3://b/c", pod.root / "c")

    assert run.fallback == ["hf://o/m", str(pod.models), "s3://b/c", str(pod.root / "c")]
    assert (reason(run.output), run.message) == ("ContractUnknown", "")


@pytest.mark.parametrize("arguments", [[], ["hf://o/m"], ["hf://o/m", "/m", "s3://b"]])
def test_arguments_that_are_no_pairs_go_to_the_fallback_unchanged(
    pod: Pod, slot: Slot, arguments: list[str]
) -> None:
    assert pod.run([slot.row()], *arguments).fallback == arguments


def test_the_fallback_gets_what_is_left_in_the_order_of_the_arguments(
    pod: Pod, slot: Slot, other_slot: Slot
) -> None:
    slot.publish()
    other_slot.say(ModelState.FAILED, reason="AccessDenied")
    rows = [slot.row("hf://o/m"), other_slot.row("hf://o/n", fallback="hf://o/n:main")]
    one, two, three = (str(pod.models / name) for name in "zyx")

    run = pod.run(rows, "s3://b/c", one, "hf://o/m", two, "hf://o/n", three)

    assert run.fallback == ["s3://b/c", one, "hf://o/n:main", three]
    assert run.message == ""
    assert "Failed (AccessDenied)" in run.output
    assert files_only(pod.models) == {f"y/{n}": what for n, what in links_of(slot, *LINKED).items()}


@pytest.mark.parametrize(
    ("fallback", "expected"),
    [
        ("hf://o/m:main", f"hf://o/m:{COMMIT}"),
        ("hf://o/m:", f"hf://o/m:{COMMIT}"),
        ("hf://o/m", "hf://o/m"),
        ("s3://b/m:main", "s3://b/m:main"),
    ],
    ids=["a branch", "an empty revision", "no revision is not touched", "another scheme"],
)
def test_the_fallback_gets_the_commit_of_the_slot(
    pod: Pod, slot: Slot, fallback: str, expected: str
) -> None:
    slot.publish()
    (slot.path / "quarantined").touch()

    run = pod.run([slot.row(fallback=fallback)], "hf://o/m", pod.models)

    assert (run.fallback, reason(run.output)) == ([expected, str(pod.models)], "Quarantined")


def test_the_commit_of_a_fill_is_in_its_status(pod: Pod, slot: Slot) -> None:
    slot.say(ModelState.FAILED, revision=COMMIT)

    run = pod.run([slot.row(fallback="hf://o/m:main")], "hf://o/m", pod.models)

    assert run.fallback == [f"hf://o/m:{COMMIT}", str(pod.models)]


def test_a_revision_that_is_no_commit_is_not_passed_on(pod: Pod, slot: Slot) -> None:
    slot.revision = "sha256:0123"
    slot.publish()
    slot.say(ModelState.QUARANTINED, revision="main")
    (slot.path / "quarantined").touch()

    run = pod.run([slot.row(fallback="hf://o/m:v1")], "hf://o/m", pod.models)

    assert run.fallback == ["hf://o/m:v1", str(pod.models)]


def test_a_subpath_that_matches_nothing_is_not_cached(pod: Pod, slot: Slot) -> None:
    slot.publish()

    run = pod.run([slot.row("s3://b/m/wei", "wei")], "s3://b/m/wei", pod.models)

    assert reason(run.output) == "NotCached"
    assert run.fallback == ["s3://b/m/wei", str(pod.models)]


def test_a_model_without_files_is_not_cached(pod: Pod, slot: Slot) -> None:
    slot.publish({})

    assert reason(pod.run([slot.row()], "hf://o/m", pod.models).output) == "NotCached"


def test_a_slot_that_is_not_mounted_has_no_slot(pod: Pod, slot: Slot) -> None:
    slot.path.rmdir()

    assert reason(pod.run([slot.row()], "hf://o/m", pod.models).output) == "NoSlot"


def test_a_manifest_of_another_version_is_not_read(pod: Pod, slot: Slot) -> None:
    slot.publish()
    slot.write_manifest("2\nwhatever\n")

    assert reason(pod.run([slot.row()], "hf://o/m", pod.models).output) == "ContractUnknown"


def test_the_log_shows_no_query_and_no_password(pod: Pod, slot: Slot) -> None:
    uri = "https://user:secret@host.example/m.bin?sig=secret#secret"

    run = pod.run([slot.row()], uri, pod.models)

    assert run.fallback == [uri, str(pod.models)]
    assert "https://host.example/m.bin: NotCached" in run.output
    assert "secret" not in run.output


def test_a_fallback_that_cannot_be_run_is_one_sentence(pod: Pod, slot: Slot) -> None:
    pod.fallback.unlink()

    run = pod.run([slot.row()], "hf://o/other", pod.models)

    assert run.code == 1
    assert run.output.splitlines()[-1] == (
        "larder: the fallback cannot be run: No such file or directory"
    )


@pytest.mark.parametrize("spelling", ["models", "models/", "/models", "x/../models"])
def test_a_child_goes_to_the_fallback_with_its_parent(
    pod: Pod, slot: Slot, other_slot: Slot, spelling: str
) -> None:
    slot.say(ModelState.FAILED)
    other_slot.publish()
    rows = [slot.row("hf://o/base"), other_slot.row("hf://o/lora")]
    parent = f"{pod.root}/{spelling}"
    arguments = ["hf://o/lora", str(pod.models / "lora"), "hf://o/base", parent]

    run = pod.run(rows, *arguments)

    assert run.fallback == arguments
    assert tree(pod.models) == {}


def test_a_child_that_falls_back_leaves_its_parent_served(
    pod: Pod, slot: Slot, other_slot: Slot
) -> None:
    slot.publish()
    other_slot.say(ModelState.FAILED)
    rows = [slot.row("hf://o/base"), other_slot.row("hf://o/lora")]
    lora = str(pod.models / "lora")

    run = pod.run(rows, "hf://o/base", pod.models, "hf://o/lora", lora)

    assert run.fallback == ["hf://o/lora", lora]
    assert files_only(pod.models) == links_of(slot, *LINKED)


def test_a_parent_with_links_below_a_falling_child_falls_too(
    pod: Pod, slot: Slot, other_slot: Slot
) -> None:
    slot.publish({"lora/config.json": b"{}", "model.bin": b"x"})
    other_slot.say(ModelState.FAILED)
    rows = [slot.row("hf://o/base"), other_slot.row("hf://o/lora")]
    arguments = ["hf://o/base", str(pod.models), "hf://o/lora", str(pod.models / "lora")]

    run = pod.run(rows, *arguments)

    assert run.fallback == arguments
    assert tree(pod.models) == {}


def test_two_uris_of_one_destination_stand_or_fall_together(
    pod: Pod, slot: Slot, other_slot: Slot
) -> None:
    slot.publish()
    other_slot.say(ModelState.FAILED)
    rows = [slot.row("hf://o/a"), other_slot.row("hf://o/b")]
    arguments = ["hf://o/a", str(pod.models), "hf://o/b", f"{pod.models}/"]

    assert pod.run(rows, *arguments).fallback == arguments
    assert tree(pod.models) == {}

    other_slot.publish({"b.bin": b"b"})

    assert pod.run(rows, *arguments).message.startswith("hit")
    assert set(files_only(pod.models)) == {*LINKED, "b.bin"}


def test_a_fault_of_the_second_half_still_runs_the_fallback(pod: Pod, slot: Slot) -> None:
    source = pod.initializer.read_text()
    pod.initializer.write_text(source.replace("import contextlib", "import no_such_module"))

    run = pod.run([slot.row()], "hf://o/m", pod.models)

    assert run.fallback == ["hf://o/m", str(pod.models)]


def test_a_bug_takes_back_what_was_made_and_gives_the_fallback_the_original_arguments(
    pod: Pod, slot: Slot, other_slot: Slot
) -> None:
    slot.publish()
    other_slot.say(ModelState.DOWNLOADING)
    source = pod.initializer.read_text()
    bug = "def judge(self, status: Status | None, now: float) -> Outcome | None:\n        1 / 0"
    pod.initializer.write_text(source.replace(bug.rpartition("\n")[0], bug))
    rows = [slot.row("hf://o/a"), other_slot.row("hf://o/b", fallback="hf://o/b:main")]
    arguments = ["hf://o/a", str(pod.root / "a"), "hf://o/b", str(pod.root / "b")]

    run = pod.run(rows, *arguments)

    assert run.fallback == arguments
    assert "larder: ZeroDivisionError in judge, line " in run.output
    assert not (pod.root / "a").exists()
    assert run.message == ""
