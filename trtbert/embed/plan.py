"""Inputs, package and options -> the shards of a run, and what tells whether a run that was begun is the same one."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from trtbert.embed import csv_source, jsonl_source, parquet_source
from trtbert.embed.answers import answer_fields, text_columns
from trtbert.embed.config import EmbedConfig
from trtbert.embed.inputs import InputFile
from trtbert.embed.shards import Cut, Shard, name_shards
from trtbert.embed.sinks import check_format
from trtbert.package import MANIFEST, Package
from trtbert.version import __version__

SOURCES = {".csv": csv_source, ".jsonl": jsonl_source, ".parquet": parquet_source}


class Identity(NamedTuple):
    """All that the output follows from."""

    inputs: list[dict[str, Any]]
    package: str
    """sha256 of its manifest, which holds those of its files."""
    options: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    identity: Identity
    texts: tuple[str, ...]
    """The column of the texts, and of pairs that of the second ones."""
    schema: pa.Schema
    """Of the input."""
    answers: pa.Schema
    """The columns that come after it."""
    shards: list[Shard]

    @property
    def rows(self) -> int:
        return sum(shard.cut.rows for shard in self.shards)

    @property
    def output_schema(self) -> pa.Schema:
        return pa.schema([*self.schema, *self.answers], metadata=self.schema.metadata)


def identify(inputs: Sequence[InputFile], package: Package, config: EmbedConfig) -> Identity:
    texts = text_columns(config, package.manifest.model.task)
    options = {"text columns": list(texts), "prefix": config.prefix, "format": config.format, "rows per file": config.rows_per_file}
    return Identity([asdict(file) for file in inputs], package_digest(package.path), options | {"trtbert": __version__})


def package_digest(path: Path) -> str:
    return hashlib.sha256((path / MANIFEST).read_bytes()).hexdigest()


def make_plan(identity: Identity, package: Package, config: EmbedConfig) -> Plan:
    """Read the inputs once; InputError for whatever a worker could not use."""
    texts = text_columns(config, package.manifest.model.task)
    paths = [file["path"] for file in identity.inputs]
    schema, cuts = SOURCES[Path(paths[0]).suffix.lower()].scan(paths, texts, config.rows_per_file)
    check_format(schema, config.format)
    fields = answer_fields(package.manifest.model, config, schema)
    cuts = cuts or [Cut(paths[0], 0, 0)]  # No rows make one file of no rows.
    return Plan(identity, texts, schema, pa.schema(fields), name_shards(cuts, config.format))


def differences(old: Identity, new: Identity) -> list[str]:
    """What is no longer as it was, in words."""
    was, now = ({file["path"]: file for file in identity.inputs} for identity in (old, new))
    changed = [f"{path} is new" for path in now if path not in was] + [f"{path} is missing" for path in was if path not in now]
    changed += [f"{path} changed" for path in now if path in was and was[path] != now[path]]
    if not changed and old.inputs != new.inputs:
        changed = ["the inputs come in another order"]
    changed += ["the package is another"] if old.package != new.package else []
    return changed + [
        f"{name} was {old.options.get(name)!r} and is {value!r}" for name, value in new.options.items() if old.options.get(name) != value
    ]


def to_json(plan: Plan) -> str:
    schemas = {"schema": _encode(plan.schema), "answers": _encode(plan.answers)}
    return json.dumps({"identity": plan.identity._asdict(), "texts": plan.texts, **schemas, "shards": [asdict(s) for s in plan.shards]})


def from_json(text: str) -> Plan:
    """What `to_json` wrote; raises ValueError, KeyError or TypeError for anything else."""
    found: Mapping[str, Any] = json.loads(text)
    shards = [Shard(shard["name"], Cut(**shard["cut"])) for shard in found["shards"]]
    return Plan(Identity(**found["identity"]), tuple(found["texts"]), _decode(found["schema"]), _decode(found["answers"]), shards)


def _encode(schema: pa.Schema) -> str:
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


def _decode(text: str) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))
