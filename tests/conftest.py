"""What every test shares, and what none may leave behind.

The whole session has one Store of its own (the default guest's state is made once) and one folder for temporary files;
the notebooks' kernels inherit both. When the last test is done, no process that we started may live and that folder
must be empty. Processes are known by a mark in their environment, so that one whose parent died is found too.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import hypothesis.internal.observability  # noqa: F401  (its plugin would at the end, where CPython 3.11 fails after greenlets)
import psutil
import pytest
from hypothesis import HealthCheck, settings

# No test measures time: how long an example takes says how busy this computer is.
settings.register_profile("v86lab", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("v86lab")

MARK = "V86LAB_TEST_SESSION"
GRACE = 10.0  # seconds for a process that was told to end
SCRATCH = pytest.StashKey[Path]()


def pytest_sessionstart(session: pytest.Session) -> None:
    scratch = session.config.stash[SCRATCH] = Path(tempfile.mkdtemp(prefix="v86lab-tests-"))
    (scratch / "tmp").mkdir()
    (scratch / "pytest").mkdir()
    os.environ |= {name: str(scratch / "tmp") for name in ("TMPDIR", "TEMP", "TMP")}
    os.environ["PYTEST_DEBUG_TEMPROOT"] = str(scratch / "pytest")  # where tmp_path points
    os.environ |= {"V86LAB_HOME": str(scratch / "home"), MARK: uuid.uuid4().hex}
    os.environ.pop("V86LAB_SHARED", None)
    tempfile.tempdir = None
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as of a job in the background, and inherited
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    scratch = session.config.stash[SCRATCH]
    shutil.rmtree(scratch if exitstatus == 0 else scratch / "home", ignore_errors=True)  # a failure leaves its traces


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind(pytestconfig: pytest.Config) -> Iterator[None]:
    yield
    _, alive = psutil.wait_procs(marked_processes(), timeout=GRACE)
    processes = [f"{process.pid}: {' '.join(process.cmdline())}" for process in alive]
    for process in alive:
        process.kill()
    files = sorted(path.name for path in (pytestconfig.stash[SCRATCH] / "tmp").iterdir())
    assert (processes, files) == ([], []), "the tests left processes or temporary files behind"


def marked_processes() -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            # multiprocessing keeps its tracker until this process ends
            if process.environ().get(MARK) == os.environ[MARK] and "resource_tracker" not in " ".join(
                process.cmdline()
            ):
                found.append(process)
        except psutil.Error:
            continue  # ended meanwhile, or another user's
    return [process for process in found if process.pid != os.getpid()]
