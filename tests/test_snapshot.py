"""Descriptions of snapshots, what they refuse, and their tree. Taking and restoring one is tested with an engine."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from v86lab import abi, bundle
from v86lab.errors import ImageError, StoreError
from v86lab.image import Disk, Image
from v86lab.snapshot import Snapshot, Snapshots
from v86lab.store import Store

MIB = 1 << 20


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", shared=[])


@pytest.fixture
def snapshot(store: Store) -> Snapshot:
    image = Image(
        name="test",
        memory=64 * MIB,
        video_memory=8 * MIB,
        bios=store.put(b"bios"),
        vga_bios=store.put(b"vga"),
        hda=Disk(store.put(bytes(1024)), 1024),
        cdrom=Disk(store.put(bytes(2048)), 2048),
    )
    state = store.put(b"the state")
    return Snapshot(
        name="booted", image=image, state=state, wasm=bundle.wasm(), abi=abi.ABI, parent="before", instructions=12
    )


def test_what_is_saved_is_loaded_again_with_every_field(snapshot: Snapshot, store: Store, tmp_path: Path) -> None:
    snapshot.save(tmp_path / "a.json", store)
    loaded = Snapshot.load(tmp_path / "a.json")
    assert loaded == snapshot
    assert loaded.instructions == 12
    first = dataclasses.replace(snapshot, parent=None)
    first.save(tmp_path / "a.json", store)
    assert Snapshot.load(tmp_path / "a.json") == first
    seeded = dataclasses.replace(snapshot, seed=2**32 - 1)
    seeded.save(tmp_path / "a.json", store)
    assert Snapshot.load(tmp_path / "a.json") == seeded != snapshot


def test_the_store_keeps_a_saved_snapshot_as_long_as_its_file_exists(
    snapshot: Snapshot, store: Store, tmp_path: Path
) -> None:
    path = tmp_path / ("deep" * 30) / ("folder" * 20) / "snapshot.json"
    path.parent.mkdir(parents=True)
    snapshot.save(path, store)
    other = store.put(b"nobody's")
    store.gc(older_than=0)
    assert other not in store
    assert snapshot.state in store
    assert all(digest in store for digest in snapshot.image.digests(store))
    path.unlink()
    store.gc(older_than=0)
    assert snapshot.state not in store


def test_a_snapshot_whose_state_is_not_in_the_store_is_not_saved(
    snapshot: Snapshot, store: Store, tmp_path: Path
) -> None:
    lost = dataclasses.replace(snapshot, state="0" * 64)
    with pytest.raises(StoreError):
        lost.save(tmp_path / "a.json", store)
    assert not (tmp_path / "a.json").exists()


def test_a_place_that_cannot_be_written_is_an_error_and_leaves_nothing(
    snapshot: Snapshot, store: Store, tmp_path: Path
) -> None:
    with pytest.raises(ImageError, match="cannot save the snapshot"):
        snapshot.save(tmp_path / "missing" / "a.json", store)
    with pytest.raises(ImageError, match="cannot save the snapshot"):
        snapshot.save(tmp_path / "store", store)  # a folder
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]


HOSTILE: list[tuple[str, Any]] = [
    ("format", "v86lab image"),
    ("format", None),
    ("version", 3),
    ("version", "1"),
    ("name", None),
    ("name", ["x"]),
    ("image", None),
    ("image", "linux"),
    ("image", {"name": "linux"}),
    ("state", "../../etc/passwd"),
    ("state", "A" * 64),
    ("state", "0" * 63),
    ("state", 7),
    ("wasm", None),
    ("wasm", ["0"] * 64),
    ("abi", "1"),
    ("abi", 1.5),
    ("abi", float("inf")),
    ("abi", float("nan")),
    ("abi", True),
    ("parent", 3),
    ("instructions", -1e999),
    ("instructions", None),
    ("instructions", "12"),
    ("seed", -1),
    ("seed", 2**32),
    ("seed", 7.0),
    ("seed", True),
    ("seed", "7"),
]


@pytest.mark.parametrize(("field", "value"), HOSTILE, ids=lambda value: repr(value)[:30])
def test_a_wrong_field_is_an_image_error(
    snapshot: Snapshot, store: Store, tmp_path: Path, field: str, value: object
) -> None:
    path = tmp_path / "a.json"
    snapshot.save(path, store)
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(ImageError, match="is not a snapshot") as caught:
        Snapshot.load(path)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "field", ["format", "version", "name", "image", "state", "wasm", "abi", "parent", "instructions", "seed"]
)
def test_a_missing_field_is_an_image_error(snapshot: Snapshot, store: Store, tmp_path: Path, field: str) -> None:
    path = tmp_path / "a.json"
    snapshot.save(path, store)
    plain = json.loads(path.read_text())
    del plain[field]
    path.write_text(json.dumps(plain))
    with pytest.raises(ImageError, match=f"is not a snapshot.*{field}"):
        Snapshot.load(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"7",
        b'"text"',
        b"{",
        b"[" * 200_000,
        b"1" * 10_000,
        b'{"format":"v86lab snapshot"}',
    ],
    ids=lambda content: repr(content[:20]),
)
def test_what_is_no_snapshot_is_an_image_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ImageError, match="is not a snapshot"):
        Snapshot.load(path)


def test_a_file_without_end_is_refused_before_it_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with path.open("wb") as file:
        file.truncate(1 << 40 if sys.platform == "linux" else 2 * MIB)  # a hole takes no space
    with pytest.raises(ImageError, match="more than 1 MiB"):
        Snapshot.load(path)


def test_a_file_that_is_not_there_is_an_image_error(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.json", tmp_path):
        with pytest.raises(ImageError, match="is not a snapshot"):
            Snapshot.load(path)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"memory": 128 * MIB}, "memory 134217728"),
        ({"video_memory": 16 * MIB}, "video_memory"),
        ({"bios": "1" * 64}, "bios"),
        ({"acpi": True}, "acpi True"),
        ({"uarts": 2}, "uarts 2"),
        ({"consoles": 2}, "consoles 2"),
        ({"hda": None}, "hda None"),
        ({"hda": Disk("2" * 64, 2048)}, "hda"),
        ({"hdb": Disk("2" * 64, 512)}, "hdb"),
        ({"share": "3" * 64}, "share"),
    ],
)
def test_a_machine_of_other_hardware_is_refused_by_name(
    snapshot: Snapshot, changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(ImageError, match="does not fit this machine") as caught:
        snapshot.check_fits(dataclasses.replace(snapshot.image, **changes))
    assert caught.value.seen is not None and named in caught.value.seen
    assert caught.value.hint


@pytest.mark.parametrize(
    "changes", [{}, {"name": "other"}, {"cdrom": None}, {"hda": Disk("2" * 64, 1024)}, {"boot_order": ("disk",)}]
)
def test_what_a_state_brings_with_it_may_differ(snapshot: Snapshot, changes: dict[str, Any]) -> None:
    snapshot.check_fits(dataclasses.replace(snapshot.image, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"abi": abi.ABI + 1}, f"needs another machine ABI: expected machine ABI {abi.ABI}.*pip install --upgrade"),
        ({"wasm": "4" * 64}, "made by another version of v86lab"),
    ],
)
def test_a_state_of_another_version_is_refused(snapshot: Snapshot, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ImageError, match=message):
        dataclasses.replace(snapshot, **changes).check_fits(snapshot.image)


def test_a_saved_snapshot_of_another_machine_abi_says_which_release_has_it(
    snapshot: Snapshot, store: Store, tmp_path: Path
) -> None:
    path = tmp_path / "a.json"
    snapshot.save(path, store)
    plain = json.loads(path.read_text())
    plain["abi"] = plain["image"]["abi"] = abi.ABI + 1
    path.write_text(json.dumps(plain))
    with pytest.raises(ImageError, match=r"a\.json needs another machine ABI") as caught:
        Snapshot.load(path)
    assert caught.value.hint == abi.release_hint(abi.ABI + 1)


def test_a_snapshot_of_the_first_version_is_one_without_a_seed(
    snapshot: Snapshot, store: Store, tmp_path: Path
) -> None:
    path = tmp_path / "a.json"
    snapshot.save(path, store)
    plain = json.loads(path.read_text()) | {"version": 1}
    del plain["seed"]
    path.write_text(json.dumps(plain))
    assert Snapshot.load(path) == snapshot


def tree(snapshot: Snapshot, *pairs: tuple[str, str | None]) -> Snapshots:
    snapshots = Snapshots()
    for name, parent in pairs:
        snapshots.add(dataclasses.replace(snapshot, name=name, parent=parent))
    return snapshots


def test_the_tree_shows_what_came_from_what_and_where_the_machine_stands(snapshot: Snapshot) -> None:
    snapshots = tree(snapshot, ("a", None), ("b", "a"), ("c", "b"), ("d", "a"), ("e", "gone"))
    assert repr(snapshots) == "a\n  b\n    c\n  d\ne  <- here"
    snapshots.current = "b"
    assert repr(snapshots) == "a\n  b  <- here\n    c\n  d\ne"
    assert [one.name for one in snapshots] == ["a", "b", "c", "d", "e"]


def test_a_name_taken_again_belongs_to_the_new_snapshot_and_what_came_from_the_old_one_moves_up(
    snapshot: Snapshot,
) -> None:
    snapshots = tree(snapshot, ("root", None), ("a", "root"), ("b", "a"), ("c", "b"), ("a", "c"))
    assert len(snapshots) == 4
    assert snapshots["a"].parent == "c"
    assert repr(snapshots) == "root\n  b\n    c\n      a  <- here"
    assert repr(tree(snapshot, ("a", None), ("b", "a"), ("a", "a"))) == "b\na  <- here"


def test_a_snapshot_that_is_restored_stays_where_it_is_in_the_tree(snapshot: Snapshot) -> None:
    snapshots = tree(snapshot, ("a", None), ("b", "a"), ("c", "b"))
    snapshots.add(snapshots["b"])
    assert repr(snapshots) == "a\n  b  <- here\n    c"


def test_a_chain_of_thousands_can_be_shown(snapshot: Snapshot) -> None:
    snapshots = tree(snapshot, *((str(n), str(n - 1) if n else None) for n in range(3000)))
    lines = repr(snapshots).splitlines()
    assert len(lines) == 3000
    assert lines[-1] == "  " * 2999 + "2999  <- here"


def test_an_unknown_name_is_an_error_that_lists_those_there_are(snapshot: Snapshot) -> None:
    with pytest.raises(ImageError, match="expected one of 'a', 'b', saw 'c'"):
        tree(snapshot, ("a", None), ("b", "a"))["c"]
    with pytest.raises(ImageError, match="expected one of none"):
        Snapshots()["c"]


def test_a_repr_has_nothing_that_varies(snapshot: Snapshot) -> None:
    assert repr(snapshot) == "Snapshot('booted' of 'test')"
    assert snapshot == dataclasses.replace(snapshot, instructions=99)


def test_a_name_made_up_is_never_one_that_is_taken(snapshot: Snapshot) -> None:
    kept = Snapshots()
    for name in ("snapshot-2", "snapshot-1", "snapshot-4"):
        kept.add(dataclasses.replace(snapshot, name=name))
    assert kept.free_name() == "snapshot-3"
