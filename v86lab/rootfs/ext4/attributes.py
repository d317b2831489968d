"""Extended attributes as ext4 keeps them: in the inode's spare bytes, else in a block of their own.

Kernel: Documentation/filesystems/ext4/attributes.rst; fs/ext4/xattr.c for the hashes, fs/ext4/acl.h for the lists.

* An attribute that Linux would not take under its name (a namespace that ext4 does not know, a list of rights that is
  none) is kept under namespace 0 with its whole name: nothing is lost, and the guest does not see it.
* Access control lists are shorter on the disk than in `getxattr`, and translated both ways.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from v86lab.errors import ImageError

MAGIC = 0xEA020000
_ENTRY = struct.Struct("<BBHIII")
"""e_name_len, e_name_index, e_value_offs, e_value_inum, e_value_size, e_hash; the name follows."""
_BLOCK = struct.Struct("<IIIII12x")
"""h_magic, h_refcount, h_blocks, h_hash, h_checksum."""
_PREFIXES = {
    1: b"user.",
    2: b"system.posix_acl_access",
    3: b"system.posix_acl_default",
    4: b"trusted.",
    6: b"security.",
    7: b"system.",
    8: b"system.richacl",
}
INLINE = (7, b"data")
"""Namespace and name of what inline data has beyond the inode's 60 bytes."""

Raw = dict[tuple[int, bytes], bytes]
"""Attributes as they lie on the disk: namespace and name to value."""

_SHORT, _LONG = struct.Struct("<HH"), struct.Struct("<HHI")
_NAMED = (2, 8)  # ACL_USER, ACL_GROUP: the only entries with an id
_TAGS = (1, 2, 4, 8, 16, 32)
_NO_ID = 0xFFFFFFFF


def to_disk(xattrs: tuple[tuple[bytes, bytes], ...]) -> list[tuple[int, bytes, bytes]]:
    """Attributes by namespace, name and value, in the order of a block: by namespace, length of name, name.

    Examples
    --------
    >>> to_disk(((b"user.note", b"hello"), (b"other.thing", b"")))
    [(0, b'other.thing', b''), (1, b'note', b'hello')]
    """
    return sorted((_split(name, value) for name, value in xattrs), key=lambda row: (row[0], len(row[1]), row[1]))


def from_disk(raw: Raw) -> tuple[tuple[bytes, bytes], ...]:
    """Attributes as a program sees them, by name.

    Raises
    ------
    ImageError
        A namespace that is unknown, or a list of rights that is damaged.
    """
    found = {}
    for (index, name), value in raw.items():
        if index and index not in _PREFIXES:
            raise ImageError("an extended attribute is damaged", expected="a known namespace", seen=str(index))
        if index in (2, 3):
            value = _acl_from_disk(value)
        found[_PREFIXES.get(index, b"") + name] = value
    return tuple(sorted(found.items()))


def in_inode(entries: list[tuple[int, bytes, bytes]], room: int) -> bytes | None:
    """These attributes as the end of an inode, or None when they do not fit."""
    if 4 + _room(entries) > room:
        return None
    area = bytearray(room)
    struct.pack_into("<I", area, 0, MAGIC)
    _fill(area, 4, 4, entries)
    return bytes(area)


def in_block(entries: list[tuple[int, bytes, bytes]], size: int, what: str) -> bytes:
    """These attributes as a block.

    Raises
    ------
    ImageError
        They do not fit into one.
    """
    if _BLOCK.size + _room(entries) > size:
        raise ImageError(
            f"ext4 has no room for the extended attributes of {what}",
            expected=f"at most {size - _BLOCK.size} bytes with their names",
            seen=f"{_room(entries)} bytes",
        )
    area = bytearray(size)
    hashes = _fill(area, _BLOCK.size, 0, entries)
    total = 0
    for one in hashes:
        total = (total << 16 ^ total >> 16 ^ one) & 0xFFFFFFFF if one else 0
        if not one:
            break
    _BLOCK.pack_into(area, 0, MAGIC, 1, 1, total, 0)
    return bytes(area)


def read_inode(area: bytes, load: Callable[[int, int], bytes]) -> Raw:
    """Attributes in the end of an inode; `load` reads a value that is an inode of its own, by number and size."""
    if len(area) < 4 or struct.unpack_from("<I", area)[0] != MAGIC:
        return {}
    return _entries(area, 4, 4, load)


def read_block(block: bytes, load: Callable[[int, int], bytes]) -> Raw:
    """Attributes in a block.

    Raises
    ------
    ImageError
        It is damaged.
    """
    magic, _, blocks, _, _ = _BLOCK.unpack_from(block)
    if magic != MAGIC or blocks != 1:
        raise _damaged(f"a block that begins with {block[:12].hex(' ')}")
    return _entries(block, _BLOCK.size, 0, load)


def _entries(area: bytes, at: int, base: int, load: Callable[[int, int], bytes]) -> Raw:
    found: Raw = {}
    while at + 4 <= len(area) and area[at : at + 4] != b"\0\0\0\0":
        if at + _ENTRY.size > len(area):
            raise _damaged("an entry that is cut short")
        length, index, offset, inode, size, _ = _ENTRY.unpack_from(area, at)
        name = area[at + _ENTRY.size : at + _ENTRY.size + length]
        if len(name) < length or size > 65536:
            raise _damaged(f"a name of {length} and a value of {size} bytes")
        if inode:
            value = load(inode, size)
        else:
            value = area[base + offset : base + offset + size]
            if len(value) < size:
                raise _damaged("a value beyond the end")
        found.setdefault((index, name), value)
        at += _padded(_ENTRY.size + length)
    return found


def _fill(area: bytearray, at: int, base: int, entries: list[tuple[int, bytes, bytes]]) -> list[int]:
    """Write entries from `at` on and their values from the end back; the entries' hashes."""
    end = len(area)
    hashes = []
    for index, name, value in entries:
        end -= _padded(len(value))
        area[end : end + len(value)] = value
        hashes.append(_hash(name, value))
        offset = end - base if value else 0
        _ENTRY.pack_into(area, at, len(name), index, offset, 0, len(value), hashes[-1])
        at += _ENTRY.size
        area[at : at + len(name)] = name
        at += _padded(len(name))
    return hashes


def _hash(name: bytes, value: bytes) -> int:
    """ext4_xattr_hash_entry."""
    total = 0
    for byte in name:
        total = (total << 5 ^ total >> 27 ^ byte) & 0xFFFFFFFF
    for (word,) in struct.iter_unpack("<I", value.ljust(_padded(len(value)), b"\0")):
        total = (total << 16 ^ total >> 16 ^ word) & 0xFFFFFFFF
    return total


def _room(entries: list[tuple[int, bytes, bytes]]) -> int:
    return 4 + sum(_ENTRY.size + _padded(len(name)) + _padded(len(value)) for _, name, value in entries)


def _padded(length: int) -> int:
    return length + 3 & ~3


def _split(name: bytes, value: bytes) -> tuple[int, bytes, bytes]:
    for index in (2, 3):
        if name == _PREFIXES[index]:
            acl = _acl_to_disk(value)
            return (0, name, value) if acl is None else (index, b"", acl)
    for index in (1, 4, 6):
        if name.startswith(_PREFIXES[index]) and name != _PREFIXES[index]:
            return index, name[len(_PREFIXES[index]) :], value
    return 0, name, value


def _acl_to_disk(value: bytes) -> bytes | None:
    """From linux/posix_acl_xattr.h to fs/ext4/acl.h, or None for what is no list in its usual form."""
    if len(value) % 8 != 4 or value[:4] != b"\2\0\0\0":
        return None
    packed = [b"\1\0\0\0"]
    for tag, rights, number in struct.iter_unpack("<HHI", value[4:]):
        if tag not in _TAGS or rights > 7 or (tag not in _NAMED and number != _NO_ID):
            return None
        packed.append(_LONG.pack(tag, rights, number) if tag in _NAMED else _SHORT.pack(tag, rights))
    return b"".join(packed)


def _acl_from_disk(value: bytes) -> bytes:
    if len(value) < 4 or value[:4] != b"\1\0\0\0":
        raise _damaged("a list of rights that is none")
    at, found = 4, [b"\2\0\0\0"]
    while at < len(value):
        tag = int.from_bytes(value[at : at + 2], "little")
        size = (_LONG if tag in _NAMED else _SHORT).size
        if at + size > len(value) or tag not in _TAGS:
            raise _damaged("a list of rights that is damaged")
        rights = int.from_bytes(value[at + 2 : at + 4], "little")
        number = int.from_bytes(value[at + 4 : at + 8], "little") if tag in _NAMED else _NO_ID
        found.append(_LONG.pack(tag, rights, number))
        at += size
    return b"".join(found)


def _damaged(seen: str) -> ImageError:
    return ImageError("an extended attribute is damaged", expected="what ext4's attributes.rst describes", seen=seen)
