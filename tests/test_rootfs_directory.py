from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trees
from hypothesis import given, settings

from v86lab.errors import ImageError
from v86lab.rootfs import RootFS, directory
from v86lab.rootfs.content import PIECE
from v86lab.rootfs.directory import _listing
from v86lab.rootfs.tar import write_tar

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX file types")
root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can make all of it")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder


def shared(folder: Path, max_bytes: int | None = None) -> RootFS:
    return directory(folder, shared=True, max_bytes=max_bytes)


# ---- a folder that is shared ----


def test_a_shared_folder_shows_its_files_as_roots(folder: Path) -> None:
    (folder / "src").mkdir()
    (folder / "src" / "a.c").write_bytes(b"int a;")
    (folder / "empty").touch()
    (folder / "stra\xdfe \u4e2d").write_bytes(b"x")
    os.utime(folder / "src" / "a.c", ns=(10**18, 10**18 + 900_000_001))
    tree = shared(folder)
    assert tree.paths() == ["/", "/empty", "/src", "/src/a.c", "/stra\xdfe \u4e2d"]
    inode = tree["/src/a.c"]
    assert (inode.uid, inode.gid, inode.size, inode.mtime) == (0, 0, 6, 10**18 + 900_000_001)
    assert tree.read("/src/a.c") == b"int a;" and tree.read("/empty") == b"" and tree.size == 7
    assert tree.name == "folder" and directory(folder, name="mine").name == "mine"


@root
def test_owners_are_roots_only_in_a_shared_folder(folder: Path) -> None:
    (folder / "f").touch()
    os.chown(folder / "f", 1000, 4_000_000_000)
    assert (shared(folder)["/f"].uid, shared(folder)["/f"].gid) == (0, 0)
    assert (directory(folder)["/f"].uid, directory(folder)["/f"].gid) == (1000, 4_000_000_000)


@posix
def test_permissions_are_kept_but_nothing_shared_becomes_set_user_id_root(folder: Path) -> None:
    for name, mode in (("script", 0o4755), ("secret", 0o600), ("group", 0o2771), ("sticky", 0o1777)):
        (folder / name).touch()
        (folder / name).chmod(mode)
    modes = ("/script", "/secret", "/group", "/sticky")
    assert [oct(shared(folder)[name].mode) for name in modes] == ["0o100755", "0o100600", "0o100771", "0o101777"]
    assert [oct(directory(folder)[name].mode) for name in modes] == ["0o104755", "0o100600", "0o102771", "0o101777"]


@posix
def test_everybody_in_the_guest_may_look_into_a_shared_folder(folder: Path) -> None:
    folder.chmod(0o700)
    assert oct(shared(folder)["/"].mode) == "0o40755"
    assert oct(directory(folder)["/"].mode) == "0o40700"


def test_the_same_folder_gives_the_same_tree_whatever_order_it_was_made_in(tmp_path: Path) -> None:
    digests = []
    for number, names in enumerate((["b", "a", "\xe9", "Z"], ["Z", "\xe9", "a", "b"])):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name in names:
            (folder / name).write_text(name, "utf-8")
            os.utime(folder / name, (5, 5))
        os.utime(folder, (6, 6))
        digests.append(shared(folder).digest)
    assert digests[0] == digests[1]
    assert shared(folder).listdir() == ["Z", "a", "b", "\xe9"]


@posix
def test_links_stay_links_and_nothing_outside_gets_in(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "secret").write_text("outside")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "secret").write_text("outside too")
    targets = {"file": str(tmp_path / "secret"), "folder": "../more", "nothing": "./no//such", "itself": "."}
    for name, target in targets.items():
        os.symlink(target, folder / name)  # noqa: PTH211  (pathlib would normalise the target)
    for tree in (shared(folder), directory(folder)):
        assert {name: os.fsdecode(tree["/" + name].target) for name in targets} == targets
        assert tree.size == 0 and len(tree) == 5


@posix
def test_what_the_guest_cannot_share_is_left_out_with_a_warning(folder: Path) -> None:
    (folder / "file").touch()
    os.mkfifo(folder / "pipe")
    with _a_socket_in(folder):
        with pytest.warns(UserWarning, match=r"left out of the folder.*'pipe', 'socket'"):
            tree = shared(folder)
        assert tree.listdir() == ["file"]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            whole = directory(folder)
        assert [whole[name].type for name in ("/file", "/pipe", "/socket")] == ["file", "fifo", "socket"]


@contextmanager
def _a_socket_in(folder: Path) -> Iterator[None]:
    here = Path.cwd()
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(folder)  # a socket's path is short
        try:
            server.bind("socket")
        finally:
            os.chdir(here)
        yield


@pytest.mark.skipif(sys.platform != "linux", reason="file names that are no UTF-8")
def test_names_and_targets_that_are_no_utf8_are_kept(folder: Path) -> None:
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9")).write_bytes(b"x")
    os.symlink(b"caf\xe9", os.fsencode(folder) + b"/link")  # noqa: PTH211
    tree = shared(folder)
    assert tree.read(b"caf\xe9") == b"x" and tree[b"link"].target == b"caf\xe9" and tree.read("/link") == b"x"


def test_sizes_and_numbers_of_files_are_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "a").write_bytes(bytes(1000))
    (folder / "b").write_bytes(bytes(1000))
    shared(folder, max_bytes=2000)
    with pytest.raises(ImageError, match=r"too big.*at most 1999 bytes.*at '/b'. Hint: share a smaller folder"):
        shared(folder, max_bytes=1999)
    with pytest.raises(ImageError, match=r"at most 1999 bytes.*Hint: give max_bytes"):
        directory(folder, max_bytes=1999)
    monkeypatch.setattr(sys.modules["v86lab.rootfs.directory"], "SHARED_ENTRIES", 2)
    with pytest.raises(ImageError, match=r"too big: expected at most 2 entries.*Hint: share a smaller folder"):
        shared(folder)


@posix
def test_a_shared_folder_of_more_than_two_gibibytes_is_refused_unless_allowed(folder: Path) -> None:
    (folder / "big").touch()
    os.truncate(folder / "big", (2 << 30) + 1)
    with pytest.raises(ImageError, match="files of at most 2 GiB"):
        shared(folder)
    assert shared(folder, max_bytes=3 << 30).size == (2 << 30) + 1


def test_deep_folders_are_read_without_recursion(folder: Path) -> None:
    deep = folder.joinpath(*"d" * 500)
    deep.mkdir(parents=True)
    (deep / "f").write_bytes(b"x")
    assert shared(folder).read("/" + "d/" * 500 + "f") == b"x"


# ---- a folder as a root file system ----


@root
@settings(max_examples=25)
@given(trees.trees(sockets=False, xattrs=False, times=trees.YEARS_ON_DISK))
def test_a_folder_that_tar_extracted_is_the_tree_it_was(tree: RootFS) -> None:
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "x").mkdir()
        write_tar(tree, Path(place, "a.tar"))
        subprocess.run(["tar", "-C", f"{place}/x", "-xpf", f"{place}/a.tar", "--numeric-owner"], check=True, stderr=-3)
        found = directory(Path(place, "x"))
        assert trees.described(found) == trees.on_disk(Path(place, "x")) == trees.described(tree)
        assert found.digest == tree.digest
        Path(place, "x").chmod(0o700)


@root
def test_hard_links_attributes_and_holes_are_kept(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "a").write_bytes(b"same")
    (folder / "b").hardlink_to(folder / "sub" / "a")
    with (folder / "sparse").open("wb") as file:
        file.seek(20 * PIECE)
        file.write(b"end")
    os.setxattr(folder / "b", "user.note", b"\0x")
    os.setxattr(folder / "sub", "trusted.t", b"")
    (folder / "l").symlink_to("b")
    os.setxattr(folder / "l", "trusted.l", b"1", follow_symlinks=False)
    tree = directory(folder)
    assert trees.described(tree) == trees.on_disk(folder, xattrs=True)
    assert [entry.first for entry in tree.entries() if entry.path == b"sub/a"] == [b"b"]
    assert list(tree["/sparse"].content.pieces())[:20] == [None] * 20
    assert not any(shared(folder)[path].xattrs for path in shared(folder).paths())


# ---- while somebody changes it ----


@posix
def test_a_file_swapped_for_a_link_or_a_pipe_is_not_followed(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "secret").write_bytes(b"outside")
    for make in (
        lambda path: path.symlink_to(tmp_path / "secret"),
        lambda path: os.mkfifo(path),
        lambda path: path.write_bytes(b"another"),
        lambda path: path.hardlink_to(tmp_path / "secret"),
    ):
        (folder / "f").write_bytes(b"in here")
        tree = shared(folder)
        (folder / "f").unlink()
        make(folder / "f")
        with pytest.raises(ImageError, match=r"cannot read .*f'"):
            tree.read("/f")
        (folder / "f").unlink()


@posix
def test_a_folder_swapped_for_a_link_is_not_followed(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret").touch()
    seen = folder.stat()
    folder.rmdir()
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ImageError, match="cannot read"):
        _listing(folder, seen)
    folder.unlink()
    (tmp_path / "elsewhere").rename(folder)
    with pytest.raises(ImageError, match="the folder that was there a moment ago, saw another"):
        _listing(folder, seen)


# ---- what is given ----


def test_what_is_no_folder_is_refused(folder: Path) -> None:
    (folder / "file").touch()
    for path, message in ((folder / "none", "No such|cannot find"), (folder / "file", "saw a file"), ("a\0b", "null")):
        with pytest.raises(ImageError, match=message):
            directory(path)


@posix
def test_a_link_to_a_folder_may_be_given_and_the_current_directory_may_change(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "f").write_bytes(b"x")
    (tmp_path / "link").symlink_to("folder")
    monkeypatch.chdir(tmp_path)
    tree = directory("link")
    monkeypatch.chdir("/")
    assert tree.read("/f") == b"x"


@posix
@root
def test_what_may_not_be_read_is_named(folder: Path) -> None:
    (folder / "secret").touch()
    (folder / "secret").chmod(0)
    (folder / "locked").mkdir()
    (folder / "locked").chmod(0)
    above = [path for path in folder.parents if path.stat().st_uid == 0 and len(path.parts) > 2]
    modes = {path: path.stat().st_mode for path in above}
    try:
        for path in above:
            path.chmod(0o755)
        os.seteuid(65534)
        with pytest.raises(ImageError, match=r"at '/secret' of the folder .*Permission denied"):
            directory(folder)
        os.seteuid(0)
        (folder / "secret").unlink()
        os.seteuid(65534)
        with pytest.raises(ImageError, match=r"cannot read .*locked'.*Permission denied"):
            directory(folder)
    finally:
        os.seteuid(0)
        for path, mode in modes.items():
            path.chmod(mode)
