"""A machine as the last line of a cell: the widget, a text that never varies, and a picture that stays in the file.

Rules:

- to be shown is to be started: under a Jupyter server in the page, on a thread of its own, so that the cell does not
  wait; where no front end listens (nbconvert, papermill) on Node and at once, so that there is something to picture;
- a front end gets a new picture whenever the machine has come to rest; elsewhere the one of that moment stays;
- nothing of Jupyter is imported before a machine is shown.
"""

from __future__ import annotations

import base64
import contextlib
import os
import sys
import threading
import time
import uuid
import weakref
from concurrent.futures import TimeoutError as FutureTimeout
from typing import TYPE_CHECKING, Any

from . import picture
from .channel import RequestFailed
from .errors import V86LabError
from .machine import Machine

if TYPE_CHECKING:
    from .widget import View

_WIDGET = "application/vnd.jupyter.widget-view+json"
_REST = 2.0  # s without output
_LOOK_EVERY = 10.0  # s, for whether the machine is still there
_PATIENCE = 5.0  # s for the engine to say what the console has shown

_shown: weakref.WeakKeyDictionary[Machine, Shown] = weakref.WeakKeyDictionary()


def register(shell: Any = None) -> None:
    """Have IPython show machines; does nothing where there is no IPython."""
    if shell is None and "IPython" in sys.modules:
        shell = sys.modules["IPython"].get_ipython()
    if shell is not None:
        shell.display_formatter.ipython_display_formatter.for_type(Machine, show)


def show(machine: Machine) -> None:
    """Show a machine in the cell that runs."""
    import IPython

    shell: Any = IPython.get_ipython()
    if getattr(shell, "kernel", None) is None:  # a terminal
        print(repr(machine))
        return
    shown = _shown.get(machine)
    if shown is None:
        shown = _shown[machine] = Shown(machine)
    shown.add(machine)


class Shown:
    """What there is of a machine in notebooks: a widget, and the pictures beside it."""

    def __init__(self, machine: Machine) -> None:
        from .widget import View

        self._session = machine._session
        self._text = f"<Machine {machine.image.name!r}>"
        self.view: View = View(machine.hub, machine._session.views, machine.id, machine.image.name)
        self._places: list[str] = []
        self._ended = False
        weakref.finalize(machine, self._end)

    def add(self, machine: Machine) -> None:
        """Show it once more."""
        first, listens = not self._places, front_end()
        place = uuid.uuid4().hex
        self._places.append(place)
        if listens:
            self._session.expects_page = True
            self.view.invite()
        elif machine.status == "new":
            machine.start()
            self._settle()
        self._publish(place, update=False)
        if listens and machine.status == "new":
            threading.Thread(target=self._start, name="v86lab start", daemon=True).start()
        if listens and first:
            threading.Thread(target=self._follow, name="v86lab picture", daemon=True).start()

    def _start(self) -> None:
        try:
            self._session.start()
        except Exception as error:
            self._session.views.announce(str(error))

    def _settle(self) -> None:
        """Wait until the console rests, for a moment at most: the picture is to show what a boot printed."""
        deadline, seen = time.monotonic() + _PATIENCE, -1
        while seen != (seen := self._session.transcript.since(seen, 0.2)[1]) and time.monotonic() < deadline:
            continue

    def _publish(self, place: str, update: bool) -> None:
        from IPython.display import publish_display_data

        widget = {"model_id": self.view.model_id, "version_major": 2, "version_minor": 0}
        data: dict[str, Any] = {"text/plain": self._text, _WIDGET: widget}
        drawn = self._draw()
        if drawn is not None:
            data["image/png"] = base64.b64encode(drawn).decode()
        publish: Any = publish_display_data
        publish(data, {}, transient={"display_id": place}, update=update)

    def _draw(self) -> bytes | None:
        """The console's last lines; None where nothing was shown yet."""
        with contextlib.suppress(V86LabError, RequestFailed, FutureTimeout):
            history = self._session.views.history()
            shown = history.result(_PATIENCE).payload if history is not None else b""
            rows = picture.lines(shown)
            if any(rows):
                self.view.still = "\n".join(rows)
                return picture.draw(rows)
        return None

    def _follow(self) -> None:
        """Keep the pictures of a machine that people look at up to date."""
        pictured, transcript = -1, self._session.transcript
        while not self._ended and self._session.wait_until(lambda status: status != "starting", None) != "closed":
            total = transcript.since(pictured, _LOOK_EVERY)[1]
            while total != (total := transcript.since(total, _REST)[1]):
                continue
            if total != pictured and self._session.engine is not None:
                pictured = total
                for place in self._places:
                    self._publish(place, update=True)

    def _end(self) -> None:
        self._ended = True
        self.view.close()


def front_end() -> bool:
    """Whether a Jupyter server started this kernel, so that somebody may look at it; nbclient and its kin are none."""
    return "JPY_SESSION_NAME" in os.environ
