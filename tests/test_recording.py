"""Recordings as files: what is saved is loaded again, and nothing else is. Making and replaying one needs an engine."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import v86lab as lab
from v86lab import abi
from v86lab.errors import ImageError, StoreError
from v86lab.image import Disk, Image
from v86lab.recording import Recording
from v86lab.store import Store

MIB = 1 << 20


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", shared=[])


@pytest.fixture
def recording(store: Store) -> Recording:
    image = Image(
        name="test",
        memory=64 * MIB,
        video_memory=8 * MIB,
        bios=store.put(b"bios"),
        vga_bios=store.put(b"vga"),
        cdrom=Disk(store.put(bytes(2048)), 2048),
    )
    events = [
        [3, 300_000, "console", "AQI="],
        [3, 300_000, "medium", "fda", {"digest": store.put(bytes(1474560)), "size": 1474560}],
        [17, 1_700_000, "medium", "fda", None],
        [20, 2_000_000, "keys", [28, 156], "žluť \u2028 \U0001f600"],
    ]
    return Recording(7, image, store.put(b"the state"), True, events, 25, 2_500_000, 0.1 + 0.2)


def test_what_is_saved_is_loaded_again_with_every_field(recording: Recording, store: Store, tmp_path: Path) -> None:
    for one in (recording, dataclasses.replace(recording, state=None, fresh=False, events=[])):
        one.save(tmp_path / "run.json", store)
        assert Recording.load(tmp_path / "run.json") == one
        assert hash(Recording.load(str(tmp_path / "run.json"))) == hash(one)


def test_the_store_keeps_all_that_it_needs_as_long_as_the_file_exists(
    recording: Recording, store: Store, tmp_path: Path
) -> None:
    path = tmp_path / "run.json"
    recording.save(path, store)
    other = store.put(b"nobody's")
    store.gc(older_than=0)
    assert other not in store
    assert recording.state in store
    assert len(recording.digests(store)) == 5
    assert all(digest in store for digest in recording.digests(store))
    path.unlink()
    store.gc(older_than=0)
    assert list(store.digests()) == []


def test_a_recording_whose_state_is_not_in_the_store_is_not_saved(
    recording: Recording, store: Store, tmp_path: Path
) -> None:
    with pytest.raises(StoreError):
        dataclasses.replace(recording, state="0" * 64).save(tmp_path / "run.json", store)
    assert not (tmp_path / "run.json").exists()


def test_a_place_that_cannot_be_written_is_an_error_of_the_caller(
    recording: Recording, store: Store, tmp_path: Path
) -> None:
    for path in (tmp_path / "missing" / "run.json", tmp_path / "store"):
        with pytest.raises(ImageError, match="cannot save the recording"):
            recording.save(path, store)


def test_a_repr_is_short_and_has_nothing_that_varies(recording: Recording) -> None:
    assert repr(recording) == "Recording(seed 7 of 'test': 4 events in 0.300 s)"
    assert repr(dataclasses.replace(recording, events=recording.events[:1])).endswith(": 1 event in 0.300 s)")


# ---- bad input ----


def test_a_file_cut_short_anywhere_says_so(recording: Recording, store: Store, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    recording.save(path, store)
    whole = path.read_bytes()
    assert whole.endswith(b"}\n")
    for end in range(1, len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(ImageError, match="is cut short: expected the whole") as caught:
            Recording.load(path)
        assert caught.value.seen == f"an end after {end} bytes"
    path.write_bytes(whole[:-1])
    assert Recording.load(path) == recording


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b'{"format": "v86lab snapshot", "version": 1}',
        b"[" * 200_000,
        b"\x7fELF",
    ],
    ids=lambda content: repr(content[:20]),
)
def test_what_is_no_recording_is_an_image_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"is none: expected a file written by Recording\.save") as caught:
        Recording.load(path)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "hole",
    [b"\0" * 9, b"NaN" + b" " * 6, b"[" * 9, b"9" * 5000],
    ids=["zeros", "a number that is none", "open", "long"],
)
def test_a_file_with_a_hole_is_damaged(recording: Recording, store: Store, tmp_path: Path, hole: bytes) -> None:
    path = tmp_path / "run.json"
    recording.save(path, store)
    path.write_bytes(path.read_bytes().replace(b"2500000, ", hole + b", "))
    with pytest.raises(ImageError, match="is damaged") as caught:
        Recording.load(path)
    assert len(str(caught.value)) < 1000


def test_a_file_without_end_is_refused_before_it_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.json"
    monkeypatch.setattr("v86lab.recording._MOST_BYTES", MIB)
    with path.open("wb") as file:
        file.truncate(1 << 40 if sys.platform == "linux" else 2 * MIB)  # a hole takes no space
    with pytest.raises(ImageError, match="expected at most 1048576 bytes, saw more"):
        Recording.load(path)


def test_a_file_that_is_not_there_is_an_image_error(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path, str(tmp_path) + "\0"):
        with pytest.raises(ImageError, match="cannot read the recording"):
            Recording.load(path)


def changed(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes) + "\n")


@pytest.mark.parametrize("version", [0, 2, "1", None, [[]]])
def test_another_version_asks_for_another_release(
    recording: Recording, store: Store, tmp_path: Path, version: object
) -> None:
    recording.save(tmp_path / "run.json", store)
    changed(tmp_path / "run.json", version=version)
    with pytest.raises(ImageError, match=r"cannot read the recording.*version 1, saw .*pip install --upgrade v86lab"):
        Recording.load(tmp_path / "run.json")


def test_another_machine_abi_names_the_release_to_install(recording: Recording, store: Store, tmp_path: Path) -> None:
    recording.save(tmp_path / "run.json", store)
    image = recording.image.to_json() | {"abi": abi.ABI + 1, "key of the future": 1}
    changed(tmp_path / "run.json", abi=abi.ABI + 1, image=image, key_of_the_future=1)
    with pytest.raises(ImageError, match="needs another machine ABI: expected machine ABI 2") as caught:
        Recording.load(tmp_path / "run.json")
    assert caught.value.hint == abi.release_hint(abi.ABI + 1)
    with pytest.raises(ImageError, match="the recording of seed 7 needs another machine ABI") as caught:
        lab.replay(dataclasses.replace(recording, abi=abi.ABI + 1))
    assert caught.value.hint == abi.release_hint(abi.ABI + 1)


HOSTILE: list[tuple[str, Any]] = [
    ("abi", "1"),
    ("abi", True),
    ("seed", None),
    ("seed", -1),
    ("seed", 2**32),
    ("image", None),
    ("image", {"name": "linux"}),
    ("state", "../../etc/passwd"),
    ("state", 7),
    ("fresh", 1),
    ("steps", -1),
    ("steps", 2),  # before the last event
    ("instructions", 1.5),
    ("seconds", -1),
    ("seconds", "1"),
    ("seconds", True),
    ("events", None),
    ("events", {}),
    ("events", [7]),
    ("events", [[1, 1]]),
    ("events", [[1, 1, 1]]),
    ("events", [["1", 1, "console"]]),
    ("events", [[1, -1, "console"]]),
    ("events", [[2, 1, "console"], [1, 1, "console"]]),
]


@pytest.mark.parametrize(("field", "value"), HOSTILE, ids=lambda value: repr(value)[:30])
def test_a_wrong_field_is_an_image_error(
    recording: Recording, store: Store, tmp_path: Path, field: str, value: object
) -> None:
    recording.save(tmp_path / "run.json", store)
    changed(tmp_path / "run.json", **{field: value})
    with pytest.raises(ImageError, match=r"is damaged: expected what Recording\.save wrote") as caught:
        Recording.load(tmp_path / "run.json")
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "field", ["abi", "seed", "image", "state", "fresh", "events", "steps", "instructions", "seconds"]
)
def test_a_missing_field_is_named(recording: Recording, store: Store, tmp_path: Path, field: str) -> None:
    path = tmp_path / "run.json"
    recording.save(path, store)
    plain = json.loads(path.read_text())
    del plain[field]
    path.write_text(json.dumps(plain) + "\n")
    with pytest.raises(ImageError, match=f"is damaged.*saw no '{field}'"):
        Recording.load(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
PLAIN = {
    "format": "v86lab recording", "version": 1, "abi": 2, "seed": 7, "state": None, "fresh": False, "steps": 9,
    "instructions": 9, "seconds": 1.0, "events": [[1, 2, "x"]],
    "image": Image(name="x", memory=64 * MIB, video_memory=8 * MIB, bios="1" * 64, vga_bios="2" * 64).to_json(),
}  # fmt: skip


@given(st.dictionaries(st.sampled_from(sorted(PLAIN)), JSON, min_size=1, max_size=3))
def test_hostile_values_make_a_recording_or_an_image_error(changes: dict[str, Any]) -> None:
    try:
        assert Recording._of("it", PLAIN | changes).digests()
    except ImageError as error:
        assert len(str(error)) < 1000
