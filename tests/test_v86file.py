"""`.v86` files: what is written is read again, by us and by the field's tools; what a stranger made is refused."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import tracemalloc
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from v86lab import images, v86file
from v86lab.errors import ImageError, StoreError, UnknownDigest
from v86lab.store import CHUNK, Store

POSIX = pytest.mark.skipif(os.name == "nt", reason="needs POSIX processes")
ROOT = Path(__file__).resolve().parent.parent
NOISE = hashlib.shake_256(b"noise").digest(3 * CHUNK)
BLOBS = (b"", b"x", b"text " * 1000, NOISE[:700], NOISE, bytes(2 * CHUNK) + b"end", zstandard.compress(NOISE[:5000]))
DESCRIPTION = {"name": "caf\xe9", "memory": 1 << 27, "disk": None}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", shared=[])


@pytest.fixture
def other(tmp_path: Path) -> Store:
    return Store(tmp_path / "other", shared=[])


def written(store: Store, blobs: tuple[bytes, ...] = BLOBS, description: Mapping[str, Any] = DESCRIPTION) -> bytes:
    file = io.BytesIO()
    v86file.write(file, "image", description, [store.put(blob) for blob in blobs], store)
    return file.getvalue()


def read(raw: bytes | BinaryIO, store: Store) -> v86file.Reader:
    reader = v86file.Reader(io.BytesIO(raw) if isinstance(raw, bytes) else raw)
    reader.unpack(store)
    return reader


def clean(store: Store) -> bool:
    """Whether nothing is left that is not a whole blob."""
    if any((store.home / "tmp").glob("*")):
        return False
    return all(sha256(store.get(digest)) == digest for digest in store.digests())


class Pipe(io.RawIOBase):
    """A stream that cannot be rewound and gives odd amounts."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self.data.read(min(size, 65537) if size >= 0 else 65537)


# ---- there and back -------------------------------------------------------------------------------------------------


def test_a_file_holds_a_manifest_and_then_the_blobs_in_the_order_of_their_digests(store: Store) -> None:
    raw = written(store)
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        first, *rest = tar.getmembers()
        opened = tar.extractfile(first)
        assert opened is not None
        manifest = json.load(opened)
    blobs = {sha256(blob): len(blob) for blob in BLOBS}
    canonical = json.dumps(DESCRIPTION, sort_keys=True, separators=(",", ":")).encode()
    assert first.name == "manifest.json"
    assert manifest == {
        "format": "v86lab-file",
        "version": 1,
        "kind": "image",
        "digest": sha256(canonical),
        "description": DESCRIPTION,
        "blobs": blobs,
    }
    assert [member.name.removeprefix("blobs/").removesuffix(".zst") for member in rest] == sorted(blobs)
    packed = {member.name[6:70]: member.name.endswith(".zst") for member in rest}
    assert packed == {sha256(blob): blob in (BLOBS[2], BLOBS[5]) for blob in BLOBS}
    marks = {(m.type, m.mode, m.uid, m.gid, m.uname, m.gname, m.mtime) for m in (first, *rest)}
    assert marks == {(tarfile.REGTYPE, 0o644, 0, 0, "", "", 0)}


@pytest.mark.parametrize("wrap", [io.BytesIO, Pipe])
def test_what_is_written_is_read_again(store: Store, other: Store, wrap: Callable[[bytes], BinaryIO]) -> None:
    raw = written(store)
    for _ in range(2):  # the second time all blobs are there
        reader = read(wrap(raw), other)
        assert (reader.kind, reader.description) == ("image", DESCRIPTION)
        assert reader.blobs == {sha256(blob): len(blob) for blob in BLOBS}
        assert set(other.digests()) == set(reader.blobs) and clean(other)


SIZES = st.sampled_from([0, 1, 511, 512, 513, CHUNK - 1, CHUNK, CHUNK + 1]) | st.integers(0, 5000)
SOME_BLOBS = st.lists(
    st.builds(lambda size, text: (text * (size // len(text) + 1))[:size], SIZES, st.binary(min_size=1, max_size=3000)),
    max_size=6,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SOME_BLOBS, st.dictionaries(st.text(), st.none() | st.integers() | st.text()))
def test_any_blobs_and_any_description_come_back(store: Store, blobs: list[bytes], description: dict[str, Any]) -> None:
    store.gc(older_than=-1)
    raw = written(store, tuple(blobs), description)
    store.gc(older_than=-1)
    assert read(raw, store).description == description
    assert {store.get(digest) for digest in store.digests()} == set(blobs) and clean(store)


def test_the_same_blobs_and_description_give_the_same_bytes(store: Store, other: Store) -> None:
    assert written(store) == written(other, BLOBS[::-1] + BLOBS)


@POSIX
def test_standard_tools_list_unpack_and_verify_it(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "lab.v86"
    v86file.save(path, "image", DESCRIPTION, [store.put(blob) for blob in BLOBS], store)
    script = """
    set -e
    tar tf lab.v86 | head -n 1
    mkdir out && tar xf lab.v86 -C out && cd out && zstd -dq --rm blobs/*.zst
    cd blobs && for blob in *; do echo "$blob  $blob"; done | sha256sum --check --quiet --strict && ls
    """
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.split() == ["manifest.json", *sorted(sha256(blob) for blob in BLOBS)]
    for blob in BLOBS:
        assert (tmp_path / "out" / "blobs" / sha256(blob)).read_bytes() == blob


@pytest.mark.parametrize("size", [0, 1, 8**11 - 1, 8**11, 60 << 30])
def test_headers_are_those_of_tar_whatever_the_size(size: int) -> None:
    member = tarfile.TarInfo.frombuf(v86file._header("blobs/" + "a" * 64 + ".zst", size), "utf-8", "strict")
    assert (member.name, member.size, member.isreg(), member.mode) == ("blobs/" + "a" * 64 + ".zst", size, True, 0o644)
    assert v86file._length(v86file._header("manifest.json", size)) == size


COPY = """
import sys; sys.path.insert(0, sys.argv[1])
from v86lab import images, v86file
from v86lab.store import Store
store = Store(sys.argv[2], shared=[])
if sys.argv[3:]:
    v86file.write(sys.stdout.buffer, "image", {}, sys.argv[3:], store)
else:
    v86file.Reader(sys.stdin.buffer).unpack(store)
"""


@POSIX
def test_it_goes_through_a_pipe_from_one_process_to_another(store: Store, other: Store) -> None:
    digests = [store.put(blob) for blob in BLOBS]
    command = [sys.executable, "-c", COPY, str(ROOT)]
    with subprocess.Popen([*command, str(store.home), *digests], stdout=subprocess.PIPE) as writer:
        subprocess.run([*command, str(other.home)], stdin=writer.stdout, check=True)
    assert writer.returncode == 0
    assert set(other.digests()) == set(digests) and clean(other)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """A folder over HTTP: its address."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def test_it_is_read_from_an_http_answer(store: Store, other: Store, tmp_path: Path) -> None:
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "lab.v86").write_bytes(written(store))
    with served(tmp_path / "www") as address, urllib.request.urlopen(address + "lab.v86") as answer:
        assert read(cast("BinaryIO", answer), other).description == DESCRIPTION
    assert set(other.digests()) == {sha256(blob) for blob in BLOBS} and clean(other)


def test_a_machine_can_be_named_by_the_address_of_its_file(store: Store, other: Store, tmp_path: Path) -> None:
    (tmp_path / "www").mkdir()
    image = images.boot_sector(b"hello", store=store)
    image.save(tmp_path / "www" / "lab.v86", store)
    with served(tmp_path / "www") as address:
        assert images.resolve(address + "lab.v86", store=other) == image
    assert image.digests() <= set(other.digests())


@POSIX
def test_it_is_read_from_a_named_pipe(store: Store, other: Store, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    thread = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(written(store),))
    thread.start()
    with v86file.opened(tmp_path / "pipe") as file:
        assert read(file, other).description == DESCRIPTION
    thread.join()


SPARSE = """
import sys; sys.path.insert(0, sys.argv[1])
import resource
from v86lab import images, v86file
from v86lab.store import Store

class Disk:
    left = size = 2 << 30
    def read(self, count):
        count, start = min(count, self.left), self.size - self.left
        self.left -= count
        return bytes(count) if start != 1 << 30 else b"data" * (count // 4)

here, there = Store(sys.argv[2], shared=[]), Store(sys.argv[3], shared=[])
digest = here.put(Disk())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
v86file.save(sys.argv[4], "image", {}, [digest], here)
with v86file.opened(sys.argv[4]) as file:
    v86file.Reader(file).unpack(there)
print(digest, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@POSIX
def test_a_large_sparse_disk_takes_little_memory_and_room(store: Store, other: Store, tmp_path: Path) -> None:
    path = tmp_path / "disk.v86"
    command = [sys.executable, "-c", SPARSE, str(ROOT), str(store.home), str(other.home), str(path)]
    digest, grown = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert int(grown) < 64 << 10  # KiB
    assert path.stat().st_size < 1 << 20
    assert other.size(digest) == 2 << 30
    assert other.path(digest).stat().st_blocks * 512 <= 2 << 20


# ---- a second try ---------------------------------------------------------------------------------------------------


class Counting(io.BytesIO):
    """A file that counts the bytes that are read."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


def test_blobs_that_are_there_are_passed_over_and_made_young(store: Store) -> None:
    raw = written(store)
    for digest in store.digests():
        os.utime(store.path(digest), (0, 0))
    file = Counting(raw)
    read(file, store)
    assert file.count < 10_000 < len(raw)
    store.gc(older_than=3600)
    assert set(store.digests()) == {sha256(blob) for blob in BLOBS}


def test_after_a_broken_file_a_second_try_goes_on(store: Store, other: Store) -> None:
    large = tuple(bytes([n]) * (CHUNK + 1) + NOISE[n:CHUNK] for n in range(4))
    raw = written(store, large)
    with pytest.raises(ImageError, match="cut short"):
        read(raw[: len(raw) * 2 // 3], other)
    kept = len(set(other.digests()))
    assert 0 < kept < 4 and clean(other)
    file = Counting(raw)
    read(file, other)
    assert set(other.digests()) == {sha256(blob) for blob in large}
    assert file.count < len(raw) * (5 - kept) // 4


class Raced(Store):
    """A Store in which another process puts each blob as soon as one has looked for it."""

    def touch(self, digest: str, size: int | None = None) -> bool:
        found = super().touch(digest, size)
        Store(self.home, shared=[]).put(next(blob for blob in BLOBS if sha256(blob) == digest))
        return found


@pytest.mark.parametrize("wrap", [io.BytesIO, Pipe])
def test_two_that_unpack_a_file_at_once_both_succeed(
    store: Store, tmp_path: Path, wrap: Callable[[bytes], BinaryIO]
) -> None:
    raced = Raced(tmp_path / "raced", shared=[])
    read(wrap(written(store)), raced)
    assert set(raced.digests()) == {sha256(blob) for blob in BLOBS} and clean(raced)


@POSIX
@pytest.mark.parametrize("kind", ["large", "small"])
def test_a_store_that_is_full_keeps_whole_blobs_only(store: Store, tmp_path: Path, kind: str) -> None:
    blobs = [NOISE, NOISE[:900_000] * 2] if kind == "large" else [NOISE[n : n + 900_000] for n in range(4)]
    v86file.save(tmp_path / "lab.v86", "image", {}, [store.put(blob) for blob in blobs], store)
    code = """
import sys; sys.path.insert(0, sys.argv[1])
import subprocess
from v86lab import images, v86file
from v86lab.errors import StoreFull
from v86lab.store import Store
home = sys.argv[2]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", home], check=True)
store = Store(home, shared=[])
for attempt in range(2):
    try:
        with v86file.opened(sys.argv[3]) as file:
            v86file.Reader(file).unpack(store)
    except StoreFull as error:
        print(error)
    assert not list((store.home / "tmp").iterdir())
    for digest in store.digests():
        store.get(digest)
"""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespaces here")
    home = tmp_path / "full"
    home.mkdir()
    command = [unshare, "-rm", sys.executable, "-c", code, str(ROOT), str(home), str(tmp_path / "lab.v86")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("No space left") == 2


@POSIX
def test_a_file_that_does_not_fit_on_its_disk_is_an_error_and_leaves_nothing(store: Store, tmp_path: Path) -> None:
    code = """
import sys; sys.path.insert(0, sys.argv[1])
import resource
from v86lab import images, v86file
from v86lab.errors import ImageError
from v86lab.store import Store
resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, 1_500_000))
try:
    v86file.save(sys.argv[3], "image", {}, sys.argv[4:], Store(sys.argv[2], shared=[]))
except ImageError as error:
    print(error)
"""
    folder = tmp_path / "folder"
    folder.mkdir()
    command = [sys.executable, "-c", code, str(ROOT), str(store.home), str(folder / "lab.v86"), store.put(NOISE)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "cannot save the image as" in done.stdout and "File too large" in done.stdout
    assert list(folder.iterdir()) == []


def test_a_blob_that_is_missing_or_too_much_is_not_saved(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UnknownDigest):
        v86file.save(tmp_path / "lab.v86", "image", {}, ["0" * 64], store)
    monkeypatch.setattr(v86file, "MAX_BYTES", 1000)
    with pytest.raises(ImageError, match=r"does not go into one file.*saw 3 MiB"):
        v86file.save(tmp_path / "lab.v86", "image", {}, [store.put(NOISE)], store)
    monkeypatch.setattr(v86file, "_MOST_JSON", 1000)
    with pytest.raises(ImageError, match=r"does not go into one file.*20 blobs"):
        v86file.save(tmp_path / "lab.v86", "image", {}, [store.put(bytes([n])) for n in range(20)], store)
    assert not (tmp_path / "lab.v86").exists()


# ---- strangers ------------------------------------------------------------------------------------------------------

SMALL, LARGE = b"hello, world", b"large " * (CHUNK // 3)
TWO = tuple(sorted((SMALL, LARGE), key=sha256))


def packed(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=3).compress(data)


def wide(data: bytes) -> bytes:
    """A frame for which 128 MiB must be held."""
    wanted = zstandard.ZstdCompressionParameters(window_log=27, write_content_size=False)
    frame = zstandard.ZstdCompressor(compression_params=wanted).compressobj()
    return frame.compress(data) + frame.flush()


def member(name: str, data: bytes, **fields: Any) -> bytes:
    """A member as any tar may have it."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512)


def plain(name: str, data: bytes) -> bytes:
    """A member as ours are."""
    return v86file._header(name, len(data)) + data + bytes(-len(data) % 512)


def manifest(changes: Mapping[str, Any] | None = None, description: Any = None, **blobs: Any) -> bytes:
    """A manifest, as ours are unless told otherwise; `blobs` replaces all of them."""
    description = {} if description is None else description
    listed = blobs or {sha256(blob): len(blob) for blob in TWO}
    whole: dict[str, Any] = {"format": "v86lab-file", "version": 1, "kind": "image"}
    whole |= {"digest": sha256(json.dumps(description, sort_keys=True, separators=(",", ":")).encode())}
    whole |= {"description": description, "blobs": listed} | dict(changes or {})
    return json.dumps(whole, separators=(",", ":")).encode() + b"\n"


def blob(data: bytes) -> bytes:
    return plain(f"blobs/{sha256(data)}", data)


ZST = f"blobs/{sha256(LARGE)}.zst"
HEAD, END = plain("manifest.json", manifest()), bytes(1024)
FIRST, SECOND = map(blob, TWO)


def with_large(data: bytes) -> bytes:
    """A file in which the large blob is packed as this."""
    return HEAD + b"".join(plain(ZST, data) if one is LARGE else blob(one) for one in TWO) + END


def of_manifest(raw: bytes) -> bytes:
    return plain("manifest.json", raw) + FIRST + SECOND + END


def test_the_helpers_of_these_tests_make_good_files(other: Store) -> None:
    for raw in (HEAD + FIRST + SECOND + END, with_large(packed(LARGE)), of_manifest(manifest())):
        assert read(raw, other).blobs == {sha256(one): len(one) for one in TWO}
        assert set(other.digests()) == {sha256(one) for one in TWO}
        other.gc(older_than=-1)


HOSTILE = {
    "nothing": (b"", "no .v86 file.*an empty file"),
    "text": (b"hello\n" * 200, "no .v86 file.*saw text$"),
    "another tar": (member("etc/passwd", b"root") + END, "no .v86 file.*saw a tar archive"),
    "a JSON image": (b'{"format": "v86lab image", "version": 2}', "earlier releases"),
    "a manifest that is no plain file": (member("manifest.json", b"", type=tarfile.SYMTYPE, linkname="/x"), "manifest"),
    "a manifest of another owner": (member("manifest.json", manifest(), uid=5) + FIRST + SECOND + END, "manifest"),
    "a manifest without end": (v86file._header("manifest.json", 60 << 30) + b"{" * 1000, "at most 32 MiB"),
    "a manifest that is cut": (HEAD[:700], "cut short"),
    "no JSON": (of_manifest(b"hello"), "expected JSON"),
    "bad UTF-8": (of_manifest(b"\xff\xfe\xfd"), "expected JSON"),
    "deep JSON": (of_manifest(b"[" * 1_000_000), "expected JSON"),
    "absurd numbers": (of_manifest(b'{"version":' + b"9" * 10_000 + b"}"), "expected JSON"),
    "no object": (of_manifest(b"[]\n"), "no .v86 file"),
    "another format": (of_manifest(manifest({"format": "tar"})), "no .v86 file"),
    "another version": (of_manifest(manifest({"version": 2})), "version 2.*pip install --upgrade"),
    "a version like 1": (of_manifest(manifest({"version": True})), "manifest is damaged"),
    "a kind that is no name": (of_manifest(manifest({"kind": ["image"]})), "manifest is damaged"),
    "a description of another digest": (of_manifest(manifest({"digest": "0" * 64})), "manifest is damaged"),
    "no description": (of_manifest(manifest({"description": None})), "manifest is damaged"),
    "a key of no meaning": (of_manifest(manifest({"path": "/etc"})), "manifest is damaged"),
    "two keys of a name": (of_manifest(manifest()[:-2] + b',"version":1}\n'), "manifest is damaged"),
    "other spaces": (of_manifest(manifest() + b" "), "manifest is damaged"),
    "blobs in a list": (of_manifest(manifest({"blobs": []})), "manifest is damaged"),
    "a digest that is a path": (of_manifest(manifest(None, None, **{"../" * 21 + "x": 5})), "manifest is damaged"),
    "a digest in capitals": (of_manifest(manifest(None, None, **{"A" * 64: 5})), "manifest is damaged"),
    "a size below zero": (of_manifest(manifest(None, None, **{"a" * 64: -1})), "manifest is damaged"),
    "a size that is no number": (of_manifest(manifest(None, None, **{"a" * 64: True})), "manifest is damaged"),
    "a size that is no integer": (of_manifest(manifest(None, None, **{"a" * 64: 5.0})), "manifest is damaged"),
    "more than a Store should take": (of_manifest(manifest(None, None, **{"a" * 64: 65 << 30})), "too big.*65 GiB"),
    "digests in another order": (
        of_manifest(manifest(None, None, **{sha256(one): len(one) for one in TWO[::-1]})),
        "manifest is damaged",
    ),
    "no blobs": (HEAD + END, f"go on as its manifest says.*{sha256(TWO[0])}.*saw the end"),
    "a blob less": (HEAD + FIRST + END, "does not go on as its manifest says"),
    "a blob twice": (HEAD + FIRST + FIRST + SECOND + END, "does not go on as its manifest says"),
    "another order": (HEAD + SECOND + FIRST + END, "does not go on as its manifest says"),
    "a member more": (HEAD + FIRST + SECOND + blob(b"more") + END, "does not end where it should"),
    "a member between": (HEAD + FIRST + plain("README", b"hello") + SECOND + END, "saw 'README'"),
    "a second manifest": (HEAD + HEAD + FIRST + SECOND + END, "saw 'manifest.json'"),
    "a path out of it": (HEAD + plain("../../../tmp/escaped", b"x") + FIRST + SECOND + END, r"saw '\.\./\.\./"),
    "an absolute path": (HEAD + plain("/tmp/escaped", b"x") + FIRST + SECOND + END, "saw '/tmp/escaped'"),
    "a name with escapes": (HEAD + plain("blobs/a", b"").replace(b"blobs/a", b"\x1b[2J\xff  "), r"saw '\\x1b\[2J\\xff"),
    "a symbolic link": (
        HEAD + member(f"blobs/{sha256(TWO[0])}", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd") + SECOND + END,
        "does not go on as its manifest says",
    ),
    "a hard link": (
        HEAD + FIRST + member(f"blobs/{sha256(TWO[1])}", b"", type=tarfile.LNKTYPE, linkname="manifest.json") + END,
        "does not go on as its manifest says",
    ),
    "a device": (HEAD + member(f"blobs/{sha256(TWO[0])}", b"", type=tarfile.CHRTYPE), "does not go on"),
    "a folder": (HEAD + member("blobs/", b"", type=tarfile.DIRTYPE) + FIRST + SECOND + END, "does not go on"),
    "a blob with a mode": (HEAD + member(f"blobs/{sha256(TWO[0])}", TWO[0], mode=0o4755), "does not go on"),
    "a PAX header": (HEAD + member("x", b"20 path=../escaped\n", type=tarfile.XHDTYPE) + FIRST, "saw 'x'"),
    "a GNU long name": (HEAD + member("././@LongLink", b"../escaped\0", type=tarfile.GNUTYPE_LONGNAME), "LongLink"),
    "a blob of another length": (
        HEAD + plain(f"blobs/{sha256(TWO[0])}", TWO[0] + b"x") + SECOND + END,
        "does not go on",
    ),
    "other bytes in a small blob": (
        HEAD + FIRST.replace(b"hello", b"jello") + SECOND.replace(b"hello", b"jello") + END,
        "not what it was said to be",
    ),
    "other bytes in a large blob": (
        HEAD + FIRST.replace(b"large", b"barge", 1) + SECOND.replace(b"large", b"barge", 1) + END,
        "not what it was said to be",
    ),
    "padding that is not": (HEAD + (FIRST + SECOND).replace(SMALL + b"\0", SMALL + b"\1") + END, "expected zeros"),
    "no end": (HEAD + FIRST + SECOND, "cut short"),
    "half an end": (HEAD + FIRST + SECOND + bytes(512), "cut short"),
    "more behind the end": (HEAD + FIRST + SECOND + END + b"\0", "does not end where it should"),
    "a frame of other bytes": (with_large(packed(LARGE.replace(b"l", b"b", 1))), "not what it was said to be"),
    "a frame of more bytes": (with_large(packed(LARGE + b"x")), "gives more than it should"),
    "a bomb": (with_large(packed(bytes(1 << 30))), "gives more than it should"),
    "a frame of fewer bytes": (with_large(packed(LARGE[:-1])), "cut short"),
    "half a frame": (with_large(packed(LARGE)[:-5]), "cut short"),
    "no frame": (with_large(b"hello"), "zstd frame is damaged"),
    "an empty frame": (with_large(b""), "does not go on"),
    "two frames": (
        with_large(packed(LARGE[: CHUNK + 5]) + packed(LARGE[CHUNK + 5 :])),
        "zstd frame is damaged|cut short",
    ),
    "something behind a frame": (with_large(packed(LARGE) + b"x" * 5000), "more bytes behind it"),
    "a frame behind a frame": (with_large(packed(LARGE) + packed(b"")), "more bytes behind it"),
    "a frame that needs much memory": (with_large(wide(LARGE)), "too much memory"),
    "packed without need": (
        HEAD + plain(f"blobs/{sha256(TWO[0])}.zst", b"x" * (2 * CHUNK + 99)),
        "does not",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("wrap", [io.BytesIO, Pipe])
def test_what_a_stranger_made_is_refused_and_only_whole_blobs_are_kept(
    other: Store, case: str, wrap: Callable[[bytes], BinaryIO]
) -> None:
    raw, message = HOSTILE[case]
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match=message) as caught:
            read(wrap(raw), other)
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 1000 and str(caught.value).isprintable()
    assert clean(other) and set(other.digests()) <= {sha256(one) for one in TWO}


def test_a_description_of_any_depth_is_read_or_refused(other: Store) -> None:
    for depth in (10, 100, *range(700, 1100, 20), 10_000, 100_000):
        deep = b'"description":' + b"[" * depth + b"]" * depth
        with pytest.raises(ImageError, match="manifest is damaged"):
            read(of_manifest(manifest({"description": 0}).replace(b'"description":0', deep)), other)


def test_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "lab.v86"
    path.write_bytes(HEAD)
    with (
        pytest.raises(ImageError, match=r"the file '.*lab\.v86': it is cut short.*get the file again"),
        v86file.opened(path) as file,
    ):
        read(file, Store(tmp_path / "other"))


def test_a_stream_of_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lab.v86"
    path.write_bytes(HEAD)
    with (
        path.open("r", encoding="latin-1") as file,
        pytest.raises(ImageError, match=r"expected bytes, saw str.*open it binary"),
    ):
        v86file.Reader(cast("BinaryIO", file))


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[bytes, Store]]:
    store = Store(tmp_path_factory.mktemp("sample"), shared=[])
    yield written(store, (SMALL, b"text " * 400, NOISE[:300]), {"name": "x", "memory": 5}), store


@settings(max_examples=300)
@given(st.data())
def test_a_file_with_any_change_is_refused_or_gives_what_it_gave(
    sample: tuple[bytes, Store], data: st.DataObject
) -> None:
    raw, store = sample
    store.gc(older_than=-1)
    at = data.draw(st.integers(0, len(raw) - 1))
    kind = data.draw(st.sampled_from(["flip", "cut", "insert", "remove"]))
    if kind == "flip":
        changed = raw[:at] + bytes([raw[at] ^ data.draw(st.integers(1, 255))]) + raw[at + 1 :]
    elif kind == "cut":
        changed = raw[:at]
    elif kind == "insert":
        changed = raw[:at] + data.draw(st.binary(min_size=1, max_size=600)) + raw[at:]
    else:
        changed = raw[:at] + raw[at + data.draw(st.integers(1, 600)) :]
    try:
        reader = read(changed, store)
    except ImageError:
        pass
    else:
        assert reader.description == {"name": "x", "memory": 5} and len(list(store.digests())) == 3
    assert clean(store)
    assert set(store.digests()) <= {sha256(one) for one in (SMALL, b"text " * 400, NOISE[:300])}


def test_a_store_that_cannot_be_written_is_its_own_error(store: Store, tmp_path: Path) -> None:
    raw = written(store)
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreError):
        read(raw, Store(tmp_path / "file", shared=[]))
