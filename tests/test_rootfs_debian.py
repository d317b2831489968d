"""Debian root file systems: real builds, a few, marked `debian`; the rest with repositories made here, on loopback."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from repositories import Deb, Web, repository

from v86lab import rootfs
from v86lab.errors import ImageError
from v86lab.rootfs import RootFS, compare
from v86lab.rootfs.debian import build, mmdebstrap, modes
from v86lab.rootfs.debian.fault import OutOfStep, fault
from v86lab.rootfs.debian.guest import MASKED, furnished, sources
from v86lab.rootfs.debian.index import offers
from v86lab.rootfs.debian.mirror import DEBIAN, Mirror, release
from v86lab.rootfs.debian.recipe import recipe
from v86lab.rootfs.debian.relay import Relay
from v86lab.rootfs.packages import PLACE, STATUS, Package, packages, record
from v86lab.store import Store

ROOT = Path(__file__).resolve().parent.parent
USER = "v86labtester"

has_mmdebstrap = pytest.mark.skipif(shutil.which("mmdebstrap") is None, reason="there is no mmdebstrap")


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    (tmp_path / "repository").mkdir()
    with Web(tmp_path / "repository") as server:
        yield server


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


ESSENTIAL = [Deb("v86lab-one", fields="Essential: yes\n"), Deb("v86lab-two", fields="Essential: yes\n")]


def tiny(web: Web, store: Store, **options: Any) -> RootFS:
    """A build from a repository made here alone: it must fail, since nothing could run in what comes out."""
    given = {"suite": "stable", "variant": "essential", "init": False, "mirror": web.deb(), "store": store, **options}
    return rootfs.debian(**given)


# ---- recipes ----


def test_a_recipe_is_the_same_whatever_the_order_of_its_packages() -> None:
    assert recipe(["gdb", "gcc", "gdb"]).key == recipe(["gcc", "gdb"]).key
    assert recipe(["gcc"]).key != recipe(["gcc"], documentation=True).key != recipe(["gcc"], hostname="lab").key
    assert recipe(variant="required") == recipe(variant="minbase")


@pytest.mark.parametrize("when", ["2026-03-01", "20260301T000000Z", date(2026, 3, 1), datetime(2026, 3, 1, tzinfo=UTC)])
def test_a_snapshot_is_an_address_of_the_archive_and_an_old_state_is_accepted(when: str | date) -> None:
    wanted = recipe(snapshot=when)
    sources = [mirror.line() for mirror in wanted.mirrors]
    assert sources == ["deb http://snapshot.debian.org/archive/debian/20260301T000000Z bookworm main"]
    assert '--aptopt=Acquire::Check-Valid-Until "false"' in mmdebstrap.command(wanted, "unshare", sources, None)
    assert build._epoch(wanted, [None]) == 1_772_323_200


def test_the_time_of_a_build_is_when_a_suite_changed_last(tmp_path: Path) -> None:
    repository(tmp_path / "a", [], "Sat, 01 Aug 2026 00:00:00 UTC")
    repository(tmp_path / "b", [], "Sun, 02 Aug 2026 00:00:00 UTC")
    wanted = recipe(suite="stable", mirror=[f"file:{tmp_path / 'a'}", f"copy://{tmp_path / 'b'}"])
    assert build._epoch(wanted, [release(mirror) for mirror in wanted.mirrors]) == 1_785_628_800


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"packages": "gcc"}, "a list of names"),
        ({"packages": ["--yes"]}, "the package '--yes'"),
        ({"packages": ["gcc;reboot"]}, "a name such as gcc"),
        ({"packages": ["gcc gdb"]}, "a name such as gcc"),
        ({"packages": ["Gcc"]}, "a name such as gcc"),
        ({"suite": "book worm"}, "the suite"),
        ({"suite": "-o"}, "the suite"),
        ({"components": "main"}, "a list of names"),
        ({"components": ["ma in"]}, "the component"),
        ({"variant": "tiny"}, "minbase"),
        ({"hostname": "a_b"}, "the host name"),
        ({"snapshot": "yesterday"}, "2026-03-01"),
        ({"snapshot": "1999-01-01"}, "since 2005"),
        ({"snapshot": "2026-02-30"}, "2026-03-01"),
        ({"snapshot": "2026-03-01", "mirror": DEBIAN}, "one of them"),
        ({"mirror": []}, "at least one"),
        ({"mirror": "ftp://example.org/debian"}, "http:"),
        ({"mirror": "example.org/debian"}, "http:"),
        ({"mirror": "deb http://example.org"}, "deb [options] address"),
        ({"mirror": "deb http://example.org a b\ndeb-src http://example.org a b"}, "deb [options] address"),
        ({"mirror": "deb http://example.org/ stable"}, "components"),
        ({"mode": "sudo"}, "unshare"),
        ({"keyring": "/nonexistent/keys.gpg"}, "OpenPGP"),
    ],
)
def test_what_cannot_be_meant_is_said(options: dict[str, Any], said: str, web: Web, store: Store) -> None:
    repository(Path(store.home).parent / "repository", ESSENTIAL)
    if "keyring" in options:
        options = {"suite": "stable", "mirror": web.deb(), **options}
    with pytest.raises(ImageError) as caught:
        rootfs.debian(**options, store=store)
    assert said in str(caught.value)


# ---- mirrors ----


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Architectures: amd64 arm64\nComponents: main\n", "no packages for i386"),
        ("Architectures: i386\nComponents: contrib\n", "no component 'main'"),
        (None, "no suite 'stable'"),
    ],
)
def test_a_suite_that_cannot_serve_is_refused_before_anything_is_built(
    text: str | None, said: str, web: Web, tmp_path: Path
) -> None:
    folder = tmp_path / "repository" / "dists" / "stable"
    folder.mkdir(parents=True)
    if text is not None:
        (folder / "InRelease").write_text(text)
    for url in (web.url, f"file:{tmp_path / 'repository'}"):
        with pytest.raises(ImageError, match=said):
            release(Mirror.parse(url, "stable", ["main"]))


def test_a_mirror_that_does_not_answer_is_named(store: Store) -> None:
    with pytest.raises(ImageError, match=r"cannot install from 'http://127\.0\.0\.1:9/debian'"):
        rootfs.debian(mirror="http://127.0.0.1:9/debian", store=store)
    with pytest.raises(ImageError, match="expected a folder"):
        rootfs.debian(mirror="file:/nonexistent", store=store)


def test_a_packages_file_is_read_in_all_its_packings(tmp_path: Path) -> None:
    repository(tmp_path, [Deb("one", "1:2.0-3"), Deb("two")])
    text = (tmp_path / "dists/stable/main/binary-i386/Packages").read_bytes()
    packed = [
        subprocess.run([program, "-c"], input=text, capture_output=True, check=True).stdout
        for program in ("gzip", "xz")
    ]
    found = [list(offers(data)) for data in (text, *packed)]
    assert [(one.name, one.version, one.filename) for one in found[0]] == [
        ("one", "1:2.0-3", "pool/one_1:2.0-3_i386.deb"),
        ("two", "1.0", "pool/two_1.0_i386.deb"),
    ]
    assert found[0] == found[1] == found[2]
    with pytest.raises(ImageError, match="damaged"):
        list(offers(packed[1][:-20]))


# ---- what mmdebstrap does with small repositories ----


@has_mmdebstrap
def test_a_package_that_does_not_exist_is_named_with_what_is_like_it(web: Web, store: Store, tmp_path: Path) -> None:
    repository(tmp_path / "repository", [*ESSENTIAL, Deb("v86lab-hello")])
    with pytest.raises(ImageError, match=r"no package 'v86lab-helo' in Debian stable \(main\).*mean v86lab-hello"):
        tiny(web, store, packages=["v86lab-helo"])
    with pytest.raises(ImageError, match="Version '9' for 'v86lab-hello' was not found"):
        tiny(web, store, packages=["v86lab-hello=9"])


@has_mmdebstrap
def test_packages_that_do_not_fit_together_are_named(web: Web, store: Store, tmp_path: Path) -> None:
    repository(tmp_path / "repository", [*ESSENTIAL, Deb("v86lab-hello", fields="Depends: v86lab-nowhere (>= 2)\n")])
    with pytest.raises(ImageError, match=r"do not fit together.*v86lab-hello : Depends: v86lab-nowhere"):
        tiny(web, store, packages=["v86lab-hello"])


@has_mmdebstrap
def test_a_repository_that_nobody_signed_is_refused(web: Web, store: Store, tmp_path: Path) -> None:
    repository(tmp_path / "repository", ESSENTIAL)
    with pytest.raises(ImageError, match="signature cannot be checked"):
        tiny(web, store, mirror=web.url)


@has_mmdebstrap
def test_a_mirror_out_of_step_with_itself_is_tried_again_and_then_named(
    web: Web, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository(tmp_path / "repository", ESSENTIAL)
    index = tmp_path / "repository/dists/stable/main/binary-i386/Packages"
    index.write_text(index.read_text() + "\n")
    monkeypatch.setattr(build, "PAUSES", (0.0,))
    with pytest.raises(OutOfStep, match="out of step with itself"):
        tiny(web, store)
    assert web.asked.count("/dists/stable/Release") == 3  # one look, two tries


@has_mmdebstrap
def test_a_second_try_goes_on_where_a_mirror_died(web: Web, store: Store, tmp_path: Path) -> None:
    repository(tmp_path / "repository", ESSENTIAL)
    web.broken.add("v86lab-two")
    with pytest.raises(ImageError, match=r"a mirror failed.*v86lab-two_1.0_i386.deb"):
        tiny(web, store)
    web.broken.clear()
    web.asked.clear()
    with pytest.raises(ImageError, match="mmdebstrap failed"):  # there is no dpkg in it
        tiny(web, store)
    assert [path for path in web.asked if path.endswith(".deb")] == ["/pool/v86lab-two_1.0_i386.deb"]
    assert not list((store.home / "tmp").iterdir())


@has_mmdebstrap
def test_packages_are_unpacked_without_any_privilege(store: Store, tmp_path: Path) -> None:
    repository(tmp_path / "repository", [*ESSENTIAL, Deb("v86lab-hello")])
    wanted = recipe(
        ["v86lab-hello"], "stable", variant="essential", init=False, mirror=f"file:{tmp_path / 'repository'}"
    )
    wanted = replace(wanted, mirrors=tuple(replace(one, options="trusted=yes") for one in wanted.mirrors))
    counted: list[int] = []
    with Relay(wanted.mirrors, store, counted.append) as relay:
        log = mmdebstrap.run(
            mmdebstrap.command(wanted, "extract", relay.lines(), None),
            mmdebstrap.environment("extract", 1_700_000_000, tmp_path),
            tmp_path / "tree.tar",
        )
    assert log is None, log
    assert sum(counted) > 3 * 600  # bytes of a .deb
    tree = rootfs.tar(tmp_path / "tree.tar", store=store)
    assert tree.read("/usr/share/v86lab-hello/hello") == b"hello\n"
    assert len([name for name in tree.listdir("/var/cache/apt/archives") if name.endswith(".deb")]) == 3


@has_mmdebstrap
def test_an_interrupted_build_leaves_nothing(web: Web, tmp_path: Path) -> None:
    repository(tmp_path / "repository", ESSENTIAL)
    hang = threading.Event()
    script = (
        "import v86lab.rootfs as rootfs, sys\n"
        "rootfs.debian(suite='stable', variant='essential', init=False, mirror=sys.argv[1])\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, web.deb()], stderr=subprocess.PIPE, cwd=ROOT)
    folder = Path(os.environ["TMPDIR"])
    while not list(folder.glob("v86lab-debian-*/tmp/mmdebstrap.*")):
        assert process.poll() is None
        hang.wait(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert b"KeyboardInterrupt" in said
    assert not list(folder.glob("v86lab-debian-*"))


# ---- logs ----


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("E: You don't have enough free space in /var/cache/apt/archives/.", "set TMPDIR"),
        ("dpkg: error: cannot copy: No space left on device", "set TMPDIR"),
        (
            "E: Failed to fetch http://a/Packages.xz  File has unexpected size (1 != 2). Mirror sync in progress?",
            "snapshot=",
        ),
        (
            "W: GPG error: http://a InRelease: The following signatures couldn't be verified: NO_PUBKEY 0E98",
            "debian-archive-keyring",
        ),
        ("E: Release file for http://a/InRelease is expired (invalid since 3d 2h).", "snapshot="),
        ("E: Release file for http://a/InRelease is not valid yet (invalid for another 3d).", "clock"),
        (
            "I: installing\ndpkg: error processing package foo (--configure)\nE: setup failed",
            "error processing package foo",
        ),
        ("", "no word"),
    ],
)
def test_what_mmdebstrap_says_becomes_an_error_with_a_way_out(log: str, said: str) -> None:
    assert said in str(fault(log, recipe(), (), list))


def test_where_there_is_no_mmdebstrap_the_error_names_other_ways(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(modes, "PATH", "/nonexistent")
    with pytest.raises(ImageError, match=r"expected mmdebstrap.*rootfs\.oci.*bookworm-slim"):
        rootfs.debian(store=store)


# ---- guests ----

STATUS_TEXT = "Package: {0}\nStatus: install ok installed\nArchitecture: i386\nVersion: {1}\n"


def debian_like(versions: Mapping[str, str], digests: Mapping[str, str] | None = None) -> RootFS:
    """The parts of a Debian that matter here."""
    tree = rootfs.of(
        {
            STATUS: "\n".join(STATUS_TEXT.format(*one) for one in versions.items()),
            "/etc/passwd": "root:x:0:0:root:/root:/bin/bash\n",
            "/etc/shadow": "root:*:20000:0:99999:7:::\ndaemon:*:20000:0:99999:7:::\n",
            "/usr/lib/systemd/systemd": "",
            "/var/lib/apt/lists/127.0.0.1_dists": "",
            "/var/log/dpkg.log": "now",
            "/etc/hostname": "the-host",
            "/etc/resolv.conf": "nameserver 10.0.0.1",
        }
    ).with_attributes("/etc/shadow", mode=0o640, gid=42)
    found = {(name, version, "i386"): (digests or {}).get(name, "d" * 64) for name, version in versions.items()}
    return tree.with_file(PLACE, record(packages(tree), found, "bookworm", ["deb http://example.org bookworm main"]))


def test_a_guest_has_the_recipes_names_and_nothing_of_the_host() -> None:
    wanted = recipe(hostname="lab", mirror=[DEBIAN, "deb [trusted=yes] http://127.0.0.1:8000 stable main"])
    tree = furnished(debian_like({}), wanted, "{}", 1_700_000_000)
    assert tree.read("/etc/hostname") == b"lab\n"
    assert b"127.0.1.1 lab\n" in tree.read("/etc/hosts")
    assert b"nameserver" not in tree.read("/etc/resolv.conf")
    assert tree.read("/etc/apt/sources.list") == b"deb http://deb.debian.org/debian bookworm main\n"
    assert "/var/lib/apt/lists/127.0.0.1_dists" not in tree
    assert "/var/log/dpkg.log" not in tree
    assert tree.read("/etc/passwd") == b"root:x:0:0:root:/root:/bin/bash\n"
    assert tree.read("/etc/shadow").splitlines() == [b"root::20000:0:99999:7:::", b"daemon:*:20000:0:99999:7:::"]
    shadow = tree["/etc/shadow"]
    assert (shadow.mode & 0o7777, shadow.gid, shadow.mtime) == (0o640, 42, 1_700_000_000 * 10**9)
    assert {tree[f"/etc/systemd/system/{unit}"].target for unit in MASKED} == {b"/dev/null"}
    assert tree.read("/etc/machine-id") == b""


def test_documentation_is_left_out_by_dpkgs_own_rules_unless_it_is_wanted() -> None:
    names = ("doc/a/README", "doc/a/copyright", "locale/de/a.mo", "man/man1/a.1.gz", "man/de/man1/a.1.gz", "perl/doc/a")
    tree = debian_like({}) + rootfs.of({"/etc/dpkg/origins": "", **{f"/usr/share/{name}": "" for name in names}})
    lean = furnished(tree, recipe(), "{}", 0)
    kept = {"doc/a/copyright", "man/man1/a.1.gz", "perl/doc/a"}
    assert {name for name in names if f"/usr/share/{name}" in lean} == kept
    assert lean.read("/etc/dpkg/dpkg.cfg.d/v86lab").startswith(b"path-exclude=/usr/share/doc/*\n")
    full = furnished(tree, recipe(documentation=True), "{}", 0)
    assert {name for name in names if f"/usr/share/{name}" in full} == set(names)
    assert "/etc/dpkg/dpkg.cfg.d/v86lab" not in full


def test_a_guest_of_a_local_mirror_alone_gets_debians_own() -> None:
    assert sources(recipe(suite="trixie", mirror="file:/srv/mirror")) == [
        "deb http://deb.debian.org/debian trixie main"
    ]


def test_packages_have_versions_from_dpkg_and_digests_from_the_record() -> None:
    tree = debian_like({"gcc": "4:12.2.0-3", "bash": "5.2"})
    assert packages(tree)[1] == Package("gcc", "4:12.2.0-3", "i386", "d" * 64)
    upgraded = tree.with_file(STATUS, STATUS_TEXT.format("gcc", "4:14"))
    assert packages(upgraded) == (Package("gcc", "4:14", "i386"),)
    assert packages(tree.with_file(PLACE, "[" * 100_000))[1].sha256 is None
    assert json.loads(tree.read(PLACE))["packages"][0] == ["bash", "5.2", "i386", "d" * 64]
    assert packages(rootfs.of({"/a": ""})) == ()


def test_what_differs_between_two_debians_is_named() -> None:
    old = debian_like({"gcc": "4:12", "nano": "7.2", "bash": "5.2"})
    new = debian_like({"gcc": "4:14", "strace": "6.1", "bash": "5.2"}, {"bash": "e" * 64})
    difference = compare(old, new)
    assert (difference.upgraded, difference.rebuilt) == ((("gcc", "4:12", "4:14"),), ("bash",))
    assert (difference.installed, difference.removed) == ((("strace", "6.1"),), (("nano", "7.2"),))
    assert difference.changed == (PLACE, STATUS)
    assert str(difference) == (
        "gcc 4:12 -> 4:14\nbash of the same version was built anew\nadded strace 6.1\nremoved nano 7.2\n2 files changed"
    )
    assert not compare(old, old.named("another"))
    assert repr(compare(old, old)) == "Comparison(nothing differs)"


# ---- real builds ----

SCRIPT = """
import sys
from v86lab import rootfs
from v86lab.store import Store
tree = rootfs.debian(["v86lab-hello"], variant="essential", init=False, mirror=sys.argv[1:], mode="auto")
print(tree.digest)
"""

# What a user of this computer has who is not root: an entry in passwd, ranges of subordinate ids, a home. All of it
# exists in a mount namespace only. Folders on the way to what the user needs may be root's alone: they are shadowed.
AS_USER = r"""
set -eu
user=$1 scratch=$2 ranges=$3; shift 3
chmod 755 "$scratch"
mkdir "$scratch/etc"
for name in passwd group subuid subgid; do cat /etc/$name > "$scratch/etc/$name" || true; done
echo "$user:x:4711:4711::$scratch/home:/bin/sh" >> "$scratch/etc/passwd"
echo "$user:x:4711:" >> "$scratch/etc/group"
for name in subuid subgid; do [ -z "$ranges" ] || echo "$user:$ranges" >> "$scratch/etc/$name"; done
for name in passwd group subuid subgid; do
    [ -e /etc/$name ] && mount --bind "$scratch/etc/$name" /etc/$name
done
mkdir "$scratch/home" "$scratch/tmp"; chown 4711:4711 "$scratch/home"; chmod 1777 "$scratch/tmp"
mount -t tmpfs none /mnt
n=0
while [ "$1" != -- ]; do
    path=$1 top= at=; shift; n=$((n + 1))
    while at=$at/$(echo "${path#"$at"/}" | cut -d/ -f1); [ "$at" != "$path" ]; do
        if [ -z "$top" ] && ! setpriv --reuid 4711 --regid 4711 --clear-groups test -x "$at"; then top=$at; fi
    done
    [ -n "$top" ] || continue
    mkdir "/mnt/$n"; mount --rbind "$path" "/mnt/$n"; mount -t tmpfs -o mode=755 none "$top"
    mkdir -p "$path"; mount --rbind "/mnt/$n" "$path"
done
shift
export HOME="$scratch/home" USER="$user" TMPDIR="$scratch/tmp" V86LAB_HOME="$scratch/home/store"
cd "$HOME"
exec setpriv --reuid 4711 --regid 4711 --clear-groups "$@"
"""


def as_user(scratch: Path, ranges: str, arguments: list[str]) -> str:
    """Run Python as somebody who is not root; its standard output."""
    needed = [str(scratch), str(ROOT), sys.prefix, sys.base_prefix]
    command = [sys.executable, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    if os.geteuid() == 0:
        command = ["unshare", "--mount", "sh", "-c", AS_USER, "sh", USER, str(scratch), ranges, *needed, "--", *command]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@dataclass(frozen=True)
class Real:
    """A real build, from Debian's archive and a repository made here."""

    folder: Path
    web: Web
    store: Store
    mirrors: list[str]
    tree: RootFS

    def again(self) -> RootFS:
        return rootfs.debian(
            ["v86lab-hello"], variant="essential", init=False, mirror=self.mirrors, store=self.store, refresh=True
        )


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    base = tmp_path_factory.mktemp("real")
    folder = base / "repository"
    repository(folder, [Deb("v86lab-hello", fields="Depends: v86lab-old\n"), Deb("v86lab-old")])
    with Web(folder) as server:
        store = Store(base / "store")
        mirrors = [DEBIAN, server.deb()]
        tree = rootfs.debian(["v86lab-hello"], variant="essential", init=False, mirror=mirrors, store=store)
        yield Real(folder, server, store, mirrors, tree)


@has_mmdebstrap
@pytest.mark.debian
def test_a_build_knows_its_packages_and_keeps_nothing_of_this_computer(real: Real) -> None:
    found = {package.name: package for package in packages(real.tree)}
    assert {"bash", "dpkg", "libc6", "v86lab-hello", "v86lab-old"} <= found.keys()
    assert "perl" not in found  # usrmerge would bring it
    assert all(package.sha256 and len(package.sha256) == 64 for package in found.values())
    assert real.tree.read("/usr/share/v86lab-hello/hello") == b"hello\n"
    assert real.tree["/dev/null"].device == (1, 3)
    assert real.tree["/var/mail"].gid == 8
    assert real.tree.read("/etc/passwd").startswith(b"root::0:0:")
    listed = [path for path in real.tree.paths() if path.startswith("/etc/apt/")]
    texts = [real.tree.read(path) for path in listed if real.tree[path].is_file]
    assert not any(b"127.0.0.1" in text for text in texts)
    assert real.tree.read("/etc/hostname") == b"debian\n"
    assert not any(path.startswith(("/usr/share/locale/de", "/var/lib/apt/lists/")) for path in real.tree.paths())
    assert "/usr/share/doc/bash/copyright" in real.tree
    assert "/usr/share/doc/bash/README" not in real.tree
    assert max(entry.inode.mtime for entry in real.tree.entries()) <= time.time_ns()


@has_mmdebstrap
@pytest.mark.debian
def test_a_recipe_that_was_built_is_found_without_asking_any_mirror(real: Real) -> None:
    asked = len(real.web.asked)
    mirrors = list(real.mirrors)
    tree = rootfs.debian(["v86lab-hello"], variant="essential", init=False, mirror=mirrors, store=real.store)
    assert (tree.digest, len(real.web.asked)) == (real.tree.digest, asked)
    real.store.gc(older_than=0)
    assert tree.read("/usr/share/v86lab-hello/hello") == b"hello\n"


@has_mmdebstrap
@pytest.mark.debian
def test_a_user_who_is_not_root_builds_the_same_bytes(real: Real, tmp_path: Path) -> None:
    digest = as_user(tmp_path, "200000:65536", ["-c", SCRIPT, *real.mirrors])
    assert digest == real.tree.digest
    assert os.geteuid() or not list((tmp_path / "tmp").iterdir())


@has_mmdebstrap
@pytest.mark.debian
def test_a_build_from_a_changed_mirror_says_what_differs(real: Real, capfd: pytest.CaptureFixture[str]) -> None:
    repository(
        real.folder, [Deb("v86lab-hello", "2.0", "Depends: v86lab-new\n", content="hello, world\n"), Deb("v86lab-new")]
    )
    tree = real.again()
    difference = compare(real.tree, tree)
    assert difference.upgraded == (("v86lab-hello", "1.0", "2.0"),)
    assert (difference.installed, difference.removed) == ((("v86lab-new", "1.0"),), (("v86lab-old", "1.0"),))
    assert "/usr/share/v86lab-hello/hello" in difference.changed
    said = capfd.readouterr().err
    assert (
        "Debian bookworm has changed since it was last built:\nv86lab-hello 1.0 -> 2.0\nadded v86lab-new 1.0\n" in said
    )


@has_mmdebstrap
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="makes a user in a mount namespace")
def test_where_a_user_has_no_namespaces_another_mode_is_chosen_and_says_why(tmp_path: Path) -> None:
    script = "from v86lab.rootfs.debian.modes import choose; print(choose())"
    said = as_user(tmp_path, "", ["-c", script])
    assert said.startswith(("Choice(mode='fakechroot'", "Choice(mode='extract'"))
    assert "unshare: " in said and "subuid" in said
    assert "root: you are not root" in said
