"""What the server and its client report, in the words of the package."""

from typing import Any, Final

from sssnbus.errors import BusError, ClosedError, StoreError, StoreFull, StoreReplaced, StoreUnavailable

NOT_SENT: Final = (StoreUnavailable, StoreReplaced, ClosedError)
"""What a request raises that could not be sent. Whoever had sent the same before knows nothing by that."""

# Numbers of JetStream's own errors, which are part of its protocol.
_WRONG_LAST: Final = frozenset({10071, 10164})
_NOT_FOUND: Final = frozenset({10059, 10014})
_EXISTS: Final = frozenset({10058, 10065})
_NO_MESSAGE: Final = frozenset({10037, 10043})
_REPEATED: Final = 10201
_NOT_REMOVED: Final = 10057
_FULL: Final = frozenset({10002, 10023, 10026, 10027, 10028, 10047, 10077, 10120, 10122})
_OFF: Final = frozenset({10039, 10076})
_IN_PROCESS: Final = 10158
_AWAY: Final = frozenset({10007, 10008, 10009, 10063, 10118, 10176})


class Refusal(Exception):
    """The server understood a request and did nothing. Never leaves this room."""

    def __init__(self, code: int, text: str) -> None:
        self.code, self.text = code, text
        super().__init__(f"{text} ({code})")


class Missing(Refusal):
    """There is no such stream."""


class Stale(Refusal):
    """Somebody else wrote first."""


class Exists(Refusal):
    """There is such a stream, with other settings."""


class Repeated(Refusal):
    """The server knows messages of a batch by their names: it has stored them."""


class Absent(Refusal):
    """There is no such message."""


class Nobody(Exception):
    """Nobody takes a request: there is no such stream, or JetStream is not ready. Never leaves this room."""

    def __init__(self, repeated: bool = False) -> None:
        self.repeated = repeated
        """Whether it was sent before, and that answer was lost: then it may have been taken."""
        super().__init__()


class Lost(Exception):
    """The connection went away while an answer was due. Never leaves this room."""


def check(answer: dict[str, Any], url: str) -> dict[str, Any]:
    """Return what the server answered, or raise what its error comes to."""
    error = answer.get("error")
    if not error:
        return answer
    code, text = int(error.get("err_code", 0)), str(error.get("description", "no reason given"))
    if code in _WRONG_LAST:
        raise Stale(code, text)
    if code in _NOT_FOUND:
        raise Missing(code, text)
    if code in _EXISTS:
        raise Exists(code, text)
    if code in _AWAY:
        raise Nobody
    if code == _IN_PROCESS:
        # An earlier try has reached the leader of a cluster and is not decided yet.
        raise Nobody(True)
    if code == _REPEATED:
        raise Repeated(code, text)
    if code in _NO_MESSAGE or (code == _NOT_REMOVED and text in ("no message found", "stream store EOF")):
        raise Absent(code, text)
    raise translated(code, text, url)


def translated(code: int, text: str, url: str) -> BusError:
    """Return our error for one of JetStream's."""
    if code in _FULL or "maximum bytes" in text or "maximum messages" in text or "no space" in text:
        return StoreFull(url)
    if code in _OFF:
        return StoreUnavailable(
            f"Store {url} needs JetStream, which is not enabled for this account: start the server with "
            "-js, or give the account JetStream."
        )
    return StoreError(f"Store {url} refused an operation: {text} ({code}).")


def denied(text: str, url: str) -> StoreError:
    """Return our error for a word of the server about rights."""
    return StoreError(
        f"Store {url} may not be used like this: {text.removeprefix('nats: ')}. Give its user the rights to "
        "publish and subscribe to the subjects of the store, $JS.API.>, $JS.FC.> and _INBOX.>."
    )
