"""Shards -> what came of each, as they are done, computed by the workers that Ray runs."""

import json
import logging
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from types import FrameType
from typing import Any

from trtbert import errors
from trtbert.embed.config import EmbedConfig
from trtbert.embed.shards import Shard
from trtbert.embed.worker import Done, Failed, Work, Worker
from trtbert.errors import ConfigError, MissingRuntimeError

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # It would tell on stderr that a worker that may start again has arguments.
}
"""Of Ray, which reads it when it is imported; what is set already stays."""
_LOCAL_ENVIRONMENT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # It listens on 127.0.0.1 alone, on Linux as well.
    "RAY_worker_niceness": "0",  # Else 15, and what else runs on the machine would stop the workers.
}
"""Of a Ray that is started here."""
_CONNECT_SECONDS = 10.0
_END_SECONDS = 10.0
_OBJECT_STORE = 128 * 2**20
"""Shards and what came of them: no rows."""


@contextmanager
def connected(config: EmbedConfig) -> Iterator[None]:
    """Ray, as the options say; one that the caller has started already is used and left running.

    MissingRuntimeError for one that does not start here, of which nothing is left; ConfigError for a cluster that cannot be reached or
    used. SIGTERM, which Ray handles in ways of its own, ends the block with SystemExit.
    """
    if "ray" not in sys.modules:  # Else it has read its environment, and its processes must read the same.
        for name, value in (_ENVIRONMENT | (_LOCAL_ENVIRONMENT if config.address is None else {})).items():
            os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        yield
        return
    before, others = signal.getsignal(signal.SIGTERM), _processes()
    try:
        _start(config)
        _handle_sigterm(_exit)  # Ray's core takes it for a crash.
        yield
    finally:
        ours = _processes() - others if config.address is None else set()
        ray.shutdown()
        _end(ours)
        _handle_sigterm(before)


def _handle_sigterm(handler: Any) -> None:
    """In the main thread, the only one that may."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def _exit(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _processes() -> set[Any]:
    """Those of every Ray that this process started, whose sessions are named after it."""
    import psutil  # type: ignore[import-untyped]  # Ray brings it.

    found = set[psutil.Process]()
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if re.search(rf"/session_[\d_-]+_{os.getpid()}/", " ".join(child.cmdline())):
                found |= {child, *child.children(recursive=True)}
    return found


def _end(processes: set[Any]) -> None:
    """Whatever still runs: Ray forgets those of a start that failed, and those that are slow to end."""
    import psutil

    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=_END_SECONDS)


def _start(config: EmbedConfig) -> None:
    try:
        if config.address is not None and ":" in config.address:
            host, _, port = config.address.rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()  # Ray itself would try for minutes.
        with _no_stderr():
            _init(config)
    except SystemExit as end:
        if end.code == signal.SIGTERM:  # So ends Ray's own handler.
            raise SystemExit(128 + signal.SIGTERM) from end
        raise
    except Exception as error:  # Ray raises it as it is where time is up.
        words = str(error).rstrip(".")
        if config.address is None:
            raise MissingRuntimeError(
                f"Ray did not start on this machine: {words}. Run the command again with less beside it, or free memory and space in "
                "/tmp; Ray's logs are in /tmp/ray/session_latest/logs."
            ) from error
        raise ConfigError(f"No Ray cluster can be used at {config.address}: {words}. Check the address, or leave it out.") from error


def _init(config: EmbedConfig) -> None:
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if config.address is None:
        cpus = None if config.workers is None else config.workers * config.threads  # None: those of the machine, or of the container.
        ray.init("local", num_cpus=cpus, include_dashboard=False, object_store_memory=_OBJECT_STORE, **quiet)
    else:
        ray.init(config.address, **quiet)


@contextmanager
def _no_stderr() -> Iterator[None]:
    """Ray's core writes there, past Python, which log level it took. Errors are exceptions."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def count_workers(config: EmbedConfig, *, has_gpu: bool, num_shards: int) -> int:
    """As many as were asked for, or as there is room for; MissingRuntimeError where one, or those on this machine, cannot run.

    A cluster is let grow to what was asked for.
    """
    import ray

    resource, each = ("GPU", 1) if has_gpu else ("CPU", config.threads)
    found = int(ray.cluster_resources().get(resource, 0))  # type: ignore[no-untyped-call]
    num = min(config.workers or found // each or 1, num_shards)
    if num * each > found and (config.workers is None or config.address is None):
        raise MissingRuntimeError(
            f"Ray has {found} {resource}s, too few for {num} workers of {each} each; give fewer --workers or --threads, or more machines."
        )
    return num


def compute(shards: Sequence[Shard], work: Work, num_workers: int, *, has_gpu: bool) -> Iterator[Done]:
    """Each shard as it is done, in any order. The first error of ours is raised and ends the others.

    A worker that dies is started again, and its shard with it.
    """
    from ray import data

    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    items = [{"shard": json.dumps(asdict(shard))} for shard in shards]
    results = data.from_items(items, override_num_blocks=len(items)).map_batches(
        Worker,
        batch_size=1,
        compute=data.ActorPoolStrategy(size=num_workers, max_tasks_in_flight_per_actor=1),
        fn_constructor_args=(work,),
        num_cpus=work.threads,
        num_gpus=1 if has_gpu else 0,
    )
    for row in results.iter_rows():
        yield _result(json.loads(row["result"]))


def _result(found: dict[str, Any]) -> Done:
    if "message" in found:
        failed = Failed(**found)
        raise getattr(errors, failed.kind, errors.TrtbertError)(failed.message)
    return Done(**found)
