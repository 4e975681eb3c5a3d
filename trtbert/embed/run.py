"""Inputs, package and options -> a folder of files with answers; a run that was killed goes on where it was."""

from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

from trtbert.embed import unfinished
from trtbert.embed.cluster import compute, connected, count_workers
from trtbert.embed.config import EmbedConfig
from trtbert.embed.inputs import InputFile, check_unchanged, find_inputs
from trtbert.embed.plan import Plan, identify, make_plan
from trtbert.embed.summary import summarize
from trtbert.embed.unfinished import Unfinished
from trtbert.embed.worker import Work
from trtbert.package import Package, open_package

OnProgress = Callable[[str, int, int | None], None]
"""Told what is done, how far it is, and of how much."""


def _silent(what: str, num_done: int, num: int | None) -> None:
    pass


def embed(
    inputs: Sequence[str], output: Path, config: EmbedConfig, *, force: bool = False, on_progress: OnProgress = _silent
) -> dict[str, Any]:
    """The summary that OUTPUT/_SUCCESS.json holds too.

    Raises InputError and ConfigError, before any work, for inputs, options or an output that cannot be used, and whatever opening the
    package and predicting raise; finished files stay in OUTPUT.partial then.
    """
    output = output.resolve()
    unfinished.check(output, force)
    package = open_package(config.package.resolve())
    package.engine_path  # noqa: B018  # A build kit has none, and says so.
    files = find_inputs(inputs, output)
    identity = identify(files, package, config)
    with unfinished.opened(output) as folder:
        plan = unfinished.resume(folder, identity, force)
        if plan is None:
            on_progress("checking the input", 0, None)
            plan = make_plan(identity, package, config)
            unfinished.save(folder, plan)
        _complete(folder, plan, package, config, on_progress)
        return _finish(folder, plan, files, config, output)


def _complete(folder: Unfinished, plan: Plan, package: Package, config: EmbedConfig, on_progress: OnProgress) -> None:
    """Compute the shards that are missing."""
    missing = [shard for shard in plan.shards if shard.name not in folder.done]
    if not missing:
        return
    folder.prepare()
    on_progress("starting", 0, None)
    has_gpu = package.manifest.target != "cpu"
    work = Work(
        package=package.path,
        digest=plan.identity.package,
        threads=config.threads,
        texts=plan.texts,
        schema=plan.schema,
        answers=plan.answers,
        output_schema=plan.output_schema,
        format=config.format,
        folder=folder.path,
        scratch=folder.scratch,
    )
    with connected(config):
        num_workers = count_workers(config, has_gpu=has_gpu, num_shards=len(missing))
        started, new = monotonic(), 0
        for done in compute(missing, work, num_workers, has_gpu=has_gpu):
            folder.note(done, num_workers)
            new += done.rows
            speed = new / (monotonic() - started)
            on_progress(f"{speed:.0f} rows/s", sum(shard.rows for shard in folder.done.values()), plan.rows)


def _finish(folder: Unfinished, plan: Plan, files: Sequence[InputFile], config: EmbedConfig, output: Path) -> dict[str, Any]:
    check_unchanged(files)
    summary = summarize(plan, folder.done, folder.past, config.cost_per_hour)
    folder.finish(summary, output)
    return summary
