"""What every store promises of reads: up to where they looked, and that they pass over other topics."""

from collections.abc import Sequence

from sssnbus.stored import Stored
from sssnbus.testing.bench import Bench, check, draft, same, value
from sssnbus.topics import Pattern


@check()
async def check_reach(bench: Bench) -> None:
    """A page says up to where it looked: its last message if it is full, else the end that was asked for."""
    await bench.log("a")
    for log in ("a", "nobody"):
        for after in (0, 7):
            page = await bench.store.read(log, after=after, limit=5)
            same(page.reach, after, "where nothing is, a page stays where it began")
    await bench.write("a", *range(1, 11))
    for after, limit, upto, reach in (
        (0, 3, None, 3),
        (0, 10, None, 10),
        (0, 99, None, 10),
        (0, 99, 6, 6),
        (0, 99, 60, 10),
        (4, 2, 6, 6),
        (5, 99, 3, 5),
        (10, 5, None, 10),
        (12, 5, None, 12),
        (4, 0, None, 4),
        (-1, 2, None, 2),
    ):
        page = await bench.store.read("a", after=after, limit=limit, upto=upto)
        same(page.reach, reach, f"the reach of {limit} after {after} up to {upto}")


@check()
async def check_reach_over_what_is_gone(bench: Bench) -> None:
    """What was removed or trimmed was looked through as well."""
    await bench.log("a")
    placed = await bench.write("a", *range(1, 11))
    await bench.store.remove("a", [place.id for place in placed[7:]])
    same((await bench.store.read("a", after=0, limit=99)).reach, 10, "nothing is left at the end")
    same((await bench.store.read("a", after=0, limit=7)).reach, 7, "a full page ends with its last message")
    await bench.store.trim("a", upto=5)
    page = await bench.store.read("a", after=0, limit=1)
    same((page.floor, page.reach), (5, 6), "a page goes on behind the floor")
    page = await bench.store.read("a", after=0, limit=9, upto=3)
    same((page.floor, page.reach, page.messages), (5, 3, []), "and does not exceed what was asked for")
    await bench.store.trim("a", upto=10)
    page = await bench.store.read("a", after=0, limit=1)
    same((page.floor, page.reach, page.last), (10, 10, 10), "a cleared log is looked through at once")


TOPICS = (
    None, "user", "user.login", "user.logout", "user.login.web", "order.paid", "a.b.c.d", "a-b.c_d",
    "a.x.b.y.c", "a.b.c", "USER.login", "userxlogin", "user.login.web.app",
)  # fmt: skip


@check()
async def check_topics(bench: Bench) -> None:
    """A read by topics returns the messages whose topic fits one of the patterns, each once, in order."""
    await bench.log("a")
    await bench.store.append([draft("a", topic, topic=topic) for topic in TOPICS])
    native = (
        "user", "user.login", "user.*", "user.>", "*", ">", "*.*", "*.login", "*.login.*", "*.login.>",
        "a.*.c", "a.*.*.d", "a-b.*", "nothing", "user.login.web.app.more", "*.*.*.>",
    )  # fmt: skip
    other = ("a.+.c", "+.c", "+.login.+", "=.login", "a.+.b.+.c", "+.+.+", "a.+")
    patterns = [Pattern.parse(text) for text in native]
    patterns += [Pattern.parse(text, "equals-plus") for text in other]
    sets = [[pattern] for pattern in patterns] + [patterns[:3], patterns[1:4], patterns[5:7], patterns]
    for topics in sets:
        expected = [topic for topic in TOPICS if topic and any(p.matches(topic) for p in topics)]
        found = await _all(bench, "a", topics, limit=100)
        same([stored.topic for stored in found], expected, f"what fits {[p.text for p in topics]}")
        same([value(stored) for stored in found], expected, "messages come whole")
    login = [Pattern.parse("user.login")]
    disguised = draft("a", type="user.login", key="user.login")._replace(sender_id="user.login")
    await bench.store.append([disguised, disguised._replace(topic="a.b")])
    same(len(await _all(bench, "a", login, limit=100)), 1, "nothing but the topic counts")


@check()
async def check_topics_in_pages(bench: Bench) -> None:
    """Who reads on after the reach gets each message that fits once, wherever pages end."""
    await bench.log("a")
    for start in range(0, 600, 200):
        topics = [
            "rare.one" if n % 97 == 0 else "often.one" if n % 2 else None for n in range(start, start + 200)
        ]
        await bench.store.append([draft("a", n, topic=topic) for n, topic in enumerate(topics, start)])
    rare, often = [n for n in range(600) if n % 97 == 0], [n for n in range(600) if n % 97 and n % 2]
    for texts, expected in (
        (["rare.*"], rare),
        (["often.>"], often),
        (["often.one", "rare.one"], sorted(rare + often)),
        (["*.none"], []),
    ):
        patterns = [Pattern.parse(text) for text in texts]
        for limit in (1, 50, 1000) if expected != sorted(rare + often) else (50,):
            found = await _all(bench, "a", patterns, limit=limit)
            same([value(stored) for stored in found], expected, f"pages of {limit} with {texts}")
    found = await _all(bench, "a", [Pattern.parse("rare.*")], limit=2, after=98, upto=292)
    same([value(stored) for stored in found], [194, 291], "after is open, upto is closed")


@check()
async def check_topics_and_retention(bench: Bench) -> None:
    """A read by topics tells of the floor, whatever went there, and goes on behind it."""
    await bench.log("a")
    await bench.store.append([draft("a", n, topic="x.y" if n % 10 else "rare") for n in range(1, 101)])
    rare = [Pattern.parse("rare")]
    await bench.store.trim("a", upto=45)
    page = await bench.store.read("a", after=0, limit=2, topics=rare)
    same((page.floor, page.last), (45, 100), "the floor and the end are the log's")
    same(
        [value(stored) for stored in await _all(bench, "a", rare, limit=2)], [50, 60, 70, 80, 90, 100], "rest"
    )
    await bench.store.trim("a", upto=100)
    page = await bench.store.read("a", after=60, limit=2, topics=rare)
    same((page.messages, page.floor, page.last, page.reach), ([], 100, 100, 100), "a cleared log")
    page = await bench.store.read("nobody", after=3, limit=2, topics=rare)
    same((page.messages, page.floor, page.last, page.reach), ([], 0, 0, 3), "an unknown log")


@check()
async def check_topics_of_a_queue(bench: Bench) -> None:
    """The messages of a queue are read by topics too, in every state."""
    await bench.queue("q")
    await bench.store.append([draft("q", n, topic="even" if n % 2 == 0 else "odd") for n in range(1, 8)])
    await bench.take("q", 3)
    for limit in (1, 2, 9):
        found = await _all(bench, "q", [Pattern.parse("even")], limit=limit)
        same([value(stored) for stored in found], [2, 4, 6], f"pages of {limit}")


async def _all(
    bench: Bench, log: str, topics: Sequence[Pattern], *, limit: int, after: int = 0, upto: int | None = None
) -> list[Stored]:
    """Return all that fits, page by page, and check what each page promises."""
    found: list[Stored] = []
    while True:
        page = await bench.store.read(log, after=after, limit=limit, upto=upto, topics=topics)
        assert len(page.messages) <= limit, "a page has no more messages than asked for"
        assert all(after < stored.sequence <= page.reach for stored in page.messages), "they lie in its reach"
        found += page.messages
        end = page.last if upto is None else min(upto, page.last)
        assert page.reach >= min(page.floor, end), "a page goes on behind the floor"
        assert page.reach <= end, "a page reaches no further than the end"
        if page.reach == end:
            return found
        assert page.reach > after, "every page goes further on"
        after = page.reach
