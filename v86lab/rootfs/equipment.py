"""What v86lab lays over a tree so that its guest can be driven: the agent, and an init for trees that have none.

All of it lies in ``/usr/lib/v86lab`` and comes from the default guest that ships with the package (static programs, so
any distribution runs them):

    agent      runs ``vm.run`` and moves files; systemd, sysvinit, busybox's init and ours start it
    busybox    a shell and tools for ours
    init       v86lab's own init: mounts what every guest needs, a shell on the serial console, the agent
"""

from __future__ import annotations

from functools import cache

from v86lab import firmware
from v86lab.errors import ImageError

from .cpio import cpio
from .inode import Inode
from .mapping import of
from .tree import RootFS

PLACE = "/usr/lib/v86lab"
INIT = f"{PLACE}/init"

_SHELLS = ("/bin/sh", "/usr/bin/sh", "/bin/bash")
_SYSTEMD = ("/usr/lib/systemd/systemd", "/lib/systemd/systemd")

_UNIT = f"""\
[Unit]
Description=v86lab's guest agent
# Once all is up: what a start state is made of, and what vm.run may count on. Without the default dependencies, or the
# target that wants this unit would wait for it.
DefaultDependencies=no
After=multi-user.target getty.target
Before=shutdown.target
Conflicts=shutdown.target

[Service]
ExecStart={PLACE}/agent
Restart=always
RestartSec=1
KillMode=process
OOMScoreAdjust=-900

[Install]
WantedBy=multi-user.target
"""

# PID 1 is this script. `exec` keeps it when a signal arrives: traps run between commands, `wait` ends for them.
_INIT = f"""\
#!{PLACE}/busybox sh
b={PLACE}/busybox
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=linux LANG=C.UTF-8
for one in proc sys dev run tmp root; do [ -d /$one ] || $b mkdir /$one; done
$b mount -t proc -o nosuid,nodev,noexec proc /proc
$b mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
$b mountpoint -q /dev || $b mount -t devtmpfs -o nosuid devtmpfs /dev
$b mkdir -p /dev/pts /dev/shm
$b mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
$b mount -t tmpfs -o nosuid,nodev tmpfs /dev/shm
$b mount -t tmpfs -o nosuid,nodev,mode=755 tmpfs /run
[ -s /etc/hostname ] && $b hostname -F /etc/hostname || $b hostname v86
$b ifconfig lo 127.0.0.1 up
end() {{
    $b kill -TERM -1
    $b sleep 0.2
    $b kill -KILL -1
    $b sync
    $b mount -o remount,ro / 2>/dev/null
    $b $1 -f
}}
trap 'end poweroff' USR2 USR1
trap 'end reboot' TERM INT
shell=/bin/sh
[ -x $shell ] || shell="$b sh"
while :; do {PLACE}/agent </dev/null >/dev/null 2>&1; $b sleep 1; done &
while :; do $b setsid $b cttyhack $shell -l </dev/ttyS0 >/dev/ttyS0 2>&1; $b sleep 1; done &
while :; do wait; $b sleep 1; done
"""


@cache
def _own() -> RootFS:
    """The parts that ship with the package."""
    guest = cpio(firmware.path("initramfs"), name="v86lab's guest")
    tree = of({INIT: _INIT}, "v86lab").with_attributes(INIT, mode=0o755)
    for name, place in (("agent", "/sbin/agent"), ("busybox", "/bin/busybox")):
        tree = tree.with_file(f"{PLACE}/{name}", guest[place].content, mode=0o755)
    return tree


def busybox() -> Inode:
    """The shell and tools of the default guest, one static program."""
    return _own()[f"{PLACE}/busybox"]


def equipped(tree: RootFS, init: str, agent: bool) -> tuple[RootFS, str]:
    """A tree that its kernel can start, and the program that it starts.

    Parameters
    ----------
    tree : RootFS
    init : str
        A path in the tree; "v86lab" for ours; "auto" for the tree's own ``/sbin/init``, and ours where it has none.
    agent : bool
        Have its init start the agent.

    Raises
    ------
    ImageError
        There is no such program, it is not for i386, or "auto" finds neither an init nor a shell.
    """
    program = init
    if init == "auto":
        program = "/sbin/init" if tree.follow("/sbin/init") is not None else "v86lab"
        if program == "v86lab" and not any(tree.follow(shell) for shell in _SHELLS):
            raise ImageError(
                f"{tree.name} cannot be started: it has no /sbin/init",
                expected="a root file system: /sbin/init, or at least /bin/sh for v86lab's own init",
                seen=", ".join(tree.listdir("/")[:10]) or "an empty tree",
                hint="init= names another program; images.linux(share=tree) shows the files to another guest",
            )
    check_i386(tree, "/bin/sh" if program == "v86lab" else program)
    if program == "v86lab":
        return tree + _own(), INIT
    if tree.follow(program) is None:
        raise ImageError(
            f"{tree.name} cannot be started",
            expected=f"a program at {program!r:.80}",
            seen="nothing",
            hint='init="auto" takes /sbin/init, or v86lab\'s own where there is none',
        )
    return (_with_agent(tree) if agent else tree), program


def _with_agent(tree: RootFS) -> RootFS:
    """Have the tree's own init start the agent."""
    agent = f"{PLACE}/agent"
    tree = tree.with_inode(agent, _own()[agent])
    if any(path in tree for path in _SYSTEMD):
        unit = "/etc/systemd/system/v86lab-agent.service"
        wants = "/etc/systemd/system/multi-user.target.wants/v86lab-agent.service"
        return tree.with_file(unit, _UNIT).with_link(wants, unit)
    if "/etc/inittab" in tree:
        table = tree.read("/etc/inittab")
        if agent.encode() not in table:
            sysv = any(line.count(b":") == 3 and line.split(b":")[1].strip().isdigit() for line in table.splitlines())
            line = f"v8:2345:respawn:{agent}\n" if sysv else f"::respawn:{agent}\n"
            inode = tree["/etc/inittab"]
            text = table + (b"" if table.endswith(b"\n") or not table else b"\n") + line.encode()
            tree = tree.with_file("/etc/inittab", text, inode.mode & 0o7777, inode.uid, inode.gid, inode.mtime)
        return tree
    raise ImageError(
        f"{tree.name} has an init that v86lab does not know, so nothing would start its agent",
        expected="systemd, or an init with /etc/inittab",
        seen="neither",
        hint="agent=False goes without (vm.run then types at the console's prompt); init='v86lab' takes our own init",
    )


def check_i386(tree: RootFS, program: str) -> None:
    """Refuse a program that v86 cannot run; scripts are not looked into.

    Raises
    ------
    ImageError
        It is an ELF file for another processor.
    """
    inode = tree.follow(program)
    if inode is None or not inode.is_file:
        return
    head = next(iter(inode.content.pieces()), None)
    if head is None or head[:4] != b"\x7fELF" or len(head) < 20:
        return
    machine = int.from_bytes(head[18:20], "little" if head[5] == 1 else "big")
    if (head[4], machine) == (1, 3):  # ELFCLASS32, EM_386
        return
    kinds = {
        62: "x86-64",
        183: "ARM64",
        40: "ARM",
        243: "RISC-V",
        8: "MIPS",
        20: "PowerPC",
        21: "PowerPC64",
        22: "S/390",
    }
    kind = kinds.get(machine, f"ELF machine {machine}")
    if machine == 62 and head[4] == 1:
        kind = "x32"
    raise ImageError(
        f"this is an {kind} tree; v86 runs i386",
        expected="i386 programs",
        seen=f"{program} for {kind}",
        hint='take the i386 variant: rootfs.debian(), rootfs.oci("i386/..."), debootstrap --arch=i386',
    )
