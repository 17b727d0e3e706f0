"""Topics and patterns: what may be written, what matches, and what a look-up costs."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sssnbus.errors import BusError, InvalidOption, InvalidTopic
from sssnbus.topics import MAX_TOPIC, Pattern, Syntax, TopicIndex, _Node, check_topic, matcher

# A few words, and short topics, so that patterns and topics meet often.
WORDS = st.sampled_from(["a", "b", "c"])
TOPICS = st.lists(WORDS, min_size=1, max_size=6).map(".".join)


def patterns(syntax: Syntax) -> st.SearchStrategy[Pattern]:
    """Return a strategy for valid patterns of a syntax."""
    if syntax == "equals-plus":
        words = st.lists(WORDS | st.sampled_from("=+"), min_size=1, max_size=6)
        return words.map(lambda parts: Pattern.parse(".".join(parts), syntax))
    heads = st.lists(WORDS | st.just("*"), max_size=5)
    return st.tuples(heads, WORDS | st.sampled_from("*>")).map(
        lambda parts: Pattern.parse(".".join([*parts[0], parts[1]]), syntax)
    )


PATTERNS = patterns("native") | patterns("equals-plus")


def naive(pattern: list[str], topic: list[str], one: str, many: str) -> bool:
    """Say what matching means, with no thought for its cost."""
    if not pattern or not topic:
        return not pattern and not topic
    head, rest = pattern[0], pattern[1:]
    if head == many:
        return any(naive(rest, topic[taken:], one, many) for taken in range(1, len(topic) + 1))
    return head in (one, topic[0]) and naive(rest, topic[1:], one, many)


def fits(pattern: Pattern, topic: str) -> bool:
    """Ask the naive matcher."""
    one, many = ("*", ">") if pattern.syntax == "native" else ("=", "+")
    return naive(pattern.text.split("."), topic.split("."), one, many)


def matched(pattern: str, syntax: Syntax, *topics: str) -> list[str]:
    """Return which of the topics a pattern matches, by itself and through an index alike."""
    parsed = Pattern.parse(pattern, syntax)
    index = TopicIndex[str]()
    index.add(parsed, "value")
    found = [topic for topic in topics if parsed.matches(topic)]
    assert found == [topic for topic in topics if index.match(topic)]
    return found


def test_one_word() -> None:
    """FX-30: ``=`` stands for exactly one word."""
    topics = ("logs.info", "logs.error", "logs.app.info", "logs")
    assert matched("logs.=", "equals-plus", *topics) == ["logs.info", "logs.error"]
    assert matched("logs.*", "native", *topics) == ["logs.info", "logs.error"]


def test_one_or_more_words() -> None:
    """FX-31: ``+`` stands for one or more words, never for none, and an empty word is no word."""
    topics = ("logs.info", "logs.error", "logs.app.info", "logs", "logs.")
    assert matched("logs.+", "equals-plus", *topics) == ["logs.info", "logs.error", "logs.app.info"]
    assert matched("logs.>", "native", *topics) == ["logs.info", "logs.error", "logs.app.info"]


@pytest.mark.parametrize("syntax", ["native", "equals-plus"])
def test_dot_is_literal(syntax: Syntax) -> None:
    """FX-32: a dot matches a dot and nothing else."""
    assert matched("logs.info", syntax, "logs.info", "logsXinfo", "logs-info") == ["logs.info"]


def test_wildcards_inside() -> None:
    """FX-33: wildcards stand at the beginning and in the middle too."""
    topics = ("a.b.c", "a.c", "a.b.b.c", "a.b.z", "a.b.c.z", "a.z", "x.b", "b", "x.y.b")
    assert matched("a.=.c", "equals-plus", *topics) == ["a.b.c"]
    assert matched("a.+.z", "equals-plus", *topics) == ["a.b.z", "a.b.c.z"]
    assert matched("=.b", "equals-plus", *topics) == ["x.b"]
    assert matched("a.*.c", "native", *topics) == ["a.b.c"]
    assert matched("*.b", "native", *topics) == ["x.b"]


@pytest.mark.parametrize("topic", ["logs.=", "logs.+", "=", "a.+.b", "logs.*", "logs.>", "lo=gs"])
def test_wildcard_cannot_be_written_to(topic: str) -> None:
    """FX-34: a message has one concrete topic; a wildcard in it is a ValueError that says so."""
    with pytest.raises(ValueError, match="wildcards are for subscribing"):
        check_topic(topic)


@pytest.mark.parametrize(
    "topic", ["", ".", "a.", ".a", "a..b", "a b", "a/b", "ä", "a\n", "٣", "a.b!", "x" * (MAX_TOPIC + 1)]
)
def test_illegal_topic(topic: str) -> None:
    """FX-35: an empty topic, an empty word and illegal characters are refused, in patterns as well."""
    with pytest.raises(ValueError, match="Invalid topic"):
        check_topic(topic)
    for syntax in ("native", "equals-plus"):
        with pytest.raises(InvalidTopic):
            Pattern.parse(topic, syntax)


@pytest.mark.parametrize("topic", ["a", "a.b", "Logs.App-1.x_y", "0", "x" * MAX_TOPIC])
def test_legal_topic(topic: str) -> None:
    """FX-35: letters, digits, hyphens, underscores and dots are allowed; the topic comes back as it was."""
    assert check_topic(topic) is topic
    assert Pattern.parse(topic).matches(topic)


@pytest.mark.parametrize("topic", [None, 7, b"a.b"])
def test_topic_must_be_text(topic: Any) -> None:
    """What is no str is refused as a topic and as a pattern, as an error of the bus."""
    with pytest.raises(BusError, match="must be a str"):
        check_topic(topic)
    with pytest.raises(BusError, match="must be a str"):
        Pattern.parse(topic)


@pytest.mark.parametrize(
    ("pattern", "syntax"),
    [
        ("a.>.b", "native"),
        (">.>", "native"),
        ("a*", "native"),
        ("a.**", "native"),
        ("a.=", "native"),
        ("a.+", "native"),
        ("a.*", "equals-plus"),
        ("a.>", "equals-plus"),
        ("a=", "equals-plus"),
    ],
)
def test_illegal_pattern(pattern: str, syntax: Syntax) -> None:
    """A wildcard is a whole word of its own syntax, and ``>`` the last one."""
    with pytest.raises(InvalidTopic):
        Pattern.parse(pattern, syntax)


def test_unknown_syntax() -> None:
    """The syntax is never guessed: an unknown name is refused."""
    with pytest.raises(InvalidOption, match=r"'mqtt'.*native"):
        Pattern.parse("a.#", "mqtt")  # type: ignore[arg-type]  # what is tested


@pytest.mark.parametrize("syntax", ["native", "equals-plus"])
def test_matches_like_the_naive_matcher(syntax: Syntax) -> None:
    """A pattern matches exactly the topics that the definition says."""

    @given(patterns(syntax), TOPICS)
    def check(pattern: Pattern, topic: str) -> None:
        assert pattern.matches(topic) is fits(pattern, topic)

    check()


@given(st.lists(st.tuples(PATTERNS, st.integers(0, 4), st.booleans()), max_size=12), TOPICS)
def test_index_like_the_naive_matcher(filed: list[tuple[Pattern, int, bool]], topic: str) -> None:
    """The index finds what the patterns left in it match, each value once."""
    index = TopicIndex[int]()
    for pattern, value, _ in filed:
        index.add(pattern, value)
    for pattern, value, stays in filed:
        if not stays:
            index.remove(pattern, value)
    expected = {value for pattern, value, stays in filed if stays and fits(pattern, topic)}
    assert Counter(index.match(topic)) == Counter(expected)


@given(st.lists(st.tuples(PATTERNS, st.integers(0, 4)), max_size=12))
def test_index_forgets(filed: list[tuple[Pattern, int]]) -> None:
    """An index from which everything was removed holds nothing, so that passing topics leave no trace."""
    index = TopicIndex[int]()
    for pattern, value in filed:
        index.add(pattern, value)
    for pattern, value in filed:
        index.remove(pattern, value)
    assert not index._root.children


def test_two_patterns_one_value() -> None:
    """FX-36: who matches by two patterns is found once; two who match are both found."""
    index = TopicIndex[str]()
    for pattern in ("logs.*", "logs.>", "logs.info"):
        index.add(Pattern.parse(pattern), "first")
    index.add(Pattern.parse("logs.info"), "second")
    assert sorted(index.match("logs.info")) == ["first", "second"]


@pytest.mark.parametrize("pattern", ["a", "a.b", "a.b.c", "a.*"])
def test_remove_what_is_not_there(pattern: str) -> None:
    """Removing what was never filed is an error and changes nothing."""
    index = TopicIndex[str]()
    index.add(Pattern.parse("a.b"), "value")
    with pytest.raises(KeyError):
        index.remove(Pattern.parse(pattern), "other")
    assert index.match("a.b") == ["value"]


@pytest.mark.parametrize("topic", ["", "a.", "*", "a.*", ">", "a b"])
def test_index_finds_nothing_for_what_is_no_topic(topic: str) -> None:
    """A wildcard or an empty word in a topic is never taken for a pattern."""
    index = TopicIndex[str]()
    for pattern in ("*", "a.*", ">", "a.>"):
        index.add(Pattern.parse(pattern), pattern)
    assert index.match(topic) == []


@pytest.fixture
def visits(monkeypatch: pytest.MonkeyPatch) -> Callable[[TopicIndex[Any], str], int]:
    """Return what counts the places of the index that a look-up visits."""
    count = 0
    follow = _Node.follow

    def counted(self: _Node[Any], word: str) -> list[_Node[Any]]:
        nonlocal count
        count += 1
        return follow(self, word)

    def measure(index: TopicIndex[Any], topic: str) -> int:
        nonlocal count
        count = 0
        index.match(topic)
        return count

    monkeypatch.setattr(_Node, "follow", counted)
    return measure


def test_cost_does_not_grow_with_patterns(visits: Callable[[TopicIndex[Any], str], int]) -> None:
    """A look-up among 10,000 patterns visits as few places as one among 10."""
    costs = []
    for size in (10, 10_000):
        index = TopicIndex[int]()
        for number in range(size):
            index.add(Pattern.parse(f"user.u{number}.*"), number)
            index.add(Pattern.parse(f"*.u{number}.login"), number)
            index.add(Pattern.parse(f"+.u{number}.+", "equals-plus"), number)
        costs.append(visits(index, "user.u7.login"))
    assert costs[0] == costs[1] < 20


def test_many_wildcards_do_not_explode(visits: Callable[[TopicIndex[Any], str], int]) -> None:
    """With ``+`` all over, a look-up visits each place at most once for each word."""
    index = TopicIndex[str]()
    width, words = 40, 200
    index.add(Pattern.parse(".".join("+" * width + "z"), "equals-plus"), "value")
    assert visits(index, ".".join("a" * words)) <= (width + 1) * words


def test_many_wildcards_match_at_once() -> None:
    """A pattern made to be slow is decided by itself as well, and decided right."""
    pattern = Pattern.parse(".".join("+" * 100 + "z"), "equals-plus")
    assert not pattern.matches(".".join("a" * 250))
    assert pattern.matches(".".join("a" * 250 + "z"))


@given(st.lists(PATTERNS, max_size=3), TOPICS)
def test_matcher(given: list[Pattern], topic: str) -> None:
    """A matcher tells whether any of its patterns matches, also the second time; no topic matches none."""
    matches = matcher(given)
    for _ in range(2):
        assert matches(topic) == any(fits(pattern, topic) for pattern in given)
    assert not matches(None)
    assert not matches("not a topic")


@given(PATTERNS, TOPICS)
def test_lead(pattern: Pattern, topic: str) -> None:
    """The lead of a pattern is native and matches no less; of a native pattern it is the pattern itself."""
    lead = pattern.lead
    assert lead == Pattern.parse(lead.text)
    assert lead.words == Pattern.parse(lead.text).words
    if pattern.syntax == "native":
        assert lead == pattern
    if pattern.matches(topic):
        assert lead.matches(topic)
