from __future__ import annotations

import gzip
import json
import os
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest
import zstandard
from registries import AMD64, BASE, DOCKER, I386, INDEX, LAYER, MANIFEST, OVER, Made, layer, sha256

from v86lab.errors import ImageError
from v86lab.rootfs.oci import layers, manifest, oci, oci_config
from v86lab.rootfs.oci.reference import Reference
from v86lab.rootfs.tree import RootFS
from v86lab.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", shared=[])


def trees(*tars: bytes, store: Store, folder: Path, **how: Any) -> RootFS:
    """What these layers, lowest first, make."""
    made = Made()
    return oci(made.layout(folder / "layout", made.image(*tars, **how)), store=store)


# ---- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("alpine", "docker.io/library/alpine:latest"),
        ("i386/alpine:3.20", "docker.io/i386/alpine:3.20"),
        ("index.docker.io/alpine", "docker.io/library/alpine:latest"),
        ("docker.io/i386/alpine", "docker.io/i386/alpine:latest"),
        ("localhost/x", "localhost/x:latest"),
        ("localhost:5000/x:tag", "localhost:5000/x:tag"),
        ("[::1]:5000/x", "[::1]:5000/x:latest"),
        ("Registry/x", "Registry/x:latest"),
        ("ghcr.io/owner/a__b/c-d.e@sha256:" + "0" * 64, "ghcr.io/owner/a__b/c-d.e@sha256:" + "0" * 64),
        ("example.org/x:1@sha256:" + "0" * 64, "example.org/x:1@sha256:" + "0" * 64),
    ],
)
def test_a_name_is_read_as_docker_reads_it(text: str, canonical: str) -> None:
    assert str(Reference.parse(text)) == canonical and str(Reference.parse(canonical)) == canonical


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("", "neither"),
        ("Alpine", "capital letters"),
        ("docker://alpine", "a URL"),
        ("https://example.org/x", "a URL"),
        ("x:", "neither"),
        ("x:" + "a" * 129, "neither"),
        ("x@sha256:abc", "the digest 'sha256:abc'"),
        ("x@sha512:" + "0" * 128, "the digest"),
        ("a..b/../x", "neither"),
        ("example.org/", "neither"),
        ("x/../../y", "neither"),
        ("a" * 300, "neither"),
        ("exa mple.org/x", "neither"),
        ("user@example.org/x", "the digest"),
        ("x\n", "neither"),
    ],
)
def test_what_is_no_name_is_refused(text: str, seen: str) -> None:
    with pytest.raises(ImageError, match=f"as the name of an image.*saw {seen}"):
        Reference.parse(text)


def test_only_this_computers_own_registry_is_spoken_to_in_plain_http() -> None:
    local = ("localhost/x", "localhost:5000/x", "127.0.0.1:5000/x", "127.1.2.3/x", "[::1]:5000/x")
    assert all(Reference.parse(text).on_loopback for text in local)
    other = ("x", "localhost.example.org/x", "10.0.0.1:5000/x", "127.0.0.1.example.org/x")
    assert not any(Reference.parse(text).on_loopback for text in other)


# ---- layers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pack", "kind"),
    [
        (lambda tar: tar, LAYER),
        (gzip.compress, LAYER + "+gzip"),
        (zstandard.compress, LAYER + "+zstd"),
        (gzip.compress, DOCKER + "image.rootfs.diff.tar.gzip"),
        (gzip.compress, DOCKER + "image.rootfs.foreign.diff.tar.gzip"),
        (gzip.compress, LAYER.replace("layer", "layer.nondistributable") + "+gzip"),
        (lambda tar: gzip.compress(tar[:700]) + gzip.compress(tar[700:]), LAYER + "+gzip"),
    ],
)
def test_layers_are_unpacked_whatever_packed_them(store: Store, tmp_path: Path, pack: Any, kind: str) -> None:
    tree = trees(BASE, OVER, store=store, folder=tmp_path, pack=pack, kind=kind)
    assert tree.read("/etc/motd") == b"hello\n" and "/etc/alias" not in tree
    assert tree.digest == trees(BASE, OVER, store=store, folder=tmp_path / "other").digest


@pytest.mark.parametrize(
    ("stack", "paths"),
    [
        ([("a", "b"), (".wh.a",)], "/b"),
        ([("d/", "d/a", "d/e/", "d/e/f", "x"), (".wh.d",)], "/x"),
        ([("d/", "d/a"), ("d/.wh.a", "d/b")], "/d /d/b"),
        # a whiteout is of what lies below, wherever it stands
        ([("a",), ("a", ".wh.a")], "/a"),
        ([("a",), (".wh.a", "a")], "/a"),
        ([(".wh.a", "b")], "/b"),
        ([("d/", "d/a", "d/b"), ("d/c", "d/.wh..wh..opq")], "/d /d/c"),
        ([("d/", "d/a", "d/b"), ("d/.wh..wh..opq", "d/c")], "/d /d/c"),
        ([("d/", "d/e/", "d/e/f"), ("d/", "d/e/", "d/e/g", "d/.wh..wh..opq")], "/d /d/e /d/e/g"),
        ([("a", "d/", "d/b"), (".wh..wh..opq", "c")], "/c"),
        ([("a",), ("d/.wh..wh..opq",)], "/a"),
        # what aufs kept for itself
        ([("a", ".wh..wh.aufs", ".wh..wh.plnk/", ".wh..wh.plnk/1.2"), (".wh..wh.orph/", ".wh..wh..opq/b")], "/a"),
        # other types
        ([("x/", "x/y/", "x/y/z"), ("x",)], "/x"),
        ([("x/", "x/y"), (("x", "-> y"),)], "/x"),
        ([("x",), ("x/", "x/y")], "/x /x/y"),
        ([("x/", "x/y"), ("x/", "x/z")], "/x /x/y /x/z"),
        ([("a", "x/", "x/y"), (("x", "== a"),)], "/a /x"),
        # through links
        ([("usr/lib/", ("lib", "-> usr/lib")), ("lib/a",)], "/lib /usr /usr/lib /usr/lib/a"),
        ([("usr/lib/", "usr/lib/a", ("lib", "-> usr/lib")), ("lib/.wh.a",)], "/lib /usr /usr/lib"),
        ([("usr/lib/", "usr/lib/a", ("lib", "-> usr/lib")), ("lib/.wh..wh..opq",)], "/lib /usr /usr/lib"),
        ([("u/", "u/a", ("l", "-> u")), ("l/", "l/.wh.a", "l/b")], "/l /l/b /u /u/a"),
        ([("u/", "u/a", ("l", "-> nowhere")), ("l/.wh..wh..opq",)], "/l /u /u/a"),
    ],
)
def test_layers_lie_over_each_other_as_a_runtime_lays_them(
    store: Store, tmp_path: Path, stack: list[Any], paths: str
) -> None:
    assert trees(*(layer(*one) for one in stack), store=store, folder=tmp_path).paths() == ["/", *paths.split()]


def test_hard_links_reach_into_lower_layers(store: Store, tmp_path: Path) -> None:
    tree = trees(layer(("a", b"one")), layer(("d/b", "== a")), layer(("a", b"two")), store=store, folder=tmp_path)
    assert (tree.read("/d/b"), tree.read("/a")) == (b"one", b"two")
    tree = trees(layer(("a", b"one")), layer(("d/b", "== ./a")), store=store, folder=tmp_path / "2")
    assert len({entry.number for entry in tree.entries() if entry.inode.is_file}) == 1


def test_a_directory_over_a_directory_changes_its_attributes(store: Store, tmp_path: Path) -> None:
    info = tarfile.TarInfo("d")
    info.type, info.mode, info.uid, info.mtime = tarfile.DIRTYPE, 0o2770, 7, 99
    tree = trees(layer("d/", "d/a"), layer(info), store=store, folder=tmp_path)
    assert (tree["/d"].mode, tree["/d"].uid, tree["/d"].mtime) == (stat.S_IFDIR | 0o2770, 7, 99 * 10**9)
    assert "/d/a" in tree


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (("../evil",), "leads out of the tree"),
        (("a/../../evil",), "leads out of the tree"),
        ((".wh...",), "layer 1 of .* has a whiteout that cannot be used"),
        (("a/.wh..",), "has a whiteout that cannot be used"),
        ((".wh.",), "has a whiteout that cannot be used"),
        ((".wh.a/b",), "has a whiteout that cannot be used"),
        ((("a", "== ../../etc/passwd"),), "leads out of the tree"),
        ((("a", "== nothing"),), "hard link to nothing"),
        ((("a", "-> b"), ("b", "-> a"), "a/c"), "links that go round in circles"),
        ((("./", "-> /etc"),), "replaces its root"),
    ],
)
def test_a_layer_that_leads_out_or_nowhere_is_refused(
    store: Store, tmp_path: Path, entries: tuple[Any, ...], message: str
) -> None:
    with pytest.raises(ImageError, match=message):
        trees(layer(*entries), store=store, folder=tmp_path)


def test_an_absolute_link_leads_nowhere_but_into_the_tree(store: Store, tmp_path: Path) -> None:
    tree = trees(layer(("out", "-> /etc")), layer(("out/passwd", b"root"), "/abs"), store=store, folder=tmp_path)
    assert tree.paths() == ["/", "/abs", "/etc", "/etc/passwd", "/out"]


def test_a_layer_that_grows_without_end_is_refused(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "MOST_BLOB", 1 << 20)
    with pytest.raises(ImageError, match=r"layer 1 of .* is too big: expected at most 1 MiB when unpacked"):
        trees(layer(("zeros", bytes(1 << 24))), store=store, folder=tmp_path)
    assert not [file for file in store.home.rglob("tmp/*") if file.is_file()]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"diff_ids": ["0" * 64]}, "layer 1 of .* is not what its configuration says: expected sha256 0000"),
        ({"diff_ids": []}, "does not agree with itself: expected 0 layers.*saw 1"),
        ({"diff_ids": ["../../x"]}, "has a digest that cannot be used"),
        ({"pack": lambda tar: gzip.compress(tar)[:-9]}, "layer 1 of .* is damaged"),
        ({"pack": lambda tar: zstandard.compress(tar)[:-9]}, "layer 1 of .* is damaged"),
        ({"pack": lambda _: b"hello"}, "layer 1 of .* is no tar"),
        ({"kind": "text/html"}, "layer 1 of .* cannot be unpacked.*saw 'text/html'"),
        ({"kind": LAYER + "+gzip+encrypted"}, "layer 1 of .* cannot be unpacked"),
        ({"config_type": "application/vnd.cncf.helm.config.v1+json"}, "no image of a file system"),
        ({"manifest": INDEX + "+json"}, "the manifest of .* has another type"),
        ({"Env": "A=b"}, "expected Env as a list of texts"),
        ({"platform": {"os": 1}}, "expected os as a text"),
    ],
)
def test_an_image_that_does_not_hold_what_it_says_is_refused(
    store: Store, tmp_path: Path, how: dict[str, Any], message: str
) -> None:
    with pytest.raises(ImageError, match=message):
        trees(BASE, store=store, folder=tmp_path, **how)


# ---- files ----------------------------------------------------------------------------------------------------------


def packed(folder: Path, where: Path, mode: str = "w") -> Path:
    with tarfile.open(where, mode) as tar:  # type: ignore[call-overload]
        tar.add(folder, ".")
    return where


def test_a_layout_is_read_as_a_folder_and_as_a_tar(store: Store, tmp_path: Path) -> None:
    made = Made()
    amd64 = made.image(layer("amd64"), platform=AMD64)
    index = made.index(amd64, made.image(BASE, OVER))
    folder = made.layout(tmp_path / "layout", index)
    tree = oci(folder, store=store)
    assert tree.name == "layout" and "/etc/issue" in tree and "/amd64" not in tree
    for how in ("w", "w:gz", "w:xz"):
        assert oci(str(packed(folder, tmp_path / "image.tar", how)), store=store).digest == tree.digest
    assert oci_config(folder, store=store).digest == sha256(made.manifests[index_of(made, index, 1)][1])


def index_of(made: Made, index: dict[str, Any], number: int) -> str:
    entries = json.loads(made.manifests[index["digest"].removeprefix("sha256:")][1])["manifests"]
    return str(entries[number]["digest"].removeprefix("sha256:"))


def test_of_several_images_in_a_layout_one_is_named(store: Store, tmp_path: Path) -> None:
    made = Made()
    name = "org.opencontainers.image.ref.name"
    one = made.image(layer("one")) | {"annotations": {name: "1.0"}}
    two = made.image(layer("two")) | {"annotations": {name: "2.0", "io.containerd.image.name": "docker.io/library/x:2"}}
    folder = made.layout(tmp_path / "layout", one, two)
    assert "/one" in oci(f"{folder}:1.0", store=store)
    assert "/two" in oci(f"{folder}:2.0", store=store) and "/two" in oci(f"{folder}:x:2", store=store)
    assert oci(f"{folder}:x:2", store=store).name == "layout:x:2"
    with pytest.raises(ImageError, match=r"cannot tell which image .*path and a colon, .*1\.0, 2\.0, docker"):
        oci(folder, store=store)
    with pytest.raises(ImageError, match=r"saw '3\.0'; there are"):
        oci(f"{folder}:3.0", store=store)
    (folder / "index.json").write_text(json.dumps({"manifests": [one, one | {"annotations": {name: "latest"}}]}))
    assert "/one" in oci(folder, store=store)


def saved(*images: tuple[str, bytes, list[str], list[bytes]], links: bool = False) -> list[Any]:
    """Members of a `docker save` archive: for each image its tag, configuration, layers' names and layers."""
    entries: list[Any] = []
    listing = []
    for tag, config, names, layers_ in images:
        entries.append((f"{sha256(config)}.json", config))
        for name, tar in zip(names, layers_, strict=True):
            entries.append((name, tar))
        if links:
            entries.append(("again/layer.tar", "-> ../" + names[0]))
            names = ["again/layer.tar", *names[1:]]
        listing.append({"Config": f"{sha256(config)}.json", "RepoTags": [tag] if tag else None, "Layers": names})
    return [*entries, ("manifest.json", json.dumps(listing).encode())]


def configuration(*layers_: bytes, platform: dict[str, str] = I386) -> bytes:
    ids = ["sha256:" + sha256(tar) for tar in layers_]
    return json.dumps({**platform, "rootfs": {"type": "layers", "diff_ids": ids}}).encode()


def test_what_docker_save_writes_is_read(store: Store, tmp_path: Path) -> None:
    config = configuration(BASE, OVER)
    old = saved(("example/x:1", config, ["aa/layer.tar", "bb/layer.tar"], [BASE, OVER]))
    path = tmp_path / "old.tar"
    path.write_bytes(layer(*old))
    tree = oci(path, store=store)
    assert "/etc/issue" in tree and "/etc/alias" not in tree and tree.name == "old.tar"
    path.write_bytes(gzip.compress(layer(*old)))
    assert oci(path, store=store).digest == tree.digest
    linked = saved(("example/x:1", config, ["aa/layer.tar", "bb/layer.tar"], [BASE, OVER]), links=True)
    path.write_bytes(layer(*linked))
    assert oci(path, store=store).digest == tree.digest
    made = Made()
    folder = made.layout(tmp_path / "new", made.image(BASE, OVER))
    (folder / "manifest.json").write_text("[]")
    assert oci(packed(folder, tmp_path / "new.tar"), store=store).digest == tree.digest


def test_of_several_saved_images_one_is_named(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "two.tar"
    path.write_bytes(
        layer(
            *saved(
                ("x:1", configuration(BASE), ["aa/layer.tar"], [BASE]),
                ("registry.example.org/y:2", configuration(OVER), ["bb/layer.tar"], [OVER]),
            )
        )
    )
    assert "/etc/motd" in oci(f"{path}:docker.io/library/x:1", store=store)
    assert "/etc/issue" in oci(f"{path}:2", store=store)
    with pytest.raises(ImageError, match="cannot tell which image"):
        oci(path, store=store)


NO_LAYER = saved(("x", configuration(BASE), ["aa"], [BASE]))[::2]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (saved(("x", configuration(BASE), ["aa/layer.tar"], [BASE]))[:1], "cannot find the image"),
        ([*NO_LAYER, ("bb", "-> aa")], "is not complete: expected a file 'aa', saw none"),
        ([*NO_LAYER, ("aa", "-> /etc/passwd")], "'aa', saw none"),
        ([*NO_LAYER, ("aa", "-> ../../etc/passwd")], "'aa', saw none"),
        ([*NO_LAYER, ("aa", "-> aa")], "'aa', saw none"),
        ([*NO_LAYER, "aa/"], "'aa', saw a directory"),
        (saved(("x", configuration(OVER), ["aa"], [BASE])), "is not what its configuration says"),
        (saved(("x", configuration(BASE, BASE), ["aa"], [BASE])), "does not agree with itself"),
        (saved(("x", configuration(BASE, platform=AMD64), ["aa"], [BASE])), "this is an x86-64 image"),
        ([("manifest.json", b"{}")], "expected a list of images"),
        ([("manifest.json", b'[{"Config": "../../x", "Layers": []}]')], "leads out of the tree"),
        ([("manifest.json", b'[{"Config": "x", "Layers": [1]}]'), ("x", configuration())], "expected Layers as"),
        ([("manifest.json", b" " * (5 << 20))], "is too long"),
        ([("index.json", b"{}")], "expected a file 'oci-layout'"),
        ([("index.json", b"{}"), ("oci-layout", b'{"imageLayoutVersion": "2.0.0"}')], "expected an image layout of"),
        (["etc/passwd"], "cannot find the image.*expected an OCI layout.*saw a tar without them"),
        (["../manifest.json"], "leads out of the tree"),
    ],
)
def test_a_strange_archive_is_refused(store: Store, tmp_path: Path, members: list[Any], message: str) -> None:
    path = tmp_path / "image.tar"
    path.write_bytes(layer(*members))
    with pytest.raises(ImageError, match=message):
        oci(path, store=store)


@pytest.mark.parametrize("where", ["/does/not/exist", "a" * 5000, "./nothing", "~/nothing.tar", "nothing\0/"])
def test_a_path_without_an_image_is_named(store: Store, where: str) -> None:
    with pytest.raises(ImageError, match=r"cannot (find the image|use .* as the name)"):
        oci(where, store=store)
    with pytest.raises(ImageError, match="the name or path of one, saw bytes"):
        oci(b"alpine", store=store)  # type: ignore[arg-type]


def test_blobs_of_a_layout_are_held_to_their_digests(store: Store, tmp_path: Path) -> None:
    made = Made()
    folder = made.layout(tmp_path / "layout", made.image(BASE))
    for path in (folder / "blobs" / "sha256").iterdir():
        data = path.read_bytes()
        for change, message in ((data[:-1] + b"\xff", "is not what it was"), (data + b"\0", "has another size")):
            path.write_bytes(change)
            with pytest.raises(ImageError, match=message):
                oci(folder, store=Store(tmp_path / os.urandom(4).hex()))
        path.write_bytes(data)
    assert oci(folder, store=store).read("/etc/motd") == b"hello\n"


def test_indexes_inside_indexes_end_somewhere(store: Store, tmp_path: Path) -> None:
    made = Made()
    entry = made.image(BASE)
    for depth in range(4):
        entry = made.index(entry)
        if depth == 2:
            assert "/etc/motd" in oci(made.layout(tmp_path / "few", entry), store=store)
    with pytest.raises(ImageError, match="indexes inside indexes"):
        oci(made.layout(tmp_path / "many", entry), store=store)


@pytest.mark.parametrize(
    ("document", "media_type", "message"),
    [
        (b"", "", "expected JSON"),
        (b"\xff", "", "expected JSON"),
        (b"[" * 100_000, "", "expected JSON"),
        (b"[]", "", "expected a JSON object"),
        (b" " * (4 << 20) + b"{}", "", "is too long"),
        (b'{"schemaVersion": 1}', "", "docker's first schema"),
        (b'{"manifests": [], "layers": []}', "", "could be read as two things"),
        (b'{"manifests": [], "mediaType": "%s"}' % (MANIFEST + "+json").encode(), "", "has another type"),
        (b'{"manifests": []}', MANIFEST + "+json", "has another type"),
        (b'{"manifests": {}}', "", "a list of at most 1000 manifests"),
        (b'{"manifests": [%s]}' % b",".join([b"1"] * 1001), "", "a list of at most 1000 manifests, saw 1001"),
        (b'{"manifests": [{"digest": "sha512:1", "size": 1}]}', "", "has a digest that cannot be used"),
        (b'{"manifests": [{"digest": "sha256:%064d", "size": -1}]}' % 0, "", "a size of at most"),
        (b'{"manifests": [{"digest": "sha256:%064d", "size": true}]}' % 0, "", "a size of at most"),
        (b'{"manifests": [{"digest": "sha256:%064d", "size": 5000000}]}' % 0, "", "a size of at most"),
        (b'{"layers": []}', "", "the configuration of it cannot be used"),
    ],
)
def test_a_document_that_is_none_is_refused(document: bytes, media_type: str, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        manifest.read(document, "it", media_type)
