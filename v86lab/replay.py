"""Replaying a recording: a new machine that goes the same way, input by input, and ends where the recording did."""

from __future__ import annotations

import json

from .errors import ImageError
from .image import Image
from .machine import Machine
from .protocol import Replay
from .recording import Recording


def replay(recording: Recording, image: Image | None = None, *, engine: str = "auto") -> Machine:
    """Run again what was recorded.

    Parameters
    ----------
    recording : Recording
        From `Machine.recording`, or from `Recording.load`.
    image : Image, optional
        What the recording must be of; any other is refused.
    engine : str
        As for `Machine`.

    Returns
    -------
    Machine
        It stands where the recorded machine stood, and goes on like it; its own recording begins at the same start.

    Raises
    ------
    ImageError
        The recording is of another image or machine ABI; or the machine went another way than it says, because
        something that it needs has changed or the recording was tampered with.
    StoreError
        The state or a medium that it names is not in the Store.

    Examples
    --------
    >>> import v86lab as lab
    >>> with lab.Machine(seed=7) as vm:
    ...     vm.console.sendline("date > /tmp/when")
    ...     vm.advance(seconds=1)
    ...     log = vm.recording
    >>> with lab.replay(log) as again:
    ...     again.run("cat /tmp/when").stdout[:7]
    'Thu Jan'
    """
    if not isinstance(recording, Recording):
        raise ImageError(
            "this is no recording",
            expected="a Recording",
            seen=type(recording).__name__,
            hint="a saved one is read by lab.Recording.load(path)",
        )
    recording.check_replays(image)
    machine = Machine(recording.image, seed=recording.seed, engine=engine)
    try:
        session = machine._session
        for digest in recording.digests(session.hub.store) - {recording.state}:
            session.hub.store.size(digest)  # raises for one that is not there; the state may be made anew
        session.boot_from(recording.image, recording.state, recording.fresh)
        events = json.dumps(list(recording.events), separators=(",", ":"), allow_nan=False).encode()
        length = {"steps": recording.steps, "instructions": recording.instructions}
        session.call(Replay, allow=None, payload=events, **length)
    except BaseException:
        machine.close()
        raise
    return machine
