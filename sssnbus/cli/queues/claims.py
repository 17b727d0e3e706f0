"""``sssnbus claim``, ``ack``, ``nack``, ``extend``: messages that are held from one command to the next."""

from abc import ABC, abstractmethod
from argparse import ArgumentParser, ArgumentTypeError
from typing import TYPE_CHECKING

from sssnbus.cli.commands import Options
from sssnbus.cli.context import Context, opened, running
from sssnbus.cli.names import check_queue, resolve
from sssnbus.cli.output import as_json, fields, line, plain, write
from sssnbus.cli.parser import describe
from sssnbus.cli.problem import Problem
from sssnbus.cli.queues.handling import WORKER, is_there, queue_of, tidy

if TYPE_CHECKING:
    from sssnbus import Claim


class TakeForSomeTime:
    """Claims one message."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options of the command."""
        parser.add_argument("queue", help="the queue, or @ALIAS")
        parser.add_argument(
            "--for", dest="seconds", type=_span, required=True, metavar="SECONDS", help="how long to hold it"
        )
        parser.add_argument(
            "--json",
            action="store_true",
            help="print an object with message, timestamp, id, token and attempt",
        )
        describe(
            parser,
            "Take a message and print its id, a token and the message, with tabs between. Nobody else gets "
            "it until the time is over, even if its taker dies; then it can be read again. 'ack' with id and "
            "token says that it is done, 'nack' that it failed, 'extend' that it takes longer.",
            "sssnbus claim jobs --for 60",
            "sssnbus claim jobs --for 60 | while IFS=$'\\t' read -r id token job; do\n"
            '      work "$job" && sssnbus ack jobs "$id" "$token"\n'
            "  done",
            codes="0 printed, 1 error, 2 no message there",
        )

    def run(self, options: Options, context: Context) -> int:
        """Claim a message and print it."""
        check_queue(options.queue)
        return running(self._claim(context, options.queue, options.seconds, json=options.json))

    async def _claim(self, context: Context, operand: str, seconds: float, *, json: bool) -> int:
        async with opened(context) as bus:
            name = await resolve(bus, operand)
            if not await is_there(bus, name):
                return 2
            claim = await queue_of(bus, name, context.settings).hold(WORKER, seconds)
            if claim is None:
                return 2
            try:
                self._print(claim, json=json)
            except BaseException:
                # Nobody knows the token, so nobody could give it back.
                await claim.release()
                raise
        return 0

    def _print(self, claim: "Claim", *, json: bool) -> None:
        message = claim.message
        if json:
            line(as_json(fields(message) | {"token": claim.token, "attempt": claim.attempt}))
        else:
            write(f"{message.id}\t{claim.token}\t".encode() + plain(message) + b"\n")


class _Settling(ABC):
    """What the commands have in common that take up a claim."""

    description: str
    example: str

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options of the command."""
        parser.add_argument("queue", help="the queue, or @ALIAS")
        parser.add_argument("id", help="the message's id")
        parser.add_argument("token", help="the token that 'claim' printed")
        describe(
            parser,
            self.description,
            self.example,
            codes="0 done, 1 error, also when the claim has ended, 2 no such message",
        )

    def run(self, options: Options, context: Context) -> int:
        """Take up the claim and do with it what the command says."""
        check_queue(options.queue)
        return running(self._take_up(options, context))

    async def _take_up(self, options: Options, context: Context) -> int:
        from sssnbus import InvalidName, UnknownMessage

        async with opened(context) as bus:
            name = await resolve(bus, options.queue)
            unknown = Problem(f"queue {name!r} has no message {options.id}", status=2)
            if not await is_there(bus, name):
                raise unknown
            queue = queue_of(bus, name, context.settings)
            try:
                claim = await queue.resume(options.id, options.token)
            except UnknownMessage:
                raise unknown from None
            except InvalidName as error:
                raise Problem(f"invalid message ID: {error.rule}", code="INVALID_MESSAGE_ID") from None
            await self._settle(claim, options)
            await tidy(queue, context.settings, [claim.message])
        return 0

    @abstractmethod
    async def _settle(self, claim: "Claim", options: Options) -> None: ...


class Acknowledge(_Settling):
    """The work is done."""

    description = "A claimed message is done: it counts as consumed, and nobody gets it any more."
    example = "sssnbus ack jobs 1837025672140161024 3f1c5ad20b6a4c11-1"

    async def _settle(self, claim: "Claim", options: Options) -> None:
        await claim.ack()


class Fail(_Settling):
    """The work has failed."""

    description = (
        "A claimed message failed: it can be read again, after a pause if one is given, or goes to the dead "
        "letters after its last attempt."
    )
    example = "sssnbus nack jobs 1837025672140161024 3f1c5ad20b6a4c11-1 --delay 30"

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options of the command."""
        super().add_arguments(parser)
        parser.add_argument(
            "--delay",
            type=_pause,
            default=0.0,
            metavar="SECONDS",
            help="how long before it can be read again",
        )
        parser.add_argument("--error", metavar="TEXT", help="what went wrong, kept with the message")

    async def _settle(self, claim: "Claim", options: Options) -> None:
        await claim.nack(delay=options.delay, error=options.error)


class Extend(_Settling):
    """The work takes longer."""

    description = "Hold a claimed message for so many seconds from now on."
    example = "sssnbus extend jobs 1837025672140161024 3f1c5ad20b6a4c11-1 --for 60"

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options of the command."""
        super().add_arguments(parser)
        parser.add_argument(
            "--for",
            dest="seconds",
            type=_span,
            required=True,
            metavar="SECONDS",
            help="how long, from now on",
        )

    async def _settle(self, claim: "Claim", options: Options) -> None:
        await claim.extend(options.seconds)


claim, ack, nack, extend = TakeForSomeTime(), Acknowledge(), Fail(), Extend()


def _pause(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    # NaN fails this as well.
    if not 0 <= seconds < 1e9:
        raise ArgumentTypeError(f"{text!r} is no number of seconds from 0 to a billion")
    return seconds


def _span(text: str) -> float:
    seconds = _pause(text)
    if not seconds:
        raise ArgumentTypeError("a claim must last more than 0 seconds")
    return seconds
