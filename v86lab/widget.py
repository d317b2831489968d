"""The widget that shows a machine: finds the Hub for a page, or carries the page's messages itself where it cannot.

Rules:

- the synced traits hold where the Hub is and nothing that lasts: a saved notebook may keep them;
- `_esm` is a small loader, because every notebook keeps it; the rest comes from the Hub by digest;
- control never needs the comm. What a page asks over it is answered when the kernel is idle.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import anywidget
import traitlets

from . import bundle
from .hub import Hub
from .views import Page, Views


class View(anywidget.AnyWidget):
    """A view of a machine.

    Parameters
    ----------
    hub : Hub
    views : Views
        Of the machine.
    machine : str
        The name under which the Hub knows it (`Hub.show`).
    name : str
        What a person calls it.
    invited : bool
        A page will show it: it gets a ticket at once, because a cell may wait for what the page then does.
    """

    _esm = (files("v86lab") / "static" / "loader.mjs").read_text("utf-8")

    port = traitlets.Int().tag(sync=True)
    hub_id = traitlets.Unicode().tag(sync=True)
    ticket = traitlets.Unicode().tag(sync=True)
    machine = traitlets.Unicode().tag(sync=True)
    name = traitlets.Unicode().tag(sync=True)
    bundle = traitlets.Unicode().tag(sync=True)

    def __init__(self, hub: Hub, views: Views, machine: str, name: str, invited: bool) -> None:
        self._hub = hub
        self._views = views
        self._page: Page | None = None
        code = bundle.stored(hub.store, "view.mjs.gz")
        ticket = self._make_ticket() if invited else ""
        super().__init__(port=hub.port, hub_id=hub.id, machine=machine, name=name, bundle=code, ticket=ticket)
        self.on_msg(self._heard)

    def invite(self) -> None:
        """Give another page that will show this a ticket to the Hub."""
        self.ticket = self._make_ticket()

    def _make_ticket(self) -> str:
        return self._hub.make_ticket(self._views.approach)

    def _heard(self, _: object, content: dict[str, Any], buffers: list[memoryview]) -> None:
        match content.get("type"):
            case "ticket":
                self.send({"type": "ticket", "ticket": self._make_ticket()})
            case "bundle":
                self.send({"type": "bundle"}, [self._hub.store.path(self.bundle).read_bytes()])
            case "join":
                self._join()
            case "leave":
                self._leave()
            case "frame" if self._page is not None:
                self._page.received(bytes(buffers[0]))

    def _join(self) -> None:
        """A page that cannot reach the Hub speaks over the comm from now on."""
        self._leave()
        self._page = self._views.page()
        self._page.connected(self._send_frames)

    def _leave(self) -> None:
        if self._page is not None:
            self._page.disconnected()
            self._page = None

    def _send_frames(self, frames: list[bytes | str]) -> None:
        for frame in frames:
            self.send({"type": "frame"}, [frame])

    def close(self) -> None:
        """Remove it from every page."""
        self._leave()
        super().close()
