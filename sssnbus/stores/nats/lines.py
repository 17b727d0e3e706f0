"""Ordering keys: the messages of a key stand in line, and only the first of them may be ready."""

from collections import OrderedDict

from sssnbus.stores.nats.row import Row


class Lines:
    """The lines of a queue's keys; a message without a key stands in none."""

    def __init__(self) -> None:
        self._lines: dict[str, OrderedDict[int, None]] = {}

    def clear(self) -> None:
        """Let everybody go."""
        self._lines.clear()

    def is_head(self, row: Row) -> bool:
        """Return whether nobody of its key is before it; it must stand in line."""
        key = row.key
        return key is None or next(iter(self._lines[key])) == row.sequence

    def join(self, row: Row) -> None:
        """Let a message stand in the line of its key, where its sequence belongs."""
        if row.key is None:
            return
        line = self._lines.setdefault(row.key, OrderedDict())
        last = next(reversed(line)) if line else 0
        line[row.sequence] = None
        if row.sequence < last:
            self._lines[row.key] = OrderedDict.fromkeys(sorted(line))

    def leave(self, row: Row) -> int | None:
        """Take a message out of its line; return which one is the first there now, if any is."""
        line = self._lines.get(row.key) if row.key is not None else None
        if row.key is None or line is None or row.sequence not in line:
            return None
        del line[row.sequence]
        if not line:
            del self._lines[row.key]
            return None
        return next(iter(line))
