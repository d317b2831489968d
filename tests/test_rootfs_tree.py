from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trees
from hypothesis import given, settings

from v86lab import rootfs
from v86lab.errors import DamagedBlob, ImageError, UnknownDigest
from v86lab.rootfs import Inode, RootFS
from v86lab.rootfs.content import PIECE, Blob, Content, Extents, Inline, Source, Stored, one_by_one
from v86lab.rootfs.draft import Draft
from v86lab.rootfs.names import as_bytes, located, order, split
from v86lab.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def usr_merged() -> RootFS:
    return (
        rootfs.of({"/usr/bin/sh": b"sh", "/etc/passwd": b"root"})
        .with_link("/bin", "usr/bin")
        .with_directory("/tmp", mode=0o1777)
        .with_directory("/root", mode=0o700)
    )


# ---- names ----


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("", ()),
        ("/", ()),
        ("./", ()),
        (".", ()),
        ("//a///b/./c/", (b"a", b"b", b"c")),
        (b"caf\xe9/\n", (b"caf\xe9", b"\n")),
        ("caf\udce9", (b"caf\xe9",)),
        ("...", (b"...",)),
        ("n" * 255, (b"n" * 255,)),
    ],
)
def test_paths_are_names_between_slashes(path: str | bytes, parts: tuple[bytes, ...]) -> None:
    assert split(path) == parts


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("..", "leads out of the tree"),
        ("a/../b", r"leads out of the tree: expected a path without .., saw b'a/../b'"),
        (b"a\0b", "expected no NUL"),
        ("n" * 256, "too long: expected names of 255 bytes"),
        ("\xe9" * 128, "too long"),
        ("n/" * 2050, "paths of 4095, saw 4100 bytes"),
        ("\ud800", "a str that UTF-8 can write"),
        (5, "expected bytes"),
        (None, "expected bytes"),
    ],
)
def test_other_paths_are_refused(path: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        split(path)
    assert len(str(caught.value)) < 300


def test_a_directory_sorts_before_what_lies_in_it_and_that_before_the_next_name() -> None:
    paths = [b"a b", b"a/z", b"", b"a", b"a!", b"\xff", b"B", b"a/a/a"]
    assert sorted(paths, key=order) == [b"", b"B", b"a", b"a/a/a", b"a/z", b"a b", b"a!", b"\xff"]


def test_an_error_is_told_where_it_is() -> None:
    error = located(ImageError("a wrong time", expected="x", seen="y", hint="z"), b"./" + b"n" * 200, "the tar")
    assert str(error).startswith("a wrong time, at '/nnn") and str(error).endswith(
        "'... of the tar: expected x, saw y. Hint: z"
    )
    assert len(str(error)) < 200


def test_bytes_that_are_no_utf8_survive_as_text() -> None:
    assert as_bytes(os.fsdecode(b"caf\xe9")) == b"caf\xe9" or os.name == "nt"
    assert rootfs.of({b"caf\xe9".decode("utf-8", "surrogateescape"): b""}).paths() == ["/", "/caf\udce9"]


# ---- inodes ----


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mode": 0o644}, "a file's mode"),
        ({"mode": 0o1000000 | 0o100644}, "a file's mode"),
        ({"mode": -1}, "a file's mode"),
        ({"uid": -1}, "owner: expected numbers from 0 to 4294967294"),
        ({"gid": (1 << 32) - 1}, "owner"),
        ({"mtime": -(1 << 31) * 10**9 - 1}, "a time between 1901 and 2446"),
        ({"mtime": ((1 << 34) - (1 << 31)) * 10**9}, "a time between 1901 and 2446"),
        ({"mode": stat.S_IFLNK | 0o777}, "a link's target"),
        ({"mode": stat.S_IFLNK | 0o777, "target": b"a\0b"}, "a link's target"),
        ({"mode": stat.S_IFLNK | 0o777, "target": b"t" * 4096}, "a link's target"),
        ({"mode": stat.S_IFCHR, "device": (4096, 0)}, "a device's number"),
        ({"mode": stat.S_IFCHR, "device": (0, 1 << 20)}, "a device's number"),
        ({"mode": stat.S_IFBLK, "device": (0, -1)}, "a device's number"),
        ({"xattrs": ((b"plain", b""),)}, "an extended attribute"),
        ({"xattrs": ((b"user." + b"n" * 251, b""),)}, "an extended attribute"),
        ({"xattrs": ((b"user.a", bytes(65537)),)}, "an extended attribute"),
        ({"xattrs": ((b"user.b", b""), (b"user.a", b""))}, "each name once, in order"),
        ({"xattrs": ((b"user.a", b"1"), (b"user.a", b"2"))}, "each name once, in order"),
    ],
)
def test_what_linux_has_not_is_no_inode(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ImageError, match=message):
        Inode(**{"mode": stat.S_IFREG | 0o644, **fields})


def test_an_inode_says_what_it_is() -> None:
    assert [inode.type for inode in (Inode.file(), Inode.directory(), Inode.link(b"a"))] == [
        "file",
        "directory",
        "link",
    ]
    assert (Inode.file(b"12345").size, Inode.link(b"abc").size, Inode.directory().size) == (5, 3, 0)
    assert Inode(stat.S_IFSOCK).type == "socket" and Inode(stat.S_IFBLK).is_device and not Inode(stat.S_IFIFO).is_device


# ---- contents ----


def test_pieces_are_cut_at_the_same_places_wherever_the_bytes_are(tmp_path: Path, store: Store) -> None:
    data = trees.bytes_of(1, 2 * PIECE + 9)
    path = tmp_path / "f"
    path.write_bytes(b"ab" + data)
    extents = ((0, 2, 100), (100, 102, PIECE), (PIECE + 100, PIECE + 102, PIECE - 91))
    contents: list[Content] = [
        Inline(data),
        Blob(store, store.put(data), len(data)),
        Extents(Source.of(path), len(data), extents),
        Extents(Source.of(path), len(data), ((0, 2, len(data)),)),
        Extents(Stored(store, store.put(data)), len(data), ((0, 0, len(data)),)),
    ]
    for content in contents:
        assert [len(piece or b"") for piece in content.pieces()] == [PIECE, PIECE, 9]
        assert content.read() == data and content.digest() == Inline(data).digest() and content.size == len(data)


def test_holes_are_pieces_without_bytes(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"xy")
    content = Extents(Source.of(path), 4 * PIECE + 3, ((PIECE + 5, 0, 1), (4 * PIECE + 2, 1, 1)))
    pieces = list(content.pieces())
    assert [piece is None for piece in pieces] == [True, False, True, True, False]
    assert content.read() == bytes(PIECE + 5) + b"x" + bytes(3 * PIECE - 4) + b"y"
    assert content.digest() == Inline(content.read()).digest()


@pytest.mark.skipif(os.name != "posix", reason="sparse files")
def test_holes_of_a_file_of_this_computer_are_known(tmp_path: Path) -> None:
    path = tmp_path / "f"
    with path.open("wb") as file:
        file.seek(10 * PIECE)
        file.write(b"x")
        file.truncate(20 * PIECE + 1)
    content = Extents.whole(path)
    assert sum(length for _, _, length in content.extents) < PIECE
    assert [piece is None for piece in content.pieces()].count(False) == 1
    assert content.read() == path.read_bytes()
    path.write_bytes(b"")
    os.truncate(path, 5 * PIECE)
    assert list(Extents.whole(path).pieces()) == [None] * 5


def swap_for_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def test_a_file_that_changed_is_an_error_never_other_bytes(tmp_path: Path) -> None:
    path = tmp_path / "f"
    changes: list[Callable[[], object]] = [
        lambda: path.write_bytes(b"other"),
        lambda: os.utime(path, (5, 5)),
        lambda: path.unlink(),
        lambda: path.rename(tmp_path / "moved"),
        lambda: swap_for_a_directory(path),
    ]
    for change in changes:
        path.write_bytes(b"bytes")
        tree = rootfs.of({}).with_file("/f", path)
        assert tree.read("/f") == b"bytes"
        change()
        with pytest.raises(ImageError, match=r"cannot read .*f'"):
            tree.read("/f")


@pytest.mark.parametrize("then", ["the end", "another file"])
def test_a_file_that_changes_between_two_contents_in_it_is_an_error(tmp_path: Path, then: str) -> None:
    path = tmp_path / "archive"
    rootfs.of({"/a": "one", "/b": "two"}).write_tar(path)
    tree = rootfs.tar(path)
    with one_by_one():
        assert (tree.read("/a"), tree.read("/b")) == (b"one", b"two")
    with pytest.raises(ImageError, match=r"cannot read .*archive'"), one_by_one():
        tree.read("/a")
        os.utime(path, (5, 5))
        if then == "another file":
            rootfs.of({}).with_file("/c", Path(__file__)).read("/c")
            raise AssertionError("the change was not noticed")


def test_a_file_given_through_a_link_is_the_one_that_it_led_to(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"bytes")
    (tmp_path / "g").write_bytes(b"other")
    (tmp_path / "link").symlink_to("f")
    tree = rootfs.of({}).with_file("/f", tmp_path / "link")
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("g")
    assert tree.read("/f") == b"bytes"


def test_a_file_cut_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(bytes(3 * PIECE))
    pieces = Extents(Source.of(path), 3 * PIECE, ((0, 0, 3 * PIECE),)).pieces()
    next(pieces)
    os.truncate(path, PIECE)
    with pytest.raises(ImageError, match="cut short: expected 1048576 more bytes, saw its end"):
        next(pieces)


def test_contents_in_the_store_are_verified_and_survive_that_it_makes_them_young(store: Store) -> None:
    digest = store.put(b"0123456789")
    content = Extents(Stored(store, digest), 3, ((0, 4, 3),))
    os.utime(store.path(digest), (5, 5))
    assert content.read() == b"456"
    store.path(digest).chmod(0o644)
    store.path(digest).write_bytes(b"damaged!!!")
    with pytest.raises(DamagedBlob):
        content.read()
    with pytest.raises(UnknownDigest):
        Blob(store, "ab" * 32, 5).read()


def test_a_file_that_cannot_be_read_is_refused_when_it_is_put_in(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="expected a file, saw No such file"):
        rootfs.of({}).with_file("/f", tmp_path / "none")


# ---- drafts ----


def test_parents_that_nobody_named_are_made() -> None:
    draft = Draft("a test")
    draft.add("/a/b/c", Inode.file(b""))
    assert sorted(draft.names) == [b"", b"a", b"a/b", b"a/b/c"]
    assert draft.implied == {b"", b"a", b"a/b"}
    assert oct(draft.inodes[draft.names[b"a"]].mode) == "0o40755"
    draft.add("/a/b", Inode.directory(0o700))
    assert draft.implied == {b"", b"a"} and b"a/b/c" in draft.names


def test_later_entries_replace_earlier_ones_and_keep_their_other_names() -> None:
    draft = Draft("a test")
    draft.add("a", Inode.file(b"one"))
    draft.hard_link("b", "a")
    draft.add("a", Inode.file(b"two"))
    draft.hard_link("c", "a")
    tree = RootFS(draft, "t")
    assert [tree.read(name) for name in "abc"] == [b"two", b"one", b"two"]
    assert [(entry.path, entry.first) for entry in tree.entries()][1:] == [(b"a", b"a"), (b"b", b"b"), (b"c", b"a")]
    draft.hard_link("a", "a")
    assert RootFS(draft, "t").digest == tree.digest


def test_a_link_replaced_by_itself_or_a_directory_follows_what_tar_does() -> None:
    draft = Draft("a test")
    draft.add("l", Inode.link(b"d"))
    draft.add("l", Inode.directory())
    draft.add("l/f", Inode.file(b""))
    assert sorted(draft.names) == [b"", b"l", b"l/f"]
    with pytest.raises(ImageError, match=r"replaces a directory that is not empty.*'/l'|.*saw /l"):
        draft.add("l", Inode.link(b"d"))
    draft.remove("l/f")
    draft.add("l", Inode.link(b"d"))
    assert sorted(draft.names) == [b"", b"l"]


@pytest.mark.parametrize(
    ("link", "target", "real"),
    [
        ("bin", b"usr/bin", b"usr/bin/x"),
        ("bin", b"/usr/bin", b"usr/bin/x"),
        ("bin", b"../../usr/./bin//", b"usr/bin/x"),
        ("usr/up", b"..", b"x"),
        ("usr/self", b".", b"usr/x"),
        ("usr/root", b"/", b"x"),
        ("far", b"usr/bin/../../usr/bin", b"usr/bin/x"),
    ],
)
def test_parents_that_are_links_lead_where_they_lead_inside_the_tree(link: str, target: bytes, real: bytes) -> None:
    draft = Draft("a test")
    draft.add("usr/bin", Inode.directory())
    draft.add(link, Inode.link(target))
    draft.add(link + "/x", Inode.file(b"x"))
    assert real in draft.names and draft.find(link + "/x") == real
    assert draft.remove(link + "/x") and real not in draft.names


def test_a_parent_that_a_dangling_link_leads_to_is_made() -> None:
    draft = Draft("a test")
    draft.add("var/lock", Inode.link(b"/run/lock"))
    draft.add("var/lock/x", Inode.file(b""))
    assert b"run/lock/x" in draft.names


def test_links_in_circles_and_files_as_directories_are_refused() -> None:
    draft = Draft("a test")
    draft.add("a", Inode.link(b"b"))
    draft.add("b", Inode.link(b"a"))
    draft.add("f", Inode.file(b""))
    with pytest.raises(ImageError, match=r"a test has no place for '/a/x'.*circles"):
        draft.add("a/x", Inode.file(b""))
    with pytest.raises(ImageError, match="expected a directory at '/f', saw a file"):
        draft.add("f/x", Inode.file(b""))
    assert draft.find("a/x") is None and draft.find("f/x") is None and draft.follow("a") is None
    assert not draft.remove("a/x") and not draft.remove("none")


def test_many_links_in_a_row_are_followed_as_linux_follows_them() -> None:
    draft = Draft("a test")
    draft.add("l0", Inode.directory())
    for number in range(1, 42):
        draft.add(f"l{number}", Inode.link(b"l%d" % (number - 1)))
    draft.add("l40/x", Inode.file(b""))
    assert draft.follow("l39") == b"l0"
    with pytest.raises(ImageError, match="circles"):
        draft.add("l41/x", Inode.file(b""))


def test_hard_links_to_nothing_or_to_directories_are_refused() -> None:
    draft = Draft("a test")
    draft.add("d", Inode.directory())
    with pytest.raises(
        ImageError, match="hard link to nothing: expected the name of an earlier entry, saw '/x' -> '/no"
    ):
        draft.hard_link("x", "none")
    with pytest.raises(ImageError, match="hard link to a directory"):
        draft.hard_link("x", "d")
    with pytest.raises(ImageError, match="the target of a hard link of a test leads out"):
        draft.hard_link("x", "../x")


def test_nothing_grows_without_bounds() -> None:
    draft = Draft("a test", max_bytes=10, max_entries=5, hint="do less")
    draft.add("a", Inode.file(b"12345678"))
    draft.add("a", Inode.file(b"0123456789"))
    draft.hard_link("b", "a")
    with pytest.raises(ImageError, match=r"files of at most 10 bytes, saw more, at '/c'. Hint: do less"):
        draft.add("c", Inode.file(b"1"))
    draft = Draft("a test", max_bytes=10, max_entries=5, hint="do less")
    draft.add("a/b/c/d", Inode.directory())
    with pytest.raises(ImageError, match="at most 5 entries, saw more, at '/e'"):
        draft.add("e", Inode.directory())
    draft = Draft("a test", max_bytes=10)
    draft.add("a", Inode.file(b"0123456789"))
    draft.remove("a")
    draft.add("b", Inode.file(b"0123456789"))
    draft.replace("b", Inode.file(b"9876543210"))
    with pytest.raises(ImageError, match="files of at most 10 bytes"):
        draft.replace("b", Inode.file(b"0123456789x"))


def test_paths_that_links_make_too_long_are_refused() -> None:
    draft = Draft("a test")
    deep = b"/".join([b"d" * 250] * 10)
    draft.add(deep, Inode.directory())
    draft.add("l", Inode.link(deep))
    draft.add(b"l/" + b"/".join([b"e" * 250] * 6), Inode.directory())
    with pytest.raises(ImageError, match="paths of at most 4095 bytes, links followed"):
        draft.add(b"l/" + b"/".join([b"f" * 250] * 8), Inode.directory())


def test_attributes_that_fill_the_memory_are_refused() -> None:
    draft = Draft("a test")
    inode = Inode(stat.S_IFREG, xattrs=tuple((b"user.%04d" % n, bytes(65536)) for n in range(1000)))
    for n in range(8):
        draft.add(f"f{n}", inode)
    draft.add("f0", inode)  # in place of itself
    with pytest.raises(ImageError, match="names, targets and attributes of at most 512 MiB"):
        draft.add("f8", inode)


# ---- trees ----


def test_a_tree_looks_like_a_mapping_of_paths() -> None:
    tree = usr_merged()
    assert tree.paths()[:4] == ["/", "/bin", "/etc", "/etc/passwd"] and len(tree) == len(tree.paths())
    assert "/bin/sh" in tree and b"bin/sh" in tree and "/bin/bash" not in tree and 5 not in tree
    assert tree["/bin"].target == b"usr/bin" and tree["/bin/sh"].size == 2
    assert tree.get("/none") is None
    with pytest.raises(KeyError):
        tree["/none"]
    assert tree.listdir("/usr") == ["bin"] and tree.listdir("/bin") == ["sh"] and tree.listdir()[:2] == ["bin", "etc"]
    with pytest.raises(ImageError, match="cannot list"):
        tree.listdir("/etc/passwd")
    with pytest.raises(ImageError, match="cannot read '/etc' of files: expected a file, saw a directory"):
        tree.read("/etc")
    with pytest.raises(ImageError, match="expected a file, saw nothing"):
        tree.read("/none")
    assert repr(tree) == "RootFS('files', 9 entries)" and tree.size == 6


def test_links_are_followed_inside_the_tree_as_a_chrooted_process_would() -> None:
    tree = (
        rootfs.of({"/usr/share/x": b"right", "/x": b"wrong", "/usr/x": b"right too"})
        .with_link("/a", "usr/share")  # so /a/../x is /usr/x, not /x
        .with_link("/l", "a/../x")
        .with_link("/usr/abs", "/usr/share/x")
        .with_link("/usr/out", "../../../../usr/share/x")
        .with_link("/two", "/usr/abs")
        .with_link("/slash", "usr/share/")
        .with_link("/dots", "usr/share/..")
        .with_link("/loop", "loop")
        .with_link("/nowhere", "none/x")
    )
    assert tree.read("/l") == b"right too"
    assert {tree.read(name) for name in ("/usr/abs", "/usr/out", "/two", "/a/x", "/slash/x")} == {b"right"}
    assert tree.follow("/slash") is tree["/usr/share"] and tree.follow("/dots") is tree["/usr"]
    assert tree.follow("/loop") is None and tree.follow("/nowhere") is None and tree.follow("/x/y") is None


def test_editing_gives_another_tree_and_leaves_this_one() -> None:
    base = usr_merged()
    digest = base.digest
    tree = base.with_file("/bin/new", "text \xe9", mode=0o755, uid=1, gid=2, mtime=3)
    assert tree.read("/usr/bin/new") == "text \xe9".encode() and tree["/usr/bin/new"].uid == 1
    assert tree.with_file("/bin/new", b"", mode=0o600).read("/bin/new") == b""
    tree = tree.with_attributes("/tmp", uid=5).with_attributes("/usr/bin/new", mode=0o4755, mtime=-1)
    assert (oct(tree["/tmp"].mode), tree["/tmp"].uid) == ("0o41777", 5)
    assert (oct(tree["/bin/new"].mode), tree["/bin/new"].mtime) == ("0o104755", -1)
    tree = tree.without("/bin/new", "/tmp").with_link("/tmp", "/var/tmp")
    assert tree["/tmp"].is_link and "/bin/new" not in tree
    edits: list[Callable[[], RootFS]] = [
        lambda: tree.without("/none"),
        lambda: tree.with_attributes("/none", mode=0),
        lambda: tree.with_link("/usr", "x"),
        lambda: tree.with_file("/../x", b""),
        lambda: tree.with_file("/", b""),
    ]
    for edit in edits:
        with pytest.raises(ImageError):
            edit()
    assert base.digest == digest and base.named("other").digest == digest and base.named("other").name == "other"


def test_attributes_of_a_hard_link_are_those_of_all_its_names() -> None:
    draft = Draft("a test")
    draft.add("a", Inode.file(b"x"))
    draft.hard_link("b", "a")
    tree = RootFS(draft, "t").with_attributes("/b", mode=0o600)
    assert oct(tree["/a"].mode) == "0o100600"
    assert len({entry.number for entry in tree.entries() if entry.path}) == 1
    tree = tree.with_file("/b", b"y")
    assert (tree.read("/a"), tree.read("/b")) == (b"x", b"y")


def test_what_lies_in_a_directory_that_is_removed_is_gone_too() -> None:
    tree = rootfs.of({"/d/a": b"1", "/d/e/b": b"2", "/dd": b"3"}).without("/d")
    assert tree.paths() == ["/", "/dd"] and tree.size == 1
    assert tree.without("/").paths() == ["/"]


# ---- one over another ----


def test_an_overlay_wins_and_leaves_the_rest() -> None:
    tree = usr_merged() + rootfs.of({"/etc/passwd": b"new", "/etc/motd": b"hello"})
    assert (tree.read("/etc/passwd"), tree.read("/etc/motd"), tree.read("/bin/sh")) == (b"new", b"hello", b"sh")
    with pytest.raises(TypeError):
        tree + "x"  # type: ignore[operator]


def test_an_overlay_goes_through_links_to_directories() -> None:
    for over in (
        rootfs.of({"/bin/tool": b"t"}),
        rootfs.of({}).with_directory("/bin", mode=0o711).with_file("/bin/tool", b"t"),
    ):
        tree = usr_merged() + over
        assert tree["/bin"].is_link and tree.read("/usr/bin/tool") == b"t" and tree.read("/bin/sh") == b"sh"
    assert oct(tree["/usr/bin"].mode) == "0o40711"


def test_directories_that_an_overlay_only_implies_stay_as_they_are() -> None:
    base = usr_merged().with_attributes("/", mode=0o711, mtime=7)
    tree = base + rootfs.of({"/root/a.c": b"", "/tmp/x": b"", "/new/y": b""}).with_file("/root/b.c", b"")
    assert [oct(tree[path].mode) for path in ("/", "/root", "/tmp", "/new")] == [
        "0o40711",
        "0o40700",
        "0o41777",
        "0o40755",
    ]
    assert tree["/"].mtime == 7
    explicit = base + rootfs.of({"/root/a.c": b""}).with_directory("/root", mode=0o750).named("again")
    assert oct(explicit["/root"].mode) == "0o40750"


def test_hard_links_of_an_overlay_stay_hard_links() -> None:
    draft = Draft("over")
    draft.add("a", Inode.file(b"x"))
    draft.hard_link("d/b", "a")
    tree = rootfs.of({"/a": b"old", "/c": b"old"}) + RootFS(draft, "over")
    assert len({entry.number for entry in tree.entries() if entry.path in (b"a", b"d/b")}) == 1
    assert tree.read("/d/b") == b"x" and tree.read("/c") == b"old"


def test_a_file_over_a_directory_with_entries_is_refused() -> None:
    with pytest.raises(ImageError, match="replaces a directory that is not empty"):
        rootfs.of({"/d/a": b""}) + rootfs.of({"/d": b""})
    with pytest.raises(ImageError, match="no place for"):
        rootfs.of({"/d": b""}) + rootfs.of({"/d/a": b""})


def test_what_is_below_a_directory_is_a_tree_too() -> None:
    draft = Draft("a test")
    draft.add("a", Inode.file(b"x"))
    draft.add("usr", Inode.directory(0o700, mtime=9))
    draft.hard_link("usr/b", "a")
    draft.hard_link("usr/c", "a")
    draft.add("usr2/d", Inode.file(b""))
    tree = RootFS(draft, "t").at("/usr")
    assert tree.paths() == ["/", "/b", "/c"] and (oct(tree["/"].mode), tree["/"].mtime) == ("0o40700", 9)
    assert [entry.first for entry in tree.entries()] == [b"", b"b", b"b"]
    assert RootFS(draft, "t").at("/").digest == RootFS(draft, "t").digest
    with pytest.raises(ImageError, match="expected a directory"):
        tree.at("/b")


@settings(max_examples=60)
@given(trees.trees())
def test_a_tree_laid_over_nothing_or_itself_is_itself(tree: RootFS) -> None:
    assert trees.described(rootfs.of({}) + tree) == trees.described(tree)
    assert (tree + tree).digest == tree.digest
    assert tree.at("/").digest == tree.digest
    assert [entry.number for entry in tree.entries() if entry.first == entry.path] == list(
        range(len({entry.number for entry in tree.entries()}))
    )


@settings(max_examples=40)
@given(trees.trees(most=6), trees.trees(most=6))
def test_digests_are_equal_exactly_where_all_is_equal(one: RootFS, other: RootFS) -> None:
    assert (one.digest == other.digest) == (trees.described(one) == trees.described(other))


@pytest.mark.parametrize(
    "edit",
    [
        lambda tree: tree.with_attributes("/f", mode=0o600),
        lambda tree: tree.with_attributes("/f", uid=1),
        lambda tree: tree.with_attributes("/f", gid=1),
        lambda tree: tree.with_attributes("/f", mtime=1),
        lambda tree: tree.with_attributes("/", mtime=1),
        lambda tree: tree.with_file("/f", b"fish"),
        lambda tree: tree.with_link("/l", "g"),
        lambda tree: tree.with_inode("/dev", Inode(stat.S_IFCHR | 0o600, device=(5, 2))),
        lambda tree: tree.with_inode("/dev", Inode(stat.S_IFBLK | 0o600, device=(5, 1))),
        lambda tree: tree.with_inode(
            "/f", Inode(stat.S_IFREG | 0o644, content=Inline(b"f"), xattrs=((b"user.a", b""),))
        ),
        lambda tree: tree.with_directory("/new"),
        lambda tree: tree.without("/g"),
        lambda tree: tree.without("/g").with_file("/g", b"f"),
    ],
)
def test_every_difference_changes_the_digest(edit: Callable[[RootFS], RootFS]) -> None:
    draft = Draft("a test")
    draft.add("f", Inode.file(b"f"))
    draft.hard_link("g", "f")
    draft.add("l", Inode.link(b"f"))
    draft.add("dev", Inode(stat.S_IFCHR | 0o600, device=(5, 1)))
    tree = RootFS(draft, "t")
    assert edit(tree).digest != tree.digest
    assert tree.with_attributes("/f", mode=0o644).digest == tree.digest


def test_a_tree_with_a_larger_bound_can_be_edited() -> None:
    draft = Draft("a test", max_bytes=1 << 50)
    draft.add("big", Inode.file(trees.Patchy(1 << 45, ())))
    assert RootFS(draft, "t").with_file("/a", b"x").size == (1 << 45) + 1


def test_a_mapping_gives_the_same_tree_each_time() -> None:
    one = rootfs.of({"b": "text \xe9", "d/e/f": b"bytes", "d/g": b""})
    other = rootfs.of({"d/g": b"", "/d/e/f": "bytes", "b": "text \xe9".encode()})
    assert one.digest == other.digest
    assert one.paths() == ["/", "/b", "/d", "/d/e", "/d/e/f", "/d/g"]
    assert (one["/d/e/f"].size, oct(one["/d/e/f"].mode), oct(one["/d"].mode)) == (5, "0o100644", "0o40755")


@pytest.mark.parametrize(
    "files",
    [
        {"../up": b""},
        {"a/../../b": b""},
        {"": b""},
        {".": b""},
        {"a\0b": b""},
        {"\ud800": b""},
        {"a": "\ud800"},
        {"a": 5},
        {5: b""},
        {"a": b"", "a/b": b""},
        {"a/b": b"", "a": b""},
        {"n/" * 2050 + "f": b""},
    ],
)
def test_a_mapping_that_is_no_tree_is_refused(files: Any) -> None:
    with pytest.raises(ImageError):
        rootfs.of(files)
