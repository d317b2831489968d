"""Trees as 9p manifests, and back."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import trees
from hypothesis import given, settings

from v86lab import rootfs, tree9p
from v86lab.errors import ImageError
from v86lab.rootfs import RootFS, ninep
from v86lab.rootfs.content import PIECE, Inline
from v86lab.rootfs.cpio import write_cpio
from v86lab.rootfs.disk import write_disk
from v86lab.store import Store
from v86lab.tree9p import CHUNK


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@settings(max_examples=30)
@given(tree=trees.trees())
def test_any_tree_comes_back_as_it_was(tree: RootFS) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        packed, plain = ninep.write(tree, store), ninep.write(tree, store, compress=False)
        for digest in (packed, plain):
            again = ninep.read(digest, store)
            assert again.digest == tree.digest
            assert ninep.write(again, store, compress=digest is packed) == digest


def test_chunks_are_packed_where_it_pays_zeros_are_nothing_and_equal_ones_are_kept_once(store: Store) -> None:
    noise = trees.bytes_of(1, PIECE)
    tree = rootfs.of({"text": b"text " * 1000, "noise": noise, "both": bytes(PIECE) + noise, "zeros": bytes(3 * PIECE)})
    chunks = list(tree9p.Manifest.load(ninep.write(tree, store), store).chunks())
    assert sorted(chunk[0] == "z" for chunk in chunks) == [False] * 8 + [True]
    assert len(set(chunks)) == 5


def test_a_tree_of_the_store_says_where_its_bytes_are(store: Store) -> None:
    data = bytes(CHUNK) + trees.bytes_of(2, CHUNK) + bytes(PIECE) + b"end"
    content = ninep.read(ninep.write(rootfs.of({"a": data}), store), store)["/a"].content
    assert list(content.spans()) == [(CHUNK, CHUNK), (2 * CHUNK + PIECE, 3)]
    assert content.read() == data


@pytest.mark.parametrize("writer", ["disk", "tar", "cpio"])
def test_a_tree_of_the_store_can_be_written_as_anything_else(store: Store, tmp_path: Path, writer: str) -> None:
    files = {"a": trees.bytes_of(3, 3 * PIECE + 5), "b": bytes(PIECE) + b"x", "c": b"small"}
    tree = ninep.read(ninep.write(rootfs.of(files), store), store)
    target = tmp_path / "written"
    if writer == "disk":
        write_disk(tree, target, 32 << 20)
        again = rootfs.ext4(target)
    elif writer == "tar":
        tree.write_tar(target)
        again = rootfs.tar(target)
    else:
        write_cpio(tree, target)
        again = rootfs.cpio(target)
    assert {name: again.read(name) for name in files} == files


def test_a_tree_that_is_in_the_store_already_is_not_read_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = ninep.read(ninep.write(rootfs.of({"a": b"one", "b": b"two"}), store), store).with_file("/c", b"three")
    read: list[bytes] = []
    monkeypatch.setattr(ninep.Chunked, "pieces", lambda self: read.append(self))
    changed = ninep.write(tree, store)
    assert read == [] and len(tree9p.digests_of(changed, store)) == 3


def test_a_chunk_of_another_length_is_refused(store: Store) -> None:
    digest = store.put(b"four")
    row = [0o100644, 0, 0, 0, 0, [5, digest]]
    tree = ninep.read(store.put(tree9p.encode([[0o40755, 0, 0, 0, 0, None], row], [[0, "a", 1]])), store)
    with pytest.raises(ImageError, match="chunk of a 9p tree is damaged"):
        tree.read("/a")


def test_what_fails_while_it_is_read_leaves_nothing_in_the_way(store: Store) -> None:
    class Broken(Inline):
        def pieces(self):  # type: ignore[no-untyped-def]
            yield self.data
            raise ImageError("broken")

    tree = rootfs.of({"a": b"whole"}).with_file("/b", Broken(b"half"))
    with pytest.raises(ImageError, match="broken"):
        ninep.write(tree, store)
    assert list(store.home.glob("tmp/*")) == []
    assert ninep.read(ninep.write(tree.without("/b"), store), store).read("/a") == b"whole"
