from __future__ import annotations

import doctest
import io
import os
import socket
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from v86lab import tree9p
from v86lab.errors import ImageError, StoreError
from v86lab.store import Store

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX file types")
not_root = pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root reads everything")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder


def rows(store: Store, digest: str) -> dict[str, list[Any]]:
    """Every entry of a tree by its path."""
    found: dict[str, list[Any]] = {}

    def walk(entries: list[list[Any]], prefix: str) -> None:
        for entry in entries:
            found[prefix + entry[0]] = entry
            if stat.S_ISDIR(entry[3]):
                walk(entry[6], prefix + entry[0] + "/")

    plain = tree9p.load(digest, store)
    assert plain["version"] == 3
    walk(plain["fsroot"], "")
    return found


def test_the_examples_in_the_docstrings_run() -> None:
    result = doctest.testmod(tree9p)
    assert result.attempted > 0 and result.failed == 0


# ---- folders ----


def test_a_folder_becomes_an_fs_json_as_v86_reads_it(folder: Path, store: Store) -> None:
    (folder / "src").mkdir()
    (folder / "src" / "a.c").write_bytes(b"int a;")
    (folder / "empty").touch()
    (folder / "stra\xdfe \u4e2d").write_bytes(b"x")
    os.utime(folder / "src" / "a.c", (1_000_000_000, 1_000_000_000.9))
    found = rows(store, tree9p.from_directory(folder, store))
    assert list(found) == ["empty", "src", "src/a.c", "stra\xdfe \u4e2d"]
    name, size, mtime, mode, uid, gid, digest = found["src/a.c"]
    assert (name, size, mtime, uid, gid) == ("a.c", 6, 1_000_000_000, 0, 0)
    assert stat.S_ISREG(mode) and store.get(digest) == b"int a;" and len(digest) == 64
    assert found["empty"][1] == 0 and store.get(found["empty"][6]) == b""
    assert stat.S_ISDIR(found["src"][3]) and isinstance(found["src"][6], list)
    assert tree9p.load(tree9p.from_directory(folder, store), store)["size"] == 7


@posix
def test_permissions_are_kept_but_nothing_becomes_set_user_id_root(folder: Path, store: Store) -> None:
    for name, mode in (("script", 0o4755), ("secret", 0o600), ("group", 0o2771)):
        (folder / name).touch()
        (folder / name).chmod(mode)
    found = rows(store, tree9p.from_directory(folder, store))
    assert [oct(found[name][3]) for name in ("script", "secret", "group")] == ["0o100755", "0o100600", "0o100771"]


@posix
def test_the_same_folder_gives_the_same_digest_whatever_order_it_was_made_in(tmp_path: Path, store: Store) -> None:
    digests = []
    for number, names in enumerate((["b", "a", "\xe9", "Z"], ["Z", "\xe9", "a", "b"])):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name in names:
            (folder / name).write_text(name)
            os.utime(folder / name, (5, 5))
        digests.append(tree9p.from_directory(folder, store))
    assert digests[0] == digests[1]
    assert list(rows(store, digests[0])) == ["Z", "a", "b", "\xe9"]


@posix
def test_links_stay_links_and_nothing_outside_gets_in(tmp_path: Path, folder: Path, store: Store) -> None:
    (tmp_path / "secret").write_text("outside")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "secret").write_text("outside too")
    (folder / "to file").symlink_to(tmp_path / "secret")
    (folder / "to folder").symlink_to("../more")
    (folder / "to nothing").symlink_to("./no//such")
    (folder / "to itself").symlink_to(".")
    digest = tree9p.from_directory(folder, store)
    found = rows(store, digest)
    assert {name: row[6] for name, row in found.items()} == {
        "to file": str(tmp_path / "secret"),
        "to folder": "../more",
        "to nothing": "./no//such",
        "to itself": ".",
    }
    assert all(row[3] == 0o120777 and row[1] == len(row[6].encode()) for row in found.values())
    assert tree9p.digests_of(tree9p.load(digest, store)) == frozenset()
    assert len(list(store.digests())) == 1


@posix
def test_a_file_swapped_for_a_link_or_a_pipe_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("outside")
    (tmp_path / "link").symlink_to("target")
    with pytest.raises(OSError):
        open(tmp_path / "link", "rb", opener=tree9p._open_no_follow)  # noqa: SIM115


@posix
def test_what_is_neither_file_folder_nor_link_is_left_out_with_a_warning(folder: Path, store: Store) -> None:
    (folder / "file").touch()
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(folder)  # a socket's path is short
        try:
            server.bind("socket")
        finally:
            os.chdir(here)
        with pytest.warns(UserWarning, match=r"left out.*'pipe', 'socket'"):
            digest = tree9p.from_directory(folder, store)
    assert list(rows(store, digest)) == ["file"]


@pytest.mark.skipif(sys.platform != "linux", reason="file names that are no UTF-8")
@pytest.mark.parametrize("link", [False, True])
def test_names_that_are_no_utf8_are_refused_by_name(folder: Path, store: Store, link: bool) -> None:
    if link:
        os.symlink(b"caf\xe9", os.fsencode(folder) + b"/link")  # noqa: PTH211
    else:
        Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9")).touch()
    with pytest.raises(ImageError, match=r"caf\\xe9"):
        tree9p.from_directory(folder, store)


@posix
@not_root
def test_a_file_that_cannot_be_read_is_named(folder: Path, store: Store) -> None:
    (folder / "secret").touch()
    (folder / "secret").chmod(0)
    with pytest.raises(ImageError, match=r"secret.*Permission denied"):
        tree9p.from_directory(folder, store)


def test_what_is_no_folder_is_refused(folder: Path, store: Store) -> None:
    (folder / "file").touch()
    for path, message in ((folder / "none", "No such|cannot find"), (folder / "file", "saw a file"), ("a\0b", "null")):
        with pytest.raises(ImageError, match=message):
            tree9p.from_directory(path, store)


def test_sizes_and_depths_are_bounded(folder: Path, store: Store) -> None:
    (folder / "a").write_bytes(bytes(1000))
    (folder / "b").write_bytes(bytes(1000))
    tree9p.from_directory(folder, store, max_bytes=2000)
    with pytest.raises(ImageError, match=r"too big.*at most 1999 bytes.*at 'b'"):
        tree9p.from_directory(folder, store, max_bytes=1999)
    deep = folder
    for _ in range(101):
        deep = deep / "d"
    deep.mkdir(parents=True)
    with pytest.raises(ImageError, match="too deep"):
        tree9p.from_directory(folder, store)


def test_a_full_store_is_the_stores_error_not_the_files(tmp_path: Path, folder: Path) -> None:
    (folder / "a").write_bytes(b"x")
    (tmp_path / "home").write_text("a file where the Store should be")
    with pytest.raises(StoreError):
        tree9p.from_directory(folder, Store(tmp_path / "home"))


# ---- mappings ----


def test_a_mapping_gives_the_same_tree_each_time(store: Store) -> None:
    one = tree9p.from_mapping({"b": "text \xe9", "d/e/f": b"bytes", "d/g": b""}, store)
    other = tree9p.from_mapping({"d/g": b"", "d/e/f": "bytes", "b": "text \xe9".encode()}, store)
    assert one == other
    found = rows(store, one)
    assert list(found) == ["b", "d", "d/e", "d/e/f", "d/g"]
    assert found["d/e/f"][1:4] == [5, 0, 0o100644] and found["d"][3] == 0o40755


@pytest.mark.parametrize(
    "files",
    [
        {"/etc/passwd": b""},
        {"../up": b""},
        {"a/../../b": b""},
        {"": b""},
        {".": b""},
        {"a/": b""},
        {"a\0b": b""},
        {"\ud800": b""},
        {"a": "\ud800"},
        {"a": 5},
        {5: b""},
        {"a": b"", "a/b": b""},
        {"a/b": b"", "a": b""},
        {"a": b"", "./a": b""},
        {"d/" * 101 + "f": b""},
    ],
)
def test_a_mapping_that_is_no_tree_is_refused(store: Store, files: Any) -> None:
    with pytest.raises(ImageError):
        tree9p.from_mapping(files, store)


# ---- reading ----


def test_all_blobs_of_a_tree_are_listed(store: Store) -> None:
    digest = tree9p.from_mapping({"a": b"1", "d/b": b"2", "d/d/c": b"1"}, store)
    assert tree9p.digests_of(tree9p.load(digest, store)) == {store.put(b"1"), store.put(b"2")}


FILE = ["f", 1, 0, 0o100644, 0, 0, "a" * 64]


@pytest.mark.parametrize(
    "plain",
    [
        None,
        [],
        {"version": 2, "fsroot": []},
        {"version": 3},
        {"version": 3, "fsroot": {}},
        {"version": 3, "fsroot": ["f"]},
        {"version": 3, "fsroot": [FILE, FILE]},
        {"version": 3, "fsroot": [FILE[:6]]},
        {"version": 3, "fsroot": [[*FILE[:6], "../../etc/passwd"]]},
        {"version": 3, "fsroot": [[*FILE[:6], "A" * 64]]},
        {"version": 3, "fsroot": [[*FILE[:6], ["a" * 64]]]},
        {"version": 3, "fsroot": [["..", *FILE[1:]]]},
        {"version": 3, "fsroot": [["a/b", *FILE[1:]]]},
        {"version": 3, "fsroot": [[5, *FILE[1:]]]},
        {"version": 3, "fsroot": [["f", -1, *FILE[2:]]]},
        {"version": 3, "fsroot": [["f", 1.5, *FILE[2:]]]},
        {"version": 3, "fsroot": [["f", 1, 0, 0o020644, 0, 0, "a" * 64]]},
        {"version": 3, "fsroot": [["f", 1, 0, 1 << 60, 0, 0, "a" * 64]]},
    ],
)
def test_a_damaged_or_hostile_tree_is_refused(plain: object) -> None:
    with pytest.raises(ImageError):
        tree9p.digests_of(plain)


def test_a_tree_nested_without_end_is_refused(store: Store) -> None:
    plain: list[Any] = []
    for _ in range(5000):
        plain = [["d", 0, 0, 0o40755, 0, 0, plain]]
    with pytest.raises(ImageError, match="deep"):
        tree9p.digests_of({"version": 3, "fsroot": plain})
    text = '{"version":3,"fsroot":' + '[["d",0,0,16877,0,0,' * 100_000
    with pytest.raises(ImageError, match="JSON"):
        tree9p.load(store.put(io.BytesIO(text.encode())), store)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["a" * 64, 0o40755, 0o100644]),
    lambda inner: st.lists(inner, max_size=8),
    max_leaves=30,
)


@given(JSON)
def test_any_json_is_a_tree_or_an_image_error(fsroot: object) -> None:
    try:
        assert isinstance(tree9p.digests_of({"version": 3, "fsroot": fsroot}), frozenset)
    except ImageError as error:
        assert len(str(error)) < 1000
