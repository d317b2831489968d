"""A machine as the last line of a cell: its view, and below it a picture that stays in the file.

Rules:

- to be shown is to be started: under a Jupyter server in the page, on a thread of its own, so that the cell does not
  wait; where no front end listens (nbconvert, papermill) on Node and at once, so that there is something to picture;
- the picture is an output of its own, because a front end that gets news for an output builds the whole of it anew; a
  page in which the view lives hides it (``js/src/view/theme.css``);
- a front end gets a new picture whenever the machine has come to rest; elsewhere the one of that moment stays;
- nothing of Jupyter is imported before a machine is shown.
"""

from __future__ import annotations

import base64
import os
import sys
import threading
import uuid
import weakref
from concurrent.futures import TimeoutError as FutureTimeout
from typing import TYPE_CHECKING, Any

from . import picture
from .channel import RequestFailed
from .errors import V86LabError
from .machine import Machine
from .png import png
from .protocol import ReadPixels, ReadScreen

if TYPE_CHECKING:
    from .widget import View

_REST = 2.0  # s without output
_LOOK_EVERY = 10.0  # s, for whether the machine is still there
_PATIENCE = 5.0  # s for the engine to say what it shows

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
    """What there is of a machine in notebooks: a widget, and the pictures below it."""

    def __init__(self, machine: Machine) -> None:
        from .widget import View

        self._session = machine._session
        self._name = machine.image.name
        self.view: View = View(machine.hub, machine._session.views, machine.id, self._name, front_end())
        self._places: list[str] = []
        self._ended = False
        weakref.finalize(machine, self._end)

    def add(self, machine: Machine) -> None:
        """Show it once more."""
        first, listens = not self._places, front_end()
        if listens:
            self._session.expects_page = True
        elif machine.status == "new":
            machine.start()
        if listens and not first:
            self.view.invite()
        widget = {"model_id": self.view.model_id, "version_major": 2, "version_minor": 0}
        _publish(
            {"text/plain": f"<Machine {self._name!r}>", "application/vnd.jupyter.widget-view+json": widget},
            uuid.uuid4().hex,
        )
        place = uuid.uuid4().hex
        self._places.append(place)
        self._publish_picture(place, update=False)
        if listens and machine.status == "new":
            threading.Thread(target=self._start, name="v86lab start", daemon=True).start()
        if listens and first:
            threading.Thread(target=self._follow, name="v86lab picture", daemon=True).start()

    def _start(self) -> None:
        try:
            self._session.start()
        except Exception as error:
            self._session.views.announce(str(error))

    def _publish_picture(self, place: str, update: bool) -> None:
        drawn = self._draw() or picture.draw([f"{self._name}: {self._session.status}"])
        data = {"text/plain": f"what {self._name!r} shows", "image/png": base64.b64encode(drawn).decode()}
        _publish(data, place, update)

    def _draw(self) -> bytes | None:
        """The screen, where the guest draws on it, else the console's last lines; None where nothing was shown yet."""
        engine, history = self._session.engine, self._session.views.history()
        if engine is None or history is None:
            return None
        try:
            rows = picture.lines(history.result(_PATIENCE).payload)
            if any(rows) and not engine.request(ReadScreen).reply.result(_PATIENCE).value["graphical"]:
                return picture.draw(rows)
            pixels = engine.request(ReadPixels).reply.result(_PATIENCE)
            return png(pixels.value["width"], pixels.value["height"], pixels.payload)
        except (V86LabError, RequestFailed, FutureTimeout):
            return None

    def _follow(self) -> None:
        """Keep the pictures of a machine that people look at up to date."""
        pictured, transcript = -1, self._session.transcript
        while not self._ended and self._session.wait_until(_stands, None) != "closed":
            total = transcript.since(pictured, _LOOK_EVERY)[1]
            while total != (total := transcript.since(total, _REST)[1]):
                continue
            if total != pictured:
                pictured = total
                for place in self._places:
                    self._publish_picture(place, update=True)

    def _end(self) -> None:
        self._ended = True
        self.view.close()


def front_end() -> bool:
    """Whether a Jupyter server started this kernel, so that somebody may look at it; nbclient and its kin are none."""
    return "JPY_SESSION_NAME" in os.environ


def _publish(data: dict[str, Any], place: str, update: bool = False) -> None:
    from IPython.display import publish_display_data

    publish: Any = publish_display_data
    publish(data, {}, transient={"display_id": place}, update=update)


def _stands(status: str) -> bool:
    return status not in ("new", "starting")
