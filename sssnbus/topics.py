"""Topics and patterns: the address inside a channel, and who listens to which.

A *topic* is words joined by dots: ``user.login``. A *pattern* may hold wildcards in place of words:

    ================  ===================  ==================================
    syntax            exactly one word     one or more words
    ================  ===================  ==================================
    ``native``        ``*``                ``>``, as the last word only
    ``equals-plus``   ``=``                ``+``, anywhere
    ================  ===================  ==================================

The syntax is always named by the caller, never guessed: other systems mean other things by ``+``.
"""

import re
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Generic, Literal, Self, TypeVar

from sssnbus.errors import InvalidOption, InvalidTopic

MAX_TOPIC: Final = 512
"""The longest topic or pattern, in characters."""

Syntax = Literal["native", "equals-plus"]
"""How wildcards are written in a pattern."""

# Inside patterns and the index, wildcards of either syntax are these; no word can equal them.
_ONE: Final = "*"
_MANY: Final = ">"

_WILDCARDS: Final[dict[str, dict[str, str]]] = {
    "native": {"*": _ONE, ">": _MANY},
    "equals-plus": {"=": _ONE, "+": _MANY},
}
_WORD = re.compile(r"[A-Za-z0-9_-]+\Z")
_TOPIC = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\Z")

T = TypeVar("T", bound=Hashable)


def check_topic(topic: object) -> str:
    """Return a topic that can be written to; raise ``InvalidTopic`` if it is none.

    Raises:
        InvalidTopic: It is empty or too long, has an empty word or a wildcard, or a character that is
            neither a letter, a digit, ``_`` nor ``-``.
    """
    if isinstance(topic, str) and _is_topic(topic):
        return topic
    text = _check_length(topic)
    if any(mark in text for mark in "*>=+"):
        raise InvalidTopic(topic, "wildcards are for subscribing; a message has one concrete topic")
    raise InvalidTopic(topic, "it must be words of A-Z a-z 0-9 _ - joined by single dots")


@dataclass(frozen=True, slots=True)
class Pattern:
    """Which topics a subscriber wants. Make it with ``Pattern.parse``."""

    text: str
    """The pattern as it was given."""
    syntax: Syntax
    words: tuple[str, ...] = field(repr=False, compare=False)
    """Its words, with the wildcards of either syntax as ``*`` and ``>``."""

    @classmethod
    def parse(cls, text: str, syntax: Syntax = "native") -> Self:
        """Return the pattern that ``text`` describes.

        Args:
            text: Words and wildcards joined by dots; a text without wildcards matches one topic.
            syntax: How wildcards are written.

        Raises:
            InvalidTopic: The text breaks the rules of the syntax.
            InvalidOption: There is no such syntax.
        """
        wildcards = _WILDCARDS.get(syntax)
        if wildcards is None:
            raise InvalidOption("syntax", syntax, f"it must be one of {', '.join(_WILDCARDS)}")
        given = _check_length(text).split(".")
        if not all(word in wildcards or _WORD.match(word) for word in given):
            raise InvalidTopic(
                text, f"each word must be {' or '.join(wildcards)}, or be made of A-Z a-z 0-9 _ -"
            )
        words = tuple(wildcards.get(word, word) for word in given)
        if syntax == "native" and _MANY in words[:-1]:
            raise InvalidTopic(text, "> stands for all that follows, so it can only be the last word")
        return cls(text, syntax, words)

    @property
    def lead(self) -> "Pattern":
        """A native pattern that matches no less: the words up to the first that stands for several."""
        end = self.words.index(_MANY) + 1 if _MANY in self.words else None
        return Pattern(".".join(self.words[:end]), "native", self.words[:end])

    def matches(self, topic: str) -> bool:
        """Return whether a topic fits; what is not a valid topic fits no pattern."""
        if not _is_topic(topic):
            return False
        # The numbers of pattern words that can be used up so far: one pass, whatever the wildcards.
        reached = {0}
        for word in topic.split("."):
            reached = {after for before in reached for after in self._step(before, word)}
            if not reached:
                return False
        return len(self.words) in reached

    def _step(self, position: int, word: str) -> Iterator[int]:
        if position < len(self.words) and self.words[position] in (word, _ONE, _MANY):
            yield position + 1
        if position and self.words[position - 1] == _MANY:
            yield position


def matcher(patterns: Iterable[Pattern]) -> Callable[[str | None], bool]:
    """Return what tells whether a topic fits any of some patterns. No topic fits none.

    It remembers topics, for in a channel there are few beside the messages.
    """
    patterns = tuple(patterns)

    @lru_cache(maxsize=1024)
    def matches(topic: str | None) -> bool:
        return isinstance(topic, str) and any(pattern.matches(topic) for pattern in patterns)

    return matches


class _Node(Generic[T]):
    """Where the patterns with one common beginning stand in the index."""

    __slots__ = ("children", "repeats", "values")

    def __init__(self, repeats: bool) -> None:
        self.children: dict[str, _Node[T]] = {}
        self.repeats = repeats
        self.values: dict[T, int] = {}

    def follow(self, word: str) -> "list[_Node[T]]":
        """Return where one more word of a topic leads."""
        children = self.children
        found = [children[step] for step in (word, _ONE, _MANY) if step in children]
        if self.repeats:
            found.append(self)
        return found


class TopicIndex(Generic[T]):
    """Finds the values whose patterns match a topic.

    The cost of a look-up grows with the topic's words and the branches that match it, not with the
    number of patterns. Not for use by several threads at once.
    """

    def __init__(self) -> None:
        self._root: _Node[T] = _Node(repeats=False)

    def add(self, pattern: Pattern, value: T) -> None:
        """File a value under a pattern. Each ``add`` needs its own ``remove``."""
        node = self._root
        for word in pattern.words:
            if word not in node.children:
                node.children[word] = _Node(repeats=word == _MANY)
            node = node.children[word]
        node.values[value] = node.values.get(value, 0) + 1

    def remove(self, pattern: Pattern, value: T) -> None:
        """Undo one ``add``, and take what only that needed out of the index.

        Raises:
            KeyError: The value is not filed under the pattern.
        """
        path = [self._root]
        for word in pattern.words:
            path.append(path[-1].children[word])
        values = path[-1].values
        values[value] -= 1
        if values[value]:
            return
        del values[value]
        for word, node, parent in zip(
            reversed(pattern.words), reversed(path), reversed(path[:-1]), strict=False
        ):
            if node.values or node.children:
                return
            del parent.children[word]

    def match(self, topic: str) -> list[T]:
        """Return the values under all patterns that match, each once, in no promised order.

        What is not a valid topic matches nothing.
        """
        if not _is_topic(topic):
            return []
        nodes = [self._root]
        for word in topic.split("."):
            # A repeating node is met both from its parent and from itself: without the dict, the
            # number of ways through the wildcards would count, which grows without measure.
            nodes = list(dict.fromkeys(found for node in nodes for found in node.follow(word)))
        return list(dict.fromkeys(value for node in nodes for value in node.values))


def _is_topic(text: str) -> bool:
    return len(text) <= MAX_TOPIC and _TOPIC.match(text) is not None


def _check_length(text: object) -> str:
    if not isinstance(text, str):
        raise InvalidTopic(text, "it must be a str")
    if not text:
        raise InvalidTopic(text, "it must not be empty")
    if len(text) > MAX_TOPIC:
        raise InvalidTopic(text, f"it exceeds {MAX_TOPIC} characters")
    return text
