"""What the commands share: where they print, and how a mistake of the user is said."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.markup import escape
from rich.table import Table

console = Console(width=None if sys.stdout.isatty() else 100)


class UserError(Exception):
    """Something that the user can mend; printed as one sentence, exit code 2."""


def table(title: str, columns: list[str], rows: list[list[str]]) -> Table:
    """A plain table; numbers are aligned right."""
    made = Table(title=escape(title) or None, title_justify="left", title_style="bold")
    for i, column in enumerate(columns):
        cells = [row[i] for row in rows]
        numeric = bool(cells) and all(_is_number(cell) for cell in cells)
        made.add_column(
            escape(column), justify="right" if numeric else "left", no_wrap=numeric or not i
        )
    for row in rows:
        made.add_row(*map(escape, row))
    return made


def _is_number(text: str) -> bool:
    try:
        float(text.rstrip("%") or "0")
    except ValueError:
        return False
    return True
