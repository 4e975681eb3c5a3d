"""python -m trtbert, and the command `trtbert`."""

import sys


def main() -> int:
    """The command line; one line is all that Ctrl-C shows, while its modules are imported as well."""
    try:
        from trtbert import cli

        return cli.main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
