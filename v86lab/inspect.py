"""Looking inside: the CPU's registers and physical memory."""

from __future__ import annotations

from .errors import ImageError
from .protocol import ReadMemory, ReadRegisters, WriteMemory
from .session import Session

_MOST = 256 << 20  # bytes in one read


class Cpu:
    """The guest's processor.

    Examples
    --------
    >>> import v86lab as lab
    >>> with lab.Machine() as vm:
    ...     vm.cpu.registers["cr0"] & 1  # protected mode
    1
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def registers(self) -> dict[str, int]:
        """General, segment and control registers, eip, eflags and cpl, by their usual names."""
        return {name: int(value) for name, value in self._session.call(ReadRegisters).value.items()}


class Memory:
    """The guest's physical memory: ``memory[0x7C00:0x7E00]`` reads, assignment writes.

    Examples
    --------
    >>> import v86lab as lab
    >>> with lab.Machine() as vm:
    ...     vm.memory[0xF_FFF0]  # the reset vector is a far jump
    234
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def __len__(self) -> int:
        return self._session.image.memory

    def __getitem__(self, where: int | slice) -> int | bytes:
        start, end = self._range(where)
        data = self._session.call(ReadMemory, start=start, end=end).payload
        return data if isinstance(where, slice) else data[0]

    def __setitem__(self, where: int | slice, value: int | bytes) -> None:
        start, end = self._range(where)
        data = bytes([value]) if isinstance(value, int) else bytes(value)
        if len(data) != end - start:
            raise ImageError("the bytes do not fit", expected=f"{end - start} bytes", seen=f"{len(data)}")
        self._session.call(WriteMemory, start=start, payload=data)

    def _range(self, where: int | slice) -> tuple[int, int]:
        if isinstance(where, slice):
            start, end = where.start or 0, len(self) if where.stop is None else where.stop
            step = where.step or 1
        else:
            start, end, step = where, where + 1, 1
        if (
            step != 1
            or not 0 <= start <= end <= len(self)
            or end - start > _MOST
            or (start == end and isinstance(where, int))
        ):
            raise ImageError(
                "no such piece of memory",
                expected=f"addresses from 0 to {len(self):#x}, at most {_MOST} at a time, without a step",
                seen=str(where),
            )
        return start, end
