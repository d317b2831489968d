"""How many requests the disk object makes for what a guest reads, against one request for each read.

The guest reads a 64 MiB disk in order by 4 KiB, then 500 random blocks of 4 KiB of the same disk.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from verdict import verdict

import v86lab as lab

SIZE = 64 << 20
BLOCK = 4096
RANDOM = 500
RANDOM_READS = """
i=0; seed=1
while [ $i -lt %d ]; do
    seed=$(( (seed * 1103515245 + 12345) %% 2147483648 )); block=$(( seed / 64 %% %d ))
    dd if=/dev/sda of=/dev/null bs=%d skip=$block count=1 iflag=direct 2>/dev/null || exit 1
    i=$((i + 1))
done
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "disk.img"
        path.write_bytes(os.urandom(1 << 20) * (SIZE >> 20))
        for what, command, reads in (
            ("in order", f"dd if=/dev/sda of=/dev/null bs={BLOCK} 2>&1", SIZE // BLOCK),
            ("at random", RANDOM_READS % (RANDOM, SIZE // BLOCK, BLOCK), RANDOM),
        ):
            with lab.Machine(lab.images.linux(hda=path)) as vm:
                before = requests(vm.statistics)
                vm.run(command, check=True, timeout=300)
                made = requests(vm.statistics) - before
            print(f"{what}: {reads} reads of {BLOCK} bytes made {made} requests")
            if what == "in order":
                verdict("requests / reads in order", made / reads, 0.01, at_least=False)


def requests(statistics: dict[str, Any]) -> int:
    return int(statistics["disks"]["hda"]["requests"])


if __name__ == "__main__":
    main()
