"""python -m trtbert, and the command `trtbert`."""

import sys

from trtbert.cli import main

if __name__ == "__main__":
    sys.exit(main())
