"""`python -m avatar_stream` is `avatar-stream`."""

import sys

from avatar_stream.cli import main

if __name__ == "__main__":
    sys.exit(main())
