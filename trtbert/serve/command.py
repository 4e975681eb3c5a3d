"""`trtbert serve`: its flags, and what it runs."""

import argparse
import os
import sys
from typing import Any

from trtbert.errors import MissingRuntimeError
from trtbert.flags import add_flags, given, to_path
from trtbert.serve.config import NO_FLAGS, ServeConfig, read_config


def add_serve(commands: Any) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        "serve",
        help="packages -> HTTP server",
        description="Answer HTTP requests with one or several packages, each under the name of its folder, until SIGTERM; "
        "SIGHUP loads them anew. Every flag is an environment variable as well: --port is TRTBERT_SERVE_PORT.",
        epilog="example:\n  trtbert serve my-package --port 8000 --workers 2",
    )
    command.add_argument("packages", type=to_path, nargs="+", metavar="PKG")
    add_flags(command, ServeConfig, without=NO_FLAGS)
    command.set_defaults(command=_serve)
    return command


def _serve(parsed: argparse.Namespace) -> None:
    config = read_config(given(parsed, ServeConfig), os.environ)
    try:
        from trtbert.serve.logs import set_up_logs
        from trtbert.serve.supervisor import serve
    except ModuleNotFoundError as error:
        raise MissingRuntimeError(f"The server needs {error.name!r}, which is not installed: pip install 'trtbert[serve]'") from error
    set_up_logs(is_verbose=parsed.verbose)
    if code := serve(parsed.packages, config):
        sys.exit(code)
