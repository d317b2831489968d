"""Manifests of 9p trees: what the format says, and that nothing else is taken for one."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from v86lab import tree9p
from v86lab.errors import ImageError, StoreError
from v86lab.store import Store

D = "d" * 64
ROOT = [0o40755, 0, 0, 0, 0, None]
FILE = [0o100644, 0, 0, 0, 0, [5, D]]


def manifest(inodes: list[Any] | None = None, names: list[Any] | None = None, **changes: Any) -> bytes:
    plain = {"format": "v86lab-tree", "version": 1, "chunk": 1 << 18, "size": 5}
    plain |= {"inodes": [ROOT, FILE] if inodes is None else inodes, "names": [[0, "a", 1]] if names is None else names}
    return json.dumps(plain | changes).encode()


def test_a_manifest_is_read_plain_or_packed_and_names_its_blobs(tmp_path: Path) -> None:
    store = Store(tmp_path)
    chunks = [3 << 18, "z" + "e" * 64, None, D]
    raw = manifest([ROOT, [0o100644, 1, 2, -3, 4, chunks, [["user.a", "YQ=="]]]])
    for stored in (raw, zstandard.ZstdCompressor().compress(raw)):
        assert tree9p.digests_of(store.put(stored), store) == {"e" * 64, D}


def test_writing_and_reading_agree() -> None:
    found = tree9p.Manifest.parse(tree9p.encode([ROOT, FILE], [[0, "\udcff", 1]]))
    assert (found.inodes, found.names) == ([ROOT, FILE], [[0, "\udcff", 1]])


def test_chunks_that_come_beside_a_manifest_are_counted() -> None:
    raw = manifest([ROOT, [0o100644, 0, 0, 0, 0, [5, "n1"]]])
    assert list(tree9p.Manifest.parse(raw, new=2).chunks()) == ["n1"]
    with pytest.raises(ImageError, match="damaged"):
        tree9p.Manifest.parse(raw, new=1)


def bad_inode(row: Any) -> bytes:
    return manifest([ROOT, row])


BAD = {
    "no JSON": b"{",
    "too deep": b"[" * 100_000,
    "a list": b"[]",
    "an fs.json": b'{"version": 3, "fsroot": [], "size": 0}',
    "another version": manifest(version=2),
    "another chunk": manifest(chunk=4096),
    "no root": manifest([], []),
    "a root that is a file": manifest([FILE], []),
    "an inode without a name": manifest([ROOT, FILE, FILE]),
    "a name without an inode": manifest(names=[[0, "a", 2]]),
    "the root with a name": manifest(names=[[0, "a", 0], [0, "b", 1]]),
    "a name twice": manifest([ROOT, FILE, FILE], [[0, "a", 1], [0, "a", 2]]),
    "a name in a file": manifest([ROOT, FILE, FILE], [[0, "a", 1], [1, "b", 2]]),
    "a name before its directory": manifest([ROOT, ROOT, FILE], [[1, "b", 2], [0, "a", 1]]),
    "a directory with two names": manifest([ROOT, ROOT], [[0, "a", 1], [0, "b", 1]]),
    "a directory in itself": manifest([ROOT, ROOT], [[0, "a", 1], [1, "b", 1]]),
    **{f"the name {name!r}": manifest(names=[[0, name, 1]]) for name in ("", ".", "..", "a/b", "a\0", 7)},
    "a short row": bad_inode(FILE[:5]),
    "a text for a number": bad_inode(["33188", *FILE[1:]]),
    "a bool for a number": bad_inode([0o100644, True, *FILE[2:]]),
    "nanoseconds": bad_inode([0o100644, 0, 0, 0, 10**9, [0]]),
    "a missing chunk": bad_inode([0o100644, 0, 0, 0, 0, [(1 << 18) + 1, D]]),
    "a chunk too many": bad_inode([0o100644, 0, 0, 0, 0, [0, D]]),
    "a path for a chunk": bad_inode([0o100644, 0, 0, 0, 0, [5, "../../etc/passwd"]]),
    "a chunk in capitals": bad_inode([0o100644, 0, 0, 0, 0, [5, "D" * 64]]),
    "an absurd size": bad_inode([0o100644, 0, 0, 0, 0, [1 << 60]]),
    "a link to nothing": bad_inode([0o120777, 0, 0, 0, 0, None]),
    "a device without numbers": bad_inode([0o20644, 0, 0, 0, 0, None]),
    "a directory with content": bad_inode([0o40755, 0, 0, 0, 0, [5, D]]),
    "attributes that are none": bad_inode([*FILE, {"user.a": "YQ=="}]),
}


@pytest.mark.parametrize("raw", BAD.values(), ids=BAD.keys())
def test_what_is_no_manifest_is_refused(raw: bytes) -> None:
    with pytest.raises(ImageError, match="9p tree"):
        tree9p.Manifest.parse(raw)


def test_an_earlier_release_is_named_in_the_hint() -> None:
    with pytest.raises(ImageError, match="earlier release"):
        tree9p.Manifest.parse(BAD["an fs.json"])


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(300 << 20))
    store = Store(tmp_path)
    with pytest.raises(ImageError, match=r"at most 256 MiB"):
        tree9p.Manifest.load(store.put(bomb), store)


def test_a_tree_that_is_not_there_is_the_stores_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        tree9p.Manifest.load(D, Store(tmp_path))


@given(st.data())
def test_any_damage_is_an_image_error_or_a_manifest(data: st.DataObject) -> None:
    raw = bytearray(manifest())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ImageError):
        tree9p.Manifest.parse(bytes(raw))
