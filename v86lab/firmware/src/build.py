"""Rebuild the firmware and the default guest from Debian source packages, to the byte.

    build.py                 build and write bios.bin, vgabios.bin, bzimage, initramfs and SHA256SUMS beside this folder
    build.py --check         build twice in different folders, compare with each other and with what is there
    build.py --spike FOLDER  build the kernel the project began with and a busybox to boot it with, for the benchmark
    build.py --update-lock   move sources.lock to the mirror's newest versions and to the installed tool chain
    build.py --packages      print the Debian packages that have to be installed

Needs Debian 12 with `apt-get install $(build.py --packages)`; no root. The rules: nothing of the host gets into the
files but what its compilers make of the sources (fixed date, user, host and paths; an environment of our own), and the
compilers are the recorded ones (sources.lock). Everything happens in one work folder, by default build/firmware.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import cpio
from sources import Apt, BuildError, Lock, check_toolchain, fetch, update

SRC = Path(__file__).resolve().parent
FIRMWARE = SRC.parent
# Asked for by spike.config, which is kept as it was, and without effect there: it needs CONFIG_DMI.
NOT_IN_SPIKE = {"CONFIG_DMIID"}
LINUX_PATCHES = ("poweroff", "ata-wait", "9p-times")
# What a program that talks to the kernel directly includes; what these include comes along.
KERNEL_HEADERS = [
    "auxvec",
    "audit",
    "blkpg",
    "capability",
    "cdrom",
    "cgroupstats",
    "close_range",
    "const",
    "elf",
    "elf-em",
    "errno",
    "eventpoll",
    "falloc",
    "fanotify",
    "fcntl",
    "fd",
    "fiemap",
    "filter",
    "fs",
    "fuse",
    "futex",
    "genetlink",
    "hdreg",
    "icmp",
    "if",
    "if_addr",
    "if_arp",
    "if_ether",
    "if_link",
    "if_packet",
    "if_tun",
    "in",
    "in6",
    "inotify",
    "input",
    "input-event-codes",
    "ioctl",
    "ip",
    "ipc",
    "ipv6",
    "iso_fs",
    "kcmp",
    "kd",
    "kernel",
    "kexec",
    "keyctl",
    "limits",
    "loop",
    "magic",
    "major",
    "membarrier",
    "memfd",
    "minix_fs",
    "mman",
    "module",
    "mount",
    "mqueue",
    "msdos_fs",
    "msg",
    "neighbour",
    "net",
    "netdevice",
    "netlink",
    "nsfs",
    "oom",
    "openat2",
    "param",
    "perf_event",
    "personality",
    "pidfd",
    "poll",
    "posix_types",
    "prctl",
    "ptrace",
    "random",
    "reboot",
    "resource",
    "rseq",
    "rtc",
    "rtnetlink",
    "sched",
    "seccomp",
    "securebits",
    "sem",
    "serial",
    "serial_reg",
    "shm",
    "signal",
    "signalfd",
    "sock_diag",
    "socket",
    "sockios",
    "stat",
    "stddef",
    "string",
    "swab",
    "sysinfo",
    "taskstats",
    "tcp",
    "termios",
    "time",
    "timerfd",
    "times",
    "timex",
    "tiocl",
    "tty",
    "types",
    "udp",
    "uinput",
    "uio",
    "un",
    "unistd",
    "unix_diag",
    "userfaultfd",
    "utsname",
    "vt",
    "wait",
    "watchdog",
    "xattr",
]


def clean_environment(date: int, home: Path) -> dict[str, str]:
    """What every command sees: nothing of the caller's but PATH."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "LC_ALL": "C",
        "TZ": "UTC",
        "SOURCE_DATE_EPOCH": str(date),
        "KBUILD_BUILD_TIMESTAMP": time.strftime("%a %b %e %H:%M:%S UTC %Y", time.gmtime(date)),
        "KBUILD_BUILD_USER": "v86lab",
        "KBUILD_BUILD_HOST": "v86lab",
        "KBUILD_BUILD_VERSION": "1",
    }


class Build:
    """One build in a folder of its own. Each step uses what the steps before it left there."""

    def __init__(self, folder: Path, packages: dict[str, Path], lock: Lock, jobs: int) -> None:
        self.folder = folder
        self.packages = packages
        self.lock = lock
        self.jobs = f"-j{jobs}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.environment = clean_environment(lock.date, folder)
        self.log = folder / "log"
        self.libc = folder / "libc"  # headers, libc.a and the compiler's wrapper
        self.cc = str(self.libc / "cc")

    def run(self, *command: str | Path, cwd: Path | None = None) -> None:
        """Run one command, its output in the log."""
        with self.log.open("ab") as log:
            log.write(b"+ " + " ".join(map(str, command)).encode() + b"\n")
            log.flush()
            code = subprocess.run(
                list(map(str, command)),
                cwd=cwd or self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=False,
            ).returncode
        if code:
            tail = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-25:]
            raise BuildError("\n".join([*tail, f"{command[0]} failed with status {code}; the whole log: {self.log}"]))

    def unpack(self, package: str) -> Path:
        """A source package with Debian's patches and ours."""
        tree = self.folder / package
        print(f"  {package} {self.lock.packages[package].version}", flush=True)
        if self.lock.packages[package].kind == "deb":  # linux-source: a tarball in a package
            deb = next(self.packages[package].glob("*.deb"))
            self.run("dpkg-deb", "-x", deb, self.folder / "deb")
            tree.mkdir()
            tarball = next((self.folder / "deb/usr/src").glob("*.tar.xz"))
            self.run("tar", "-xf", tarball, "--strip-components=1", "-C", tree)
            shutil.rmtree(self.folder / "deb")
        else:
            self.run("dpkg-source", "--no-check", "-x", next(self.packages[package].glob("*.dsc")), tree)
        return tree

    def patch(self, tree: Path, *names: str) -> None:
        """Apply patches of ours."""
        for name in names:
            self.run("patch", "-p1", "--fuzz=0", "-i", SRC / "patches" / name, cwd=tree)

    # ---- steps ----

    def musl(self) -> None:
        """The C library, and a compiler that uses it: `cc`, for static i686 programs."""
        tree = self.unpack("musl")
        flags = (
            f"-march=i686 -mtune=generic -fno-pie -g0 -fno-asynchronous-unwind-tables -ffile-prefix-map={self.folder}=."
        )
        self.run(
            "./configure", "--target=i386-linux-musl", f"--prefix={self.libc}", "--disable-shared",
            "--enable-wrapper=gcc", "--enable-optimize=size", "CC=gcc -m32", f"CFLAGS={flags}", cwd=tree,
        )  # fmt: skip
        self.run("make", self.jobs, "AR=ar", "RANLIB=ranlib", "install", cwd=tree)
        wrapper = self.libc / "cc"
        # musl's specs replace gcc's link line, and with it the choice of the 32-bit linker.
        wrapper.write_text(
            f'#!/bin/sh\nexec gcc -m32 -no-pie -Wl,-m,elf_i386 {flags} "$@" -specs {self.libc}/lib/musl-gcc.specs\n',
            encoding="utf-8",
        )
        wrapper.chmod(0o755)

    def linux_tree(self) -> Path:
        """The kernel's source, and its headers for user space."""
        tree = self.unpack("linux-source-6.1")
        headers = self.folder / "headers"
        headers.mkdir()
        self.run("make", "-s", "-C", tree, f"O={headers}", "ARCH=i386", "headers")
        return tree

    @property
    def headers(self) -> Path:
        """The kernel's headers for user space."""
        return self.folder / "headers/usr/include"

    def kernel(self, tree: Path, out: Path, *fragments: str) -> bytes:
        """A bzImage from tinyconfig and fragments; a setting that Kconfig did not take is an error."""
        out.mkdir()
        make = ("make", "-C", str(tree), f"O={out}", "ARCH=i386", f"KCFLAGS=-ffile-prefix-map={tree}=.")
        self.run(*make, "tinyconfig")
        paths = [SRC / "kernel" / name for name in fragments]
        self.run(tree / "scripts/kconfig/merge_config.sh", "-m", "-O", out, out / ".config", *paths, cwd=tree)
        self.run(*make, "olddefconfig")
        wanted: dict[str, str] = {}
        for path in paths:
            wanted |= settings(path)
        refused = unmet(out / ".config", wanted)
        if refused.keys() - (NOT_IN_SPIKE if fragments == ("spike.config",) else set()):
            raise BuildError(f"the kernel's configuration did not take {refused}")
        self.run(*make, self.jobs, "bzImage")
        return (out / "arch/x86/boot/bzImage").read_bytes()

    def busybox(self) -> None:
        """The userland; leaves `busybox` and `busybox.links` in its tree."""
        tree = self.unpack("busybox")
        self.patch(tree, "busybox-init.patch")
        make = ("make", f"CC={self.cc} -isystem {self.headers}", "LD=ld -m elf_i386", "HOSTCC=gcc")
        self.run(*make, "defconfig", cwd=tree)
        wanted = settings(SRC / "busybox/busybox.config")
        config = tree / ".config"
        lines = [line for line in config.read_text(encoding="utf-8").splitlines() if name_of(line) not in wanted]
        lines += [f"# {n} is not set" if v == "n" else f"{n}={v}" for n, v in wanted.items()]
        config.write_text("\n".join(lines) + "\n", encoding="utf-8")
        self.run(*make, "silentoldconfig", cwd=tree)
        refused = unmet(config, wanted)
        if refused:
            raise BuildError(f"busybox's configuration did not take {refused}")
        self.run(*make, self.jobs, "busybox", "busybox.links", cwd=tree)

    def compiler(self) -> Path:
        """tcc with musl's headers and libraries and strace, as the tree that the guest sees under /opt/cc."""
        tree = self.unpack("tcc")
        self.patch(tree, "tcc-static.patch")
        top = "/opt/cc"
        self.run(
            "./configure", "--cpu=i386", f"--cc={self.cc}", f"--prefix={top}", f"--tccdir={top}/lib/tcc",
            "--config-musl", f"--sysincludepaths={top}/lib/tcc/include:{top}/include:/usr/local/include",
            f"--libpaths={top}/lib:{top}/lib/tcc:/usr/local/lib", f"--crtprefix={top}/lib", "--enable-static",
            "--extra-cflags=-O2", "--extra-ldflags=-static -s", cwd=tree,
        )  # fmt: skip
        self.run("make", "tcc", cwd=tree)
        include = ("-B.", "-nostdinc", "-Iinclude", f"-I{self.libc}/include")
        parts = ["lib/libtcc1.c", "lib/alloca86.S", "lib/alloca86-bt.S", "lib/dsohandle.c", str(SRC / "tcc/divmod.c")]
        objects = [Path(part).stem + ".o" for part in parts]
        for part, name in zip(parts, objects, strict=True):
            self.run("./tcc", *include, "-c", part, "-o", name, cwd=tree)
        self.run("ar", "rcsD", "libtcc1.a", *objects, cwd=tree)

        root = self.folder / "cc"
        (root / "lib/tcc").mkdir(parents=True)
        (root / "bin").mkdir()
        shutil.copy(tree / "tcc", root / "bin")
        shutil.copy(tree / "libtcc1.a", root / "lib/tcc")
        shutil.copytree(tree / "include", root / "lib/tcc/include")
        shutil.copytree(self.libc / "include", root / "include")
        for path in self.libc.glob("lib/*.[ao]"):
            if path.name not in ("Scrt1.o", "rcrt1.o"):
                shutil.copy(path, root / "lib")
        self._copy_kernel_headers(root / "include")
        self.strace(root / "bin/strace")
        return root

    def strace(self, target: Path) -> None:
        """strace, static and without the names of other ABIs."""
        tree = self.unpack("strace")
        out = tree / "out"
        out.mkdir()
        self.run(
            "../configure", "--host=i686-linux-musl", "--enable-mpers=no", "--enable-bundled=yes",
            "--disable-gcc-Werror", "--without-libunwind",
            "--without-libdw", "--without-libiberty", "--without-libselinux", f"CC={self.cc}",
            f"CPPFLAGS=-isystem {self.headers}", "CFLAGS=-Os -ffunction-sections -fdata-sections",
            "LDFLAGS=-static -Wl,--gc-sections", "CFLAGS_FOR_BUILD=-O1", cwd=out,
        )  # fmt: skip
        self.run("make", self.jobs, cwd=out)
        self.run("strip", "-o", target, out / "src/strace")

    def _copy_kernel_headers(self, include: Path) -> None:
        todo = [f"linux/{name}.h" for name in KERNEL_HEADERS]
        for folder in ("asm", "asm-generic"):
            todo += [f"{folder}/{path.name}" for path in (self.headers / folder).glob("*.h")]
        done: set[str] = set()
        while todo:
            name = todo.pop()
            source = self.headers / name
            if name in done or not source.is_file():
                continue  # some headers name others that only exist in libc
            done.add(name)
            text = source.read_text(encoding="utf-8")
            todo += re.findall(r"#\s*include\s*<((?:linux|asm|asm-generic)/[^>]+)>", text)
            (include / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, include / name)

    def agent(self) -> bytes:
        """The agent."""
        target = self.folder / "agent"
        self.run(self.cc, "-static", "-Os", "-s", "-Wall", "-Wextra", "-Werror", "-isystem", self.headers,
                 SRC / "agent/agent.c", "-o", target)  # fmt: skip
        return target.read_bytes()

    def squashfs(self, root: Path) -> bytes:
        """A folder as a compressed file system, one thread and one date."""
        target = root.with_suffix(".squashfs")
        date = str(self.lock.date)
        environment_date = self.environment.pop("SOURCE_DATE_EPOCH")  # mksquashfs refuses both
        for path in [root, *root.rglob("*")]:
            path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
        self.run("mksquashfs", root, target, "-comp", "zstd", "-Xcompression-level", "19", "-all-root", "-no-xattrs",
                 "-mkfs-time", date, "-all-time", date, "-processors", "1", "-no-progress", "-noappend")  # fmt: skip
        self.environment["SOURCE_DATE_EPOCH"] = environment_date
        return target.read_bytes()

    def initramfs(self, agent: bytes, compiler: bytes) -> bytes:
        """The root file system. Not compressed: unpacking costs v86 more than the larger file."""
        archive = cpio.Archive()
        skeleton(archive)
        for path in sorted((SRC / "rootfs").rglob("*")):
            name = path.relative_to(SRC / "rootfs").as_posix()
            if path.is_dir():
                archive.directory(name)
            else:
                data = path.read_bytes()
                archive.file(name, data, 0o755 if data.startswith(b"#!") else 0o644)
        self._add_busybox(archive)
        archive.link("init", "/sbin/init")
        archive.file("sbin/agent", agent, 0o755)
        archive.file("opt/cc.squashfs", compiler)
        for name in ("cc", "gcc", "tcc"):
            archive.link(f"usr/bin/{name}", "/opt/cc/bin/tcc")
        archive.link("usr/bin/strace", "/opt/cc/bin/strace")
        archive.link("usr/include", "/opt/cc/include")
        return archive.pack(self.lock.date)

    def _add_busybox(self, archive: cpio.Archive) -> None:
        tree = self.folder / "busybox"
        archive.file("bin/busybox", (tree / "busybox").read_bytes(), 0o755)
        for path in (tree / "busybox.links").read_text(encoding="ascii").split():
            if path != "/linuxrc":
                archive.link(path.lstrip("/"), "/bin/busybox")

    def bios(self, name: str) -> bytes:
        """A file of Debian's seabios package."""
        place = self.folder / "seabios"
        if not place.exists():
            self.run("dpkg-deb", "-x", next(self.packages["seabios"].glob("*.deb")), place)
        return (place / "usr/share/seabios" / name).read_bytes()

    def everything(self) -> dict[str, bytes]:
        """The four files."""
        self.musl()
        linux = self.linux_tree()
        self.busybox()
        compiler = self.squashfs(self.compiler())
        initramfs = self.initramfs(self.agent(), compiler)
        self.patch(linux, *(f"linux-{name}.patch" for name in LINUX_PATCHES))
        kernel = self.kernel(linux, self.folder / "kernel", "spike.config", "guest.config")
        return {
            "bios.bin": self.bios("bios.bin"),
            "bzimage": kernel,
            "initramfs": initramfs,
            "vgabios.bin": self.bios("vgabios-stdvga.bin"),
        }

    def spike(self) -> dict[str, bytes]:
        """The kernel of spike.config alone and the least initramfs: mounts, prints READY, a shell on ttyS0."""
        self.musl()
        linux = self.linux_tree()
        self.busybox()
        archive = cpio.Archive()
        skeleton(archive)
        self._add_busybox(archive)
        archive.file("init", (SRC / "kernel/spike.init").read_bytes(), 0o755)
        (self.folder / "initrd").write_bytes(archive.pack(self.lock.date))
        self.run("gzip", "-9n", "initrd")
        kernel = self.kernel(linux, self.folder / "kernel", "spike.config")
        return {"kernel": kernel, "initrd.gz": (self.folder / "initrd.gz").read_bytes()}


def skeleton(archive: cpio.Archive) -> None:
    """Folders, links and the two devices that must be there before /dev is mounted."""
    for path in [
        "bin",
        "dev",
        "etc",
        "home",
        "lib",
        "mnt",
        "opt",
        "opt/cc",
        "proc",
        "run",
        "sbin",
        "sys",
        "usr",
        "usr/bin",
        "usr/lib",
        "usr/local",
        "usr/local/bin",
        "usr/local/include",
        "usr/local/lib",
        "usr/local/sbin",
        "usr/sbin",
        "usr/share",
        "var",
        "var/log",
    ]:
        archive.directory(path)
    archive.directory("root", 0o700)
    archive.directory("tmp", 0o1777)
    archive.link("etc/mtab", "/proc/mounts")
    archive.link("var/run", "/run")
    archive.link("var/tmp", "/tmp")
    archive.device("dev/console", 5, 1, 0o600)
    archive.device("dev/null", 1, 3, 0o666)


def name_of(line: str) -> str | None:
    """The option that a line of a configuration is about."""
    match = re.match(r"(?:# )?(CONFIG_\w+)(?:=| is not set)", line)
    return match[1] if match else None


def settings(path: Path) -> dict[str, str]:
    """The lines of a configuration fragment."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line.startswith("CONFIG_"))


def unmet(config: Path, wanted: dict[str, str]) -> dict[str, str]:
    """The settings that a finished configuration does not have."""
    have = settings(config)
    return {name: value for name, value in wanted.items() if have.get(name, "n") != value}


def write(files: dict[str, bytes], folder: Path) -> None:
    """Replace the files one by one, each at once, and SHA256SUMS last."""
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items()))
    for name, data in [*sorted(files.items()), ("SHA256SUMS", sums.encode())]:
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            file.write(data)
        Path(file.name).chmod(0o644)
        Path(file.name).replace(folder / name)
        print(f"  {hashlib.sha256(data).hexdigest()[:16]}  {len(data):8}  {name}")


def differences(files: dict[str, bytes], others: dict[str, bytes], names: Iterable[str]) -> list[str]:
    """Names whose bytes differ."""
    return [name for name in names if files.get(name) != others.get(name)]


def check(work: Path, packages: dict[str, Path], lock: Lock, jobs: int) -> None:
    """Build twice and compare.

    Raises
    ------
    BuildError
        The two builds differ, or they differ from the files beside this folder.
    """
    first = Build(work / "first", packages, lock, jobs).everything()
    second = Build(work / "second-and-longer", packages, lock, jobs).everything()
    wrong = differences(first, second, first)
    if wrong:
        raise BuildError(f"two builds from the same sources differ in: {', '.join(wrong)} (kept in {work})")
    print("two builds in different folders: the same bytes")
    there = {name: (FIRMWARE / name).read_bytes() for name in first if (FIRMWARE / name).is_file()}
    wrong = differences(first, there, first)
    if wrong:
        raise BuildError(f"the builds agree, but the files in {FIRMWARE.name}/ are others: {', '.join(wrong)}")
    print(f"the files in {FIRMWARE.name}/: the same bytes")


def main() -> None:
    """Read the arguments and do it."""
    parser = argparse.ArgumentParser(description="rebuild the firmware and the default guest")
    task = parser.add_mutually_exclusive_group()
    task.add_argument("--check", action="store_true", help="build twice and compare with what is there")
    task.add_argument("--spike", type=Path, metavar="FOLDER", help="build the benchmark's kernel and initramfs there")
    task.add_argument("--update-lock", action="store_true", help="move to the newest versions and this tool chain")
    task.add_argument("--packages", action="store_true", help="print what has to be installed")
    parser.add_argument("--any-toolchain", action="store_true", help="warn and go on when the tool chain is another")
    parser.add_argument("--work", type=Path, default=FIRMWARE.parents[1] / "build/firmware", metavar="FOLDER")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    lock = Lock.load()
    if arguments.packages:
        print(" ".join(lock.toolchain))
        return
    work = arguments.work.resolve()
    apt = Apt(work / "apt")
    if arguments.update_lock:
        update(lock, apt, work / "packages").save()
        return
    check_toolchain(lock, insist=not arguments.any_toolchain)
    packages = fetch(lock, apt, work / "packages")
    if arguments.check:
        check(work, packages, lock, arguments.jobs)
    elif arguments.spike:
        arguments.spike.mkdir(parents=True, exist_ok=True)
        write(Build(work / "spike", packages, lock, arguments.jobs).spike(), arguments.spike)
    else:
        write(Build(work / "build", packages, lock, arguments.jobs).everything(), FIRMWARE)


if __name__ == "__main__":
    try:
        main()
    except BuildError as error:
        sys.exit(f"build.py: {error}")
