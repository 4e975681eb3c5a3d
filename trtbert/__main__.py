"""python -m trtbert, and the command `trtbert`."""

import sys

from trtbert.signals import interrupt_ends


def main() -> int:
    """The command line; one line is all that Ctrl-C shows, while its modules are imported as well."""
    with interrupt_ends():
        from trtbert import cli
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
