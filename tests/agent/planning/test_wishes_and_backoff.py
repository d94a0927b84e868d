"""What a node reads in the catalog, and when it tries again."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.planning.backoff import next_failure
from agent.planning.values import (
    OF_WHOLE,
    Algorithm,
    Checksum,
    Failure,
    Listing,
    RemoteFile,
    parse_listing,
)
from agent.planning.wishes import Node, wishes_of
from larder.catalog import read_catalog
from larder.contract import FillFailure
from larder.errors import (
    AccessDeniedError,
    IntegrityError,
    SourceUnavailableError,
    StalledError,
)
from larder.layout import Digest
from larder.quantities import parse_share

CATALOG = read_catalog(
    b"""
apiVersion: larder.dev/v1alpha1
kind: Catalog
defaults: {joinTimeout: 2m, fills: {maxConcurrent: 3, xetMemory: 1Mi}, freeFloor: 10%}
nodeGroups:
  - {name: gpu, nodeSelector: {matchLabels: {gpu: h100}}, budget: 500}
  - {name: big, nodeSelector: {matchLabels: {size: big}}, budget: 50%}
models:
  - {name: a, storageUri: "hf://o/a", revision: v1, namespaces: [x], nodeGroups: [gpu]}
  - {name: b, storageUri: "https://h/b.zip", namespaces: [x], retention: Pinned, priority: 7}
""",
    standalone=True,
)


@pytest.mark.parametrize(
    ("labels", "flag", "names", "budget"),
    [
        pytest.param({}, None, ["b"], 800, id="no group: 80 % of the filesystem"),
        pytest.param({"gpu": "h100"}, None, ["a", "b"], 500, id="a group's budget"),
        pytest.param(
            {"gpu": "h100", "size": "big"}, "400", ["a", "b"], 400, id="the smallest holds"
        ),
        pytest.param({"size": "big"}, "90%", ["b"], 500, id="a larger flag does not widen a group"),
        pytest.param({}, "90%", ["b"], 900, id="the flag alone"),
    ],
)
def test_groups_choose_models_and_the_smallest_budget_holds(
    labels: dict[str, str], flag: str | None, names: list[str], budget: int
) -> None:
    node = Node("n", labels, parse_share(flag) if flag else None)
    wishes = wishes_of(CATALOG, node, 1000)
    assert [w.name for w in wishes.wanted.values()] == names
    assert [e.name for e in wishes.entries.values()] == names
    assert wishes.limits.budget_bytes == budget


def test_limits_and_entries_are_those_of_the_catalog() -> None:
    wishes = wishes_of(CATALOG, Node("n", {}), 1000)
    assert (wishes.limits.free_floor_bytes, wishes.limits.max_concurrent) == (100, 3)
    assert wishes.limits.xet_memory_bytes == 2**20
    assert wishes.limits.join_timeout_seconds == 120
    (only,) = wishes.wanted.values()
    assert (only.priority, only.is_pinned) == (7, True)


def test_delays_double_up_to_a_limit_and_are_spread() -> None:
    failure: Failure | None = None
    delays = []
    for _ in range(20):
        failure = next_failure(failure, StalledError("x"), now=0.0, jitter=1.0)
        delays.append(failure.retry_at)
    assert delays[:3] == [5.0, 10.0, 20.0]
    assert delays[-1] == 600.0
    assert failure is not None
    assert failure.attempts == 20
    assert next_failure(None, StalledError("x"), now=0.0, jitter=0.0).retry_at == 2.5


def test_a_permanent_fault_is_rarely_tried_again() -> None:
    first = next_failure(None, AccessDeniedError("no"), now=100.0, jitter=0.0)
    assert first == Failure(FillFailure.ACCESS_DENIED, "no", 250.0, 1, failed_at=100.0)


def test_what_the_source_asks_for_is_a_floor() -> None:
    error = SourceUnavailableError("429", retry_after_seconds=77.0)
    assert next_failure(None, error, now=0.0, jitter=0.5).retry_at == 77.0
    soon = SourceUnavailableError("429", retry_after_seconds=0.0)
    assert next_failure(None, soon, now=0.0, jitter=1.0).retry_at == 5.0


def test_a_source_cannot_send_us_away_for_longer_than_an_hour() -> None:
    error = SourceUnavailableError("429", retry_after_seconds=999_999_999.0)
    assert next_failure(None, error, now=0.0, jitter=0.0).retry_at == 3600.0


RECORDED = Path(__file__).parents[2] / "recorded/0.1.0/listing.json"
digests = st.integers(0, 2**256 - 1).map(lambda n: Digest(f"{n:064x}"))
names = st.text("abc-_é 0", min_size=1, max_size=20).filter(lambda t: t not in {".", ".."})


known = st.one_of(
    st.tuples(digests),
    st.tuples(st.none(), st.builds(Checksum, st.sampled_from(OF_WHOLE), digests)),
    st.tuples(
        st.none(),
        st.builds(Checksum, st.sampled_from(Algorithm), digests, st.integers(1, 2**50)),
    ),
    st.just(()),
)


@given(st.dictionaries(names, st.tuples(st.integers(0, 2**50), known)))
def test_a_listing_survives_its_file(files: dict[str, tuple[int, Any]]) -> None:
    listing = Listing(
        "hf://o/m",
        "c" * 40,
        tuple(RemoteFile(p, size, *known) for p, (size, known) in files.items()),
    )
    assert parse_listing(listing.text()) == listing
    assert listing.size_bytes == listing.known_bytes == sum(size for size, _ in files.values())
    assert listing.unmeasured is None


def test_a_listing_that_0_1_0_wrote_is_read_and_written_back() -> None:
    listing = parse_listing(RECORDED.read_text())
    assert listing is not None
    large, small, shard, composed, parts = listing.files
    assert (large.sha256, large.checksum) == ("ab" * 32, None)
    assert small.checksum == Checksum(Algorithm.GIT_BLOB, "cd" * 20)
    assert (shard.checksum, shard.etag) == (Checksum(Algorithm.MD5, "ef" * 16), f'"{"ef" * 16}"')
    assert (composed.checksum, composed.version) == (Checksum(Algorithm.CRC32C, "e3069283"), "17")
    assert (parts.sha256, parts.checksum, parts.key) == (None, None, "m/e-parts.bin")
    assert parse_listing(listing.text()) == listing


def test_an_earlier_release_reads_no_checksum_where_it_is_one_of_parts() -> None:
    file = RemoteFile("m", 9, checksum=Checksum(Algorithm.SHA256, "ab" * 32, part_bytes=5))
    (said,) = json.loads(Listing("s3://b/m", "sha256:c", (file,)).text())["files"]
    assert {said[name] for name in ("sha256", *OF_WHOLE)} == {None}


def test_what_a_store_of_chunks_knows_a_file_by_survives_and_makes_no_other_listing() -> None:
    file = RemoteFile("m", 1, Digest("0" * 64), xet_hash="ab" * 32)
    listing = Listing("hf://o/m", "c" * 40, (file,))
    again = parse_listing(listing.text())
    assert again is not None
    assert again.files[0].xet_hash == "ab" * 32
    assert again == Listing("hf://o/m", "c" * 40, (RemoteFile("m", 1, Digest("0" * 64)),))
    assert parse_listing(listing.text().replace(f'"{"ab" * 32}"', "7")) is None


@given(st.integers(0, 2**50), st.integers(0, 2**50))
def test_an_archive_s_listing_survives_its_file_with_the_room_it_needs(
    size: int, room: int
) -> None:
    archive = RemoteFile("m.tar", size, etag='"e"', unpacked_bytes=room)
    listing = Listing("https://h/m.tar", "sha256:c", (archive,))
    assert parse_listing(listing.text()) == listing
    assert listing.unmeasured == archive
    assert (listing.size_bytes, listing.known_bytes) == (size + room, 0)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("[]", id="no object"),
        pytest.param('{"storageUri": "hf://o/m", "revision": "c"}', id="no files"),
        pytest.param(
            '{"storageUri": "s", "revision": "c", "files": [{"path": "../x", "size": 1,'
            ' "sha256": null, "gitSha1": "e"}]}',
            id="a path that leaves the model",
        ),
        pytest.param(
            '{"storageUri": "s", "revision": "c", "files": [{"path": "x", "size": -1,'
            ' "sha256": null, "gitSha1": "e"}]}',
            id="a negative size",
        ),
        pytest.param(
            '{"storageUri": "s", "revision": "c", "files": [{"path": 7, "size": 1,'
            ' "sha256": null, "gitSha1": "e"}]}',
            id="a path that is a number",
        ),
        pytest.param(
            '{"storageUri": "s", "revision": 7, "files": []}', id="a revision that is a number"
        ),
        *(
            pytest.param(
                '{"storageUri": "s", "revision": "c", "files": [{"path": "m.zip", "size": 1,'
                f' "sha256": null, "gitSha1": null, "unpackedBytes": {room}}}]}}',
                id=f"room for {room}",
            )
            for room in ("-1", '""', "true", "1.5")
        ),
        *(
            pytest.param(
                '{"storageUri": "s", "revision": "c", "files": [{"path": "m", "size": 1,'
                f' "sha256": null, "ofParts": {parts}}}]}}',
                id=f"parts {parts}",
            )
            for parts in (
                *("1", "[]", "{}", '"crc32"'),
                '{"algorithm": "crc16", "hexdigest": "ab", "size": 1}',
                '{"algorithm": "crc32", "hexdigest": "ab", "size": 0}',
                '{"algorithm": "crc32", "hexdigest": "ab", "size": true}',
                '{"algorithm": "crc32", "hexdigest": 7, "size": 1}',
            )
        ),
    ],
)
def test_a_listing_that_cannot_be_is_none(text: str) -> None:
    assert parse_listing(text) is None


def test_bytes_that_are_not_as_listed_put_the_listing_in_doubt_until_it_was_asked_for() -> None:
    first = next_failure(None, IntegrityError("f", "1", "2"), now=0.0, jitter=0.0)
    assert first.doubts_listing
    assert next_failure(first, SourceUnavailableError("503"), now=9.0, jitter=0.0).doubts_listing
    assert not next_failure(None, SourceUnavailableError("503"), 9.0, 0.0).doubts_listing
