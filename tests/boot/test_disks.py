"""Disks, CDs and floppies: read by ranges from the Hub, written into the machine, never into the Store."""

from __future__ import annotations

import hashlib
import random
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

import v86lab as lab
from v86lab.errors import EngineError, GuestError, ImageError
from v86lab.hub import Hub

from .conftest import Maker, cold

pytestmark = pytest.mark.boot

MIB = 1 << 20


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def sum_of(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def ask(vm: lab.Machine, command: str, **options: Any) -> str:
    """The first word that a command prints."""
    return str(vm.run(command, **options).stdout).split()[0]


def iso(label: str, content: bytes) -> bytes:
    """A data CD with one file, A.TXT: ECMA-119, the least that a kernel mounts."""

    def both(value: int, size: int) -> bytes:
        return value.to_bytes(size, "little") + value.to_bytes(size, "big")

    def record(name: bytes, at: int, size: int, flags: int) -> bytes:
        body = bytes([0]) + both(at, 4) + both(size, 4) + bytes(7) + bytes([flags, 0, 0]) + both(1, 2)
        body += bytes([len(name)]) + name + (b"" if len(name) % 2 else b"\0")
        return bytes([len(body) + 1]) + body

    root = record(b"\0", 18, 2048, 2) + record(b"\1", 18, 2048, 2) + record(b"A.TXT;1", 19, len(content), 0)
    primary = bytearray(2048)
    primary[0:8] = b"\x01CD001\x01\x00"
    primary[8:72] = b" " * 32 + label.encode().ljust(32)
    blocks = 19 + -(-len(content) // 2048)
    primary[80:88], primary[120:124], primary[124:128] = both(blocks, 4), both(1, 2), both(1, 2)
    primary[128:132], primary[156:190], primary[881] = both(2048, 2), record(b"\0", 18, 2048, 2), 1
    end = (b"\xffCD001\x01").ljust(2048, b"\0")
    image = bytes(16 * 2048) + bytes(primary) + end + root.ljust(2048, b"\0") + content
    return image.ljust(-(-len(image) // 2048) * 2048, b"\0")


def test_a_disk_is_read_byte_for_byte_in_few_requests(make: Maker) -> None:
    data = noise(24 * MIB + 512 * 7)
    vm = make(cold(hda=data))
    assert ask(vm, "md5sum < /dev/sda", check=True, timeout=120) == sum_of(data)
    disks: Any = vm.statistics["disks"]
    assert disks["hda"]["bytes"] <= len(data) + 2 * MIB
    assert disks["hda"]["requests"] <= 24 + 24


def test_reads_here_and_there_fetch_little(make: Maker) -> None:
    data = noise(64 * MIB)
    vm = make(cold(hda=data))
    places = random.Random(2).sample(range(0, 64 * 256), 40)
    script = "; ".join(f"dd if=/dev/sda bs=4k skip={place} count=1 2>/dev/null" for place in places)
    assert vm.run(script, text=False, timeout=120).stdout == b"".join(
        data[place * 4096 : (place + 1) * 4096] for place in places
    )
    disks: Any = vm.statistics["disks"]
    assert disks["hda"]["bytes"] < 16 * MIB


def test_writes_survive_reset_and_reboot_and_stay_out_of_the_store(make: Maker) -> None:
    data = noise(4 * MIB)
    vm = make(cold(hda=data))
    digest = vm.image.hda.digest if vm.image.hda else ""
    patch = noise(70_656, 3)
    vm.run("dd of=/dev/sda bs=512 seek=200 conv=notrunc iflag=fullblock 2>&1; sync", input=patch, check=True)
    changed = data[:102_400] + patch + data[102_400 + len(patch) :]
    look = "echo 3 > /proc/sys/vm/drop_caches; md5sum < /dev/sda"
    assert ask(vm, look) == sum_of(changed)
    vm.reset()
    assert ask(vm, look, timeout=120) == sum_of(changed)
    vm.console.sendline("reboot -f")
    for _ in range(3):  # the first start, the reset, the reboot
        vm.console.expect("root.", timeout=120)
    assert ask(vm, look, timeout=120) == sum_of(changed)
    assert vm.hub.store.get(digest) == data


def test_what_was_written_is_in_snapshots_and_only_there(make: Maker) -> None:
    vm = make(cold(hda=bytes(2 * MIB)))
    write, read = "dd of=/dev/sda conv=notrunc 2>/dev/null; sync", "dd if=/dev/sda bs=8 count=1 2>/dev/null"
    before = vm.snapshot("before")
    vm.run(write, input="written!", check=True)
    after = vm.snapshot("after")
    vm.restore(before)
    assert vm.run(read, text=False).stdout == bytes(8)
    twin = make(after)
    assert twin.run(f"echo 3 > /proc/sys/vm/drop_caches; {read}").stdout == "written!"
    twin.reset()
    assert twin.run(read, timeout=120).stdout == "written!"


def test_a_file_system_on_a_disk_lives_through_a_reset(make: Maker) -> None:
    vm = make(cold(hda=bytes(8 * MIB)))
    vm.run("mke2fs /dev/sda && mkdir -p /disk && mount /dev/sda /disk && cp -r /etc /disk && umount /disk", check=True)
    vm.reset()
    assert (
        vm.run("mkdir -p /disk; mount /dev/sda /disk; diff -r /etc /disk/etc | grep -v mtab", timeout=120).stdout == ""
    )


def test_two_disks_and_a_cd_keep_apart(make: Maker) -> None:
    first, second, cd = noise(MIB, 1), noise(2 * MIB, 2), iso("DATA", b"on the CD")
    vm = make(cold(hda=first, hdb=second, cdrom=cd))
    sums = vm.run("cat /dev/sda | md5sum; cat /dev/sdb | md5sum; mount /dev/sr0 /mnt; cat /mnt/*", timeout=120).stdout
    assert str(sums).split() == [sum_of(first), "-", sum_of(second), "-", "on", "the", "CD"]


def test_media_come_and_go_while_it_runs(vm: lab.Machine) -> None:
    look = "mount -t iso9660 /dev/sr0 /mnt 2>/dev/null && cat /mnt/*; umount /mnt 2>/dev/null"
    assert vm.run(look).stdout == ""
    vm.insert("cdrom", iso("ONE", b"first"))
    assert vm.run(look).stdout == "first"
    inserted = vm.snapshot("inserted")
    vm.insert("cdrom", iso("TWO", b"second" * 1000))
    assert vm.run(look).stdout == "second" * 1000
    vm.eject("cdrom")
    assert vm.run(look).stdout == ""
    vm.restore(inserted)
    assert vm.run(look).stdout == "first"
    assert vm.image.cdrom == inserted.image.cdrom is not None
    vm.reset()
    assert vm.run(look, timeout=120).stdout == "first"
    with pytest.raises(ImageError):
        vm.insert("hda", bytes(512))
    with pytest.raises(ImageError):
        vm.insert("cdrom", b"no CD at all")


def test_a_floppy_boots_and_keeps_what_was_written_to_it(make: Maker) -> None:
    from v86lab.images.nasm import assemble

    from .conftest import PROLOGUE, SERIAL

    source = """
start:
    mov ax, 0x0201                      ; read track 0, head 0, sector 2 of drive A
    call sector
    mov al, [0x8000]
    call putc
    inc byte [0x8000]
    mov ax, 0x0301                      ; write it
    call sector
    mov al, '.'
    call putc
    jmp $
sector:
    mov bx, 0x8000
    mov cx, 2
    mov dx, 0
    int 0x13
    ret
"""
    sector = assemble(PROLOGUE + source + SERIAL)
    image = (sector.ljust(510, b"\0") + b"\x55\xaa" + b"a" * 512).ljust(1474560, b"\0")
    vm = make(lab.images.floppy(image))
    vm.console.expect("!a.", timeout=60)
    vm.reset()
    vm.console.expect("!b.", timeout=60)
    written = vm.snapshot()
    twin = make(written)
    twin.reset()
    twin.console.expect("!c.", timeout=60)
    vm.reset()
    vm.console.expect("!c.", timeout=60)
    vm.insert("fda", image)
    vm.reset()
    vm.console.expect("!a.", timeout=60)


class Flaky:
    """A real HTTP server before the Hub; `plan` says for each range: a status to answer, "drop", "short" or "ok"."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.plan: Iterator[int | str] = iter(())
        self.failures = 0
        flaky = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                how = next(flaky.plan, "ok") if "Range" in self.headers else "ok"
                flaky.failures += how != "ok"
                if how == "drop":
                    self.close_connection = True
                    return
                if isinstance(how, int):
                    self.send_response(how)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                ranges = {"Range": self.headers["Range"]} if "Range" in self.headers else {}
                with urllib.request.urlopen(
                    urllib.request.Request(flaky.hub.url[:-1] + self.path, headers=ranges)
                ) as answer:
                    body = answer.read()
                    self.send_response(answer.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if how == "short" else body)
                self.close_connection = how == "short"

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/"

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


class BehindFlaky(Hub):
    """A Hub whose blobs are fetched through a server that fails."""

    flaky: Flaky | None = None

    @property
    def url(self) -> str:
        return self.flaky.url if self.flaky else super().url

    def expect_engine(self, listener: Any, redial: bool = False) -> tuple[str, str]:
        flaky, self.flaky = self.flaky, None
        try:
            return super().expect_engine(listener, redial)
        finally:
            self.flaky = flaky


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> Iterator[Flaky]:
    from v86lab import machine

    flaky = Flaky(Hub(lab.Store()))
    hub = BehindFlaky(lab.Store())
    hub.flaky = flaky
    monkeypatch.setattr(machine, "shared_hub", lambda: hub)
    yield flaky
    flaky.close()
    flaky.hub.close()
    hub.close()


def test_requests_that_fail_now_and_then_are_made_again(flaky: Flaky, make: Maker) -> None:
    data = noise(6 * MIB)
    vm = make(cold(hda=data))
    vm.run("true")
    plan: list[int | str] = [500, "drop", "short", "ok", "drop", 503, 404, "ok", 200, "short", *["ok", "drop"] * 20]
    flaky.plan = iter(plan)
    assert ask(vm, "md5sum < /dev/sda", timeout=300) == sum_of(data)
    assert flaky.failures >= 8


def test_a_disk_that_cannot_be_read_at_all_is_named_and_nothing_hangs(flaky: Flaky, make: Maker) -> None:
    data = noise(6 * MIB)
    vm = make(cold(hda=data))
    vm.run("true")
    flaky.plan = iter([500] * 1000)
    with pytest.raises((EngineError, GuestError), match=r"hda.*cannot be read.*500") as caught:
        vm.run("md5sum < /dev/sda")
    assert "hint" in str(caught.value).lower()
    assert vm.status == "faulted"
    flaky.plan = iter(())
    vm.reset()
    assert ask(vm, "md5sum < /dev/sda", timeout=300) == sum_of(data)
