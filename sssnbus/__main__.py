"""``python -m sssnbus``, and the command that is installed."""

import sys


def main() -> int:
    """Run the command line and return its exit code."""
    try:
        # Not before: while it is imported, nobody else could take a Ctrl-C without a traceback.
        from sssnbus.cli import main as run

        return run()
    except KeyboardInterrupt:
        print("\nsssnbus: interrupted", file=sys.stderr)
        return 0


if __name__ == "__main__":
    sys.exit(main())
