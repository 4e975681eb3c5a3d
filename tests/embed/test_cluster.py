"""A cluster of two nodes on this machine, of which a worker and then a whole node are killed mid-way."""

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import ray
from ray.cluster_utils import Cluster

from tests.embed.conftest import Packages
from tests.embed.rows import make_rows, read_rows, write_rows
from tests.numerics import assert_close
from trtbert.embed.config import EmbedConfig
from trtbert.embed.run import embed
from trtbert.predictor import load

pytestmark = pytest.mark.slow

ROWS, PER_FILE = 12000, 200


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    running = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False})
    try:
        yield running
    finally:
        running.shutdown()


def _workers() -> list[psutil.Process]:
    """The processes of this test that hold a package, by their node."""
    family = psutil.Process().children(recursive=True)
    return [member for member in family if member.is_running() and "MapWorker" in " ".join(member.cmdline())]


def test_killed_workers_cost_no_row(cluster: Cluster, package: Packages, tmp_path: Path) -> None:
    node = cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20)
    rows = make_rows(ROWS)
    source = write_rows(tmp_path / "in.parquet", rows, row_group=1000)
    config = EmbedConfig(package=package("sentence-similarity"), rows_per_file=PER_FILE, workers=2, address=cluster.address)
    steps: list[int] = []
    nodes: list[int] = []
    dead: list[int] = []

    def on_progress(_what: str, num_done: int, num: int | None) -> None:
        if num is None:
            return
        steps.append(num_done)
        if len(steps) == 5:
            nodes.append(sum(node["Alive"] for node in ray.nodes()))
            victim = _workers()[0]
            dead.append(victim.pid)
            victim.send_signal(signal.SIGKILL)
        if len(steps) == 15:
            cluster.remove_node(node, allow_graceful=False)

    summary = embed([str(source)], tmp_path / "out", config, on_progress=on_progress)
    assert nodes == [2] and not psutil.pid_exists(dead[0])
    assert steps == sorted(set(steps)) and steps[-1] == ROWS
    assert summary["rows"] == ROWS and len(summary["files"]) == ROWS // PER_FILE
    found = read_rows(tmp_path / "out")
    assert [{"id": row["id"], "text": row["text"]} for row in found] == rows
    vectors = np.array([row["embedding"] for row in found], np.float32)
    assert_close(vectors, load(config.package).encode([row["text"] for row in rows]))
    assert not list((tmp_path / "out").glob("_scratch*"))
