"""``python -m sssnbus`` is the same as ``sssnbus``."""

import sys

from sssnbus.cli import main

if __name__ == "__main__":
    sys.exit(main())
