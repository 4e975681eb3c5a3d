"""`trtbert serve` as an application of Ray Serve: the same APIs, limits and batching in each replica, and replicas as the load asks for.

serve run trtbert.serve.ray_app:app packages=/packages/my-embedder

The options are those of `trtbert serve`, as environment variables: TRTBERT_SERVE_MAX_TOKENS. Ray Serve takes the place of its socket,
processes and drain, so that host, port, workers and the timeouts of connections mean nothing here.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray import serve
from ray.serve import Application
from starlette.types import ASGIApp

from trtbert.errors import ConfigError
from trtbert.serve.app import NO_ENDPOINT, App
from trtbert.serve.config import read_config
from trtbert.serve.endpoints import ENDPOINTS
from trtbert.serve.metrics import Metrics
from trtbert.serve.models import load_models
from trtbert.serve.service import Service, threads_of
from trtbert.serve.supervisor import name_packages

_MAX_REPLICAS = 4
_TARGET_REQUESTS = 8
"""Requests that a replica has open when it is well used: more start another one."""


class Replica:
    """One process with its own copy of the models; Ray Serve calls all of it in one event loop."""

    async def __init__(self, paths: list[str]) -> None:  # type: ignore[misc]  # Ray Serve awaits it.
        packages, config = name_packages([Path(path) for path in paths]), read_config({}, os.environ)
        names = [NO_ENDPOINT, *dict.fromkeys(endpoint.name for endpoint in ENDPOINTS)]
        models = load_models(packages, threads_of(config))
        self._service = Service(packages, models, config, Metrics(names, list(packages), 1), 0)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        return App(self._service)

    async def __del__(self) -> None:
        """Ray Serve awaits it once the replica has no open request."""
        self._service.is_draining = True
        await self._service.close()


def app(arguments: Mapping[str, Any]) -> Application:
    """`packages`: folders, separated by commas, each served under its name. `cpus` of a replica (1), `max_replicas` (4)."""
    paths = [path for path in str(arguments.get("packages", "")).split(",") if path]
    unknown = sorted(arguments.keys() - {"packages", "cpus", "max_replicas"})
    if unknown or not paths:
        raise ConfigError(f"The application takes packages=PKG[,PKG], cpus=N and max_replicas=N, got {unknown or 'no packages'}.")
    deployment = serve.deployment(
        name="trtbert",
        ray_actor_options={"num_cpus": float(arguments.get("cpus", 1))},
        max_ongoing_requests=1024,
        autoscaling_config={
            "min_replicas": 1,
            "max_replicas": int(arguments.get("max_replicas", _MAX_REPLICAS)),
            "target_ongoing_requests": _TARGET_REQUESTS,
        },
    )(serve.ingress()(Replica))
    return deployment.bind(paths)
