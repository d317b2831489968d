"""Remove what nothing refers to from the Store.

Saved snapshots, recordings and start states stay, and so does everything that was used in the last day.
"""

from __future__ import annotations

import argparse

from v86lab.formats import size_text
from v86lab.store import Store


def add(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(store=Store)


def main(options: argparse.Namespace) -> int:
    store: Store = options.store()
    report = store.gc()
    print(f"{store.home}: {report.removed} removed, {size_text(report.bytes)}")
    return 0
