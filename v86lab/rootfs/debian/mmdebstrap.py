"""Running mmdebstrap: its command line, its environment, a place to work in, and its end.

It builds in a temporary folder and writes a tar, clamping times to SOURCE_DATE_EPOCH and cleaning up what would differ
from run to run (mmdebstrap(1), cleanup). Whatever happens, no process and no file of it is left behind.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from v86lab.errors import ImageError
from v86lab.formats import quoted

from .mirror import ARCHITECTURE
from .modes import LIBRARIES, PATH, which
from .recipe import Recipe

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

# Directory links made beforehand instead of by the package usrmerge, which would bring all of Perl (mmdebstrap(1)).
_MERGED_USR = "/usr/share/mmdebstrap/hooks/maybe-merged-usr"
# Asks apt for the packages before anything is fetched: mmdebstrap would notice last what does not exist.
_CHECK = (
    'cd "$1" && export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"'
    " && {{ ls var/lib/apt/lists/*Release >/dev/null 2>&1 || apt-get update --error-on=any; }}"
    " && apt-get --simulate --yes install {packages} >&2"
)
# What the variant "extract" is told to take, since it takes nothing by itself: apt's patterns (apt-patterns(7)).
_EXTRACTED = {
    "essential": ("?essential",),
    "apt": ("?essential", "apt"),
    "minbase": ("?essential", "?priority(required)", "apt"),
    "buildd": ("?essential", "?priority(required)", "apt", "build-essential"),
    "important": ("?essential", "?priority(required)", "?priority(important)", "apt"),
    "standard": ("?essential", "?priority(required)", "?priority(important)", "?priority(standard)", "apt"),
}
_GRACE = 30.0  # seconds that mmdebstrap has to clean up
_MOST_LOG = 1 << 20
_UNWANTED = ("APT_CONFIG", "DPKG_", "DEB_", "MMDEBSTRAP_", "FAKE", "LD_LIBRARY_PATH", "TMPDIR")


def command(recipe: Recipe, mode: str, sources: Sequence[str], keyring: Path | None) -> list[str]:
    """The command line; the tar goes to standard output.

    Parameters
    ----------
    recipe : Recipe
    mode : str
        One of `v86lab.rootfs.debian.modes.MODES`.
    sources : sequence of str
        Lines of apt's sources during the build.
    keyring : Path, optional
    """
    extract = mode == "extract"
    fakeroot = ["fakeroot"] if extract else []
    line = [
        *fakeroot,
        "mmdebstrap",
        f"--mode={'chrootless' if extract else mode}",
        f"--variant={'extract' if extract else recipe.variant}",
        f"--architectures={ARCHITECTURE}",
        "--format=tar",
        "--skip=check/signed-by",
        "--dpkgopt=force-unsafe-io",  # stays in the tree: waiting for the disk guards nothing in an emulated machine
    ]
    if keyring is not None:
        line.append(f"--keyring={keyring}")
    if Path(_MERGED_USR).is_dir():
        line.append(f"--hook-dir={_MERGED_USR}")
    if recipe.snapshot is not None:
        line.append('--aptopt=Acquire::Check-Valid-Until "false"')
    if extract:
        line.append("--skip=cleanup/apt/cache")  # the guest installs the .debs
        line += [f"--include={pattern}" for pattern in (*_EXTRACTED[recipe.variant], "?name(^usr-is-merged$)")]
    if recipe.included:
        line.append(f"--setup-hook={_CHECK.format(packages=shlex.join(recipe.included))}")
        line.append(f"--include={','.join(recipe.included)}")
    return [*line, recipe.suite, "-", *sources]


def environment(mode: str, epoch: int, folder: Path) -> dict[str, str]:
    """The environment: the caller's, without what would reach into the build."""
    variables = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_UNWANTED) and not name.lower().endswith("_proxy")  # apt only asks our relay
    }
    variables |= {
        "PATH": os.environ.get("PATH", os.defpath) + os.pathsep + PATH,
        "SOURCE_DATE_EPOCH": str(epoch),
        "TMPDIR": str(folder),
        "TZ": "UTC",
        "LC_ALL": "C.UTF-8",
    }
    if mode == "fakechroot":
        variables["LD_LIBRARY_PATH"] = os.pathsep.join(LIBRARIES)  # fakechroot(1) only knows the host's architecture
    return variables


def run(arguments: Sequence[str], variables: dict[str, str], tar: Path) -> str | None:
    """Run a command whose standard output is a tar.

    Returns
    -------
    str or None
        What it said, or the end of it, if it failed.
    """
    program = which(arguments[0])
    assert program is not None, "modes.choose has looked"
    with tar.open("xb") as target, tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [program, *arguments[1:]],
            stdin=subprocess.DEVNULL,
            stdout=target,
            stderr=log,
            env=variables,
            cwd="/",
            umask=0o022,
            start_new_session=True,
        )
        try:
            status = process.wait()
        except BaseException:
            _end(process)
            raise
        if status == 0:
            return None
        log.seek(max(0, log.seek(0, os.SEEK_END) - _MOST_LOG))
        return log.read().decode("utf-8", "replace")


@contextmanager
def workplace(mode: str) -> Iterator[Path]:
    """A folder with room for the tree and its tar, gone afterwards; ``tmp`` in it is mmdebstrap's."""
    base = Path(tempfile.gettempdir())
    if mode == "unshare" and os.geteuid():  # the users in its namespace are others than we: they must get in
        places = [base, Path("/tmp"), Path("/var/tmp")]
        base = next((place for place in places if _open_to_all(place)), base)
    try:
        folder = Path(tempfile.mkdtemp(prefix="v86lab-debian-", dir=base))
    except OSError as error:
        raise ImageError(
            "cannot build a Debian", expected=f"a folder to work in, in {base}", seen=str(error)
        ) from error
    try:
        folder.chmod(0o755)
        (folder / "tmp").mkdir()
        (folder / "tmp").chmod(0o1777)
        yield folder
    finally:
        _remove(folder)


def readable_keyring(keyring: str | os.PathLike[str] | None, folder: Path) -> Path | None:
    """A copy of a keyring that all users may read; None when none was named and Debian's is not here.

    Raises
    ------
    ImageError
    """
    source = Path(KEYRING if keyring is None else keyring)
    copy = folder / source.name
    try:
        if not stat.S_ISREG(source.stat().st_mode):
            raise FileNotFoundError
        shutil.copyfile(source, copy)
    except OSError as error:
        if keyring is None:
            return None
        raise ImageError(
            f"cannot use the keyring {quoted(str(source))}",
            expected="a file with OpenPGP keys",
            seen=error.strerror or "none",
            hint=f"Debian's is {KEYRING}; apt install debian-archive-keyring",
        ) from error
    copy.chmod(0o644)
    return copy


def _end(process: subprocess.Popen[bytes]) -> None:
    """Have it clean up and end, with all that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
            return


def _open_to_all(folder: Path) -> bool:
    """Whether every user may enter a folder and write there."""
    try:
        return bool(folder.stat().st_mode & stat.S_IWOTH) and all(
            place.stat().st_mode & stat.S_IXOTH for place in (folder, *folder.parents)
        )
    except OSError:
        return False


def _remove(folder: Path) -> None:
    """Remove a folder; what mmdebstrap may have left there can belong to the users of its namespace."""
    with suppress(OSError):
        if str(folder) in Path("/proc/self/mountinfo").read_text("utf-8", "replace"):
            return  # something of the host is still mounted there (mode root, killed): not for us to empty
    shutil.rmtree(folder, ignore_errors=True)
    helper = which("mmdebstrap")
    if folder.exists() and helper is not None:
        subprocess.run(
            [helper, "--unshare-helper", "rm", "-rf", "--", str(folder / "tmp")], capture_output=True, check=False
        )
        shutil.rmtree(folder, ignore_errors=True)
