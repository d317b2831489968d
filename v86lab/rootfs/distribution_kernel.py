"""The kernel that a tree brings: its bzImage, and an initramfs with the modules that its root needs.

A distribution's kernel has 9p, virtio, IDE and ext4 as modules, and its own initramfs knows no root on 9p. So we make
one: v86lab's busybox, the modules in the order of their dependencies, and a script that loads them, mounts the root and
hands over. The modules come from the tree, so they fit.
"""

from __future__ import annotations

import io
import lzma
import re
import zlib

import zstandard

from v86lab.errors import ImageError
from v86lab.formats import MIB

from .content import Content, Inline
from .equipment import busybox
from .mapping import of
from .tree import RootFS

MODULES_9P = ("virtio_pci", "9pnet_virtio", "9p")
MODULES_DISK = ("ata_piix", "sd_mod", "ext4")
_MOST_MODULE = 64 * MIB

# The kernel's own parameters say what the root is; `init=` is for us to obey, since the kernel has started this script.
_SCRIPT = """\
#!/busybox sh
b=/busybox
$b mount -t proc proc /proc
$b mount -t devtmpfs devtmpfs /dev
for module in $($b cat /modules/order); do $b insmod /modules/$module; done
init=/sbin/init flags= type=
for word in $($b cat /proc/cmdline); do
    case $word in
        root=*) root=${word#root=} ;;
        rootfstype=*) type=${word#rootfstype=} ;;
        rootflags=*) flags=${word#rootflags=} ;;
        init=*) init=${word#init=} ;;
    esac
done
tries=0
while ! $b mount -t $type ${flags:+-o $flags} $root /root; do
    tries=$((tries + 1))
    [ $tries -lt 100 ] || { echo "cannot mount the root $root ($type)"; exec $b sh; }
    $b sleep 0.1
done
$b mount --move /dev /root/dev
$b umount /proc
exec $b switch_root /root $init
"""


def kernel_of(tree: RootFS) -> tuple[str, Content]:
    """The newest kernel in a tree's ``/boot``: its release, and the bzImage.

    Raises
    ------
    ImageError
        There is none.
    """
    found = []
    for name in tree.listdir("/boot") if "/boot" in tree else []:
        match = re.fullmatch(r"(?:vmlinuz|kernel|bzImage)-(.+)", name)
        if match and (inode := tree.follow(f"/boot/{name}")) is not None and inode.is_file:
            numbers = [int(part) if part.isdecimal() else -1 for part in re.split(r"[.\-+~]", match[1])]
            found.append((numbers, match[1], inode.content))
    if not found:
        raise ImageError(
            f"{tree.name} has no kernel of its own",
            expected="/boot/vmlinuz-RELEASE",
            seen=", ".join(tree.listdir("/boot")) if "/boot" in tree else "no /boot",
            hint='install one, such as rootfs.debian(packages=["linux-image-686"]), or leave kernel= out for v86lab\'s',
        )
    _, release, content = max(found, key=lambda one: one[0])
    return release, content


def initramfs_of(tree: RootFS, release: str, modules: tuple[str, ...]) -> RootFS:
    """An initramfs that mounts the root with modules of the tree.

    Parameters
    ----------
    tree : RootFS
    release : str
        Of the kernel, as `kernel_of` gives it.
    modules : tuple of str
        Names; what they depend on is found in ``modules.dep``. One that is built into the kernel is left out.

    Raises
    ------
    ImageError
        A module is not there.
    """
    base = f"/lib/modules/{release}"
    files = _dependencies(tree, base)
    builtin = set()
    if f"{base}/modules.builtin" in tree:
        builtin = {_name(line) for line in tree.read(f"{base}/modules.builtin").decode().split()}
    order: list[str] = []
    for module in modules:
        if module in files:
            path, needs = files[module]
            order += [one for one in (*reversed(needs), path) if one not in order]
        elif module not in builtin:
            raise ImageError(
                f"the kernel of {tree.name} cannot mount this root",
                expected=f"the module {module} in {base}",
                seen="none",
                hint="leave kernel= out: v86lab's own has all built in",
            )
    made = of({"/init": _SCRIPT, "/modules/order": "\n".join(path.rpartition("/")[2] for path in order)}, "initramfs")
    made = made.with_attributes("/init", mode=0o755).with_inode("/busybox", busybox())
    for path in order:
        data = _unpacked(tree.read(f"{base}/{path}"), path)
        made = made.with_file(f"/modules/{path.rpartition('/')[2]}", Inline(data))
    for name in ("proc", "dev", "root"):
        made = made.with_directory(f"/{name}")
    return made


def _dependencies(tree: RootFS, base: str) -> dict[str, tuple[str, list[str]]]:
    """Each module's file, and those it needs, nearest first: modules.dep(5)."""
    if f"{base}/modules.dep" not in tree:
        raise ImageError(
            f"{tree.name} has no modules for its kernel", expected=f"{base}/modules.dep", seen="none", hint="run depmod"
        )
    found = {}
    for line in tree.read(f"{base}/modules.dep").decode(errors="replace").splitlines():
        path, _, needs = line.partition(":")
        found[_name(path)] = (path, needs.split())
    return found


def _name(path: str) -> str:
    return path.rpartition("/")[2].partition(".")[0].replace("-", "_")


def _unpacked(data: bytes, path: str) -> bytes:
    """A module as insmod takes it."""
    try:
        if path.endswith(".xz"):
            return lzma.LZMADecompressor().decompress(data, _MOST_MODULE)
        if path.endswith(".gz"):
            return zlib.decompressobj(31).decompress(data, _MOST_MODULE)
        if path.endswith(".zst"):
            return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read(_MOST_MODULE)
    except (lzma.LZMAError, zlib.error, zstandard.ZstdError) as error:
        raise ImageError(f"the module {path} is damaged", seen=str(error)) from error
    return data
