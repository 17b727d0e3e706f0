"""Those who want to hear of what others did to a store, and how they are told."""

from collections.abc import Callable

from sssnbus.stores.base import News

Ring = Callable[[], None]
Take = Callable[[News], None]


class Watchers:
    """The watchers of a store object, told in the order in which they came; as ``Wakeups`` has it."""

    def __init__(self) -> None:
        self._entries: dict[object, tuple[Ring, Take | None]] = {}

    def __bool__(self) -> bool:
        return bool(self._entries)

    def add(self, ring: Ring, take: Take | None) -> Callable[[], None]:
        """Add a watcher; return what takes it away."""
        mark = object()
        self._entries[mark] = ring, take

        def end() -> None:
            self._entries.pop(mark, None)

        return end

    def tell(self, news: News | None = None) -> None:
        """Tell every watcher that there may be news, and what they are if that is known."""
        # A copy: one may end its own watch while it is called.
        for ring, take in tuple(self._entries.values()):
            if news is None or take is None:
                ring()
            else:
                take(news)

    def clear(self) -> None:
        """Tell nobody from now on."""
        self._entries.clear()
