"""Packages and perhaps a measurement -> everything the report says, as JSON."""

import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trtbert.benchmark.names import names_of
from trtbert.package import MANIFEST, Package
from trtbert.report.compare import compare
from trtbert.report.graph import graph_facts
from trtbert.report.int8 import accuracy_facts, int8_facts
from trtbert.report.repeat import compile_command
from trtbert.report.stages import stage_facts
from trtbert.verification import MAX_TOKENS
from trtbert.version import __version__

FORMAT = 1


def report_facts(packages: Sequence[Package], measurement: Mapping[str, Any] | None, *, page: Path) -> dict[str, Any]:
    """`measurement` is what `benchmark` gives; None: it was not asked for. `page` is the file that the report is for."""
    named = zip(names_of([package.path for package in packages]), packages, strict=True)
    facts = [package_facts(package, name) for name, package in named]
    paths = [fact["path"] for fact in facts]
    return {
        "format": FORMAT,
        "made_by": f"trtbert {__version__}",
        "made_at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "measure_command": shlex.join(["trtbert", "report", *paths, "-o", str(page), "--measure", "--force"]),
        "packages": facts,
        "measurement": None if measurement is None else dict(measurement),
        "comparison": compare(facts, measurement) if len(facts) > 1 else None,
    }


def package_facts(package: Package, name: str) -> dict[str, Any]:
    manifest, model = package.manifest, package.manifest.model
    return {
        "name": name,
        "path": str(package.path),
        "architecture": model.architecture,
        "task": model.task,
        "num_layers": model.num_layers,
        "max_length": model.max_length,
        "labels": list(model.labels),
        "inputs": [tensor.model_dump(mode="json") for tensor in model.inputs],
        "outputs": [tensor.model_dump(mode="json") for tensor in model.outputs],
        "target": manifest.target,
        "runtime": manifest.runtime,
        "precision": manifest.precision,
        "is_build_kit": manifest.engine is None,
        "trtbert_version": manifest.trtbert_version,
        "versions": dict(manifest.versions),
        "profiles": [profile.model_dump() for profile in manifest.profiles],
        "notes": list(manifest.notes),
        "stages": stage_facts(manifest),
        "verification": {
            "num_texts": manifest.verification.num_texts,
            "num_batches": manifest.verification.num_batches,
            "max_tokens": min(model.max_length, MAX_TOKENS),
            "is_passed": bool(stages := manifest.verification.stages) and all(stage.is_passed for stage in stages),
            "unverified": list(manifest.verification.unverified),
        },
        "graph": graph_facts(manifest),
        "int8": int8_facts(package),
        "accuracy": accuracy_facts(manifest.quantization.budget if manifest.quantization else None),
        "source": manifest.source.model_dump(mode="json"),
        "files": _files(package),
        "bytes": sum(file["bytes"] for file in _files(package)),
        "commands": {"compile": compile_command(manifest, package.path), "verify": shlex.join(["trtbert", "verify", str(package.path)])},
    }


def _files(package: Package) -> list[dict[str, Any]]:
    listed = [(name, package.path / name, sha256) for name, sha256 in package.manifest.files.items()]
    return [
        {"name": name, "bytes": path.stat().st_size, "sha256": sha256}
        for name, path, sha256 in [*listed, (MANIFEST, Path(package.path, MANIFEST), None)]
    ]
