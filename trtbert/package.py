"""A package folder: the manifest that describes it, written last and checked whole when it is opened."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pydantic_core
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from trtbert import staging
from trtbert.config import Pooling, Precision, Profile, Quantize, Runtime, Target
from trtbert.errors import InputError, MissingRuntimeError, PackageError
from trtbert.tasks import Task

FORMAT_VERSION: Literal[1] = 1
MANIFEST = "manifest.json"
HISTOGRAMS = "histograms.json"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TensorFacts(_Record):
    """Name, dtype (numpy's word) and shape of an input or output; a dimension is a size or a name such as "batch"."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class TokenizerFacts(_Record):
    """What a caller needs beside tokenizer.json: the tokenizer's files are copied into the package as they are read."""

    file: str = "tokenizer.json"
    pad_token_id: int
    pad_token_type_id: int = 0
    padding_side: Literal["left", "right"] = "right"
    mask_token_id: int | None = None
    vocab_size: int


class ModelFacts(_Record):
    """What the source model is, whatever it is built for."""

    architecture: str
    """The Hugging Face model_type, or "unknown" for a foreign .onnx with no config.json beside its tokenizer."""
    task: Task
    labels: tuple[str, ...] = ()
    activation: Literal["softmax", "sigmoid", "none"] = "none"
    """What the graph applies to the logits of a classifier."""
    max_length: int
    """Longest input in tokens, special tokens included."""
    num_layers: int | None
    tokenizer: TokenizerFacts
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]


class StageFigures(_Record):
    """How far the outputs of one stage are from the source model's on the verification batches."""

    stage: str
    max_error: float
    """Largest |difference| divided by the largest |output| of the source."""
    cosine: float
    """Smallest cosine over rows."""
    mean_cosine: float = 0.0
    squared_error: float = 0.0
    """Sum of |difference|^2 over all rows, as a share of that of the outputs."""
    label_agreement: float | None = None
    """Share of rows (tokens) with the same best label; None for tasks without labels."""
    is_passed: bool


class Verification(_Record):
    stages: tuple[StageFigures, ...]
    num_batches: int
    num_texts: int
    unverified: tuple[str, ...] = ()
    """What only hardware can show, each with the command that checks it."""


class Lowering(_Record):
    """What became of one fused node in the engine."""

    node: str
    op: str
    lowering: str
    reason: str | None = None
    """Why no plugin takes it, where plugins were asked for."""
    milliseconds: dict[str, float] = Field(default_factory=dict)
    """Measured time of each candidate on the building machine, empty where nothing was measured."""


class PluginLibrary(_Record):
    """The library that computes the plugins of an engine; its file is in the package."""

    name: str
    version: str
    sha256: str


class Packing(_Record):
    """Of an engine that computes no padding inside the encoder."""

    takes_left_padding: bool
    """False where the head reads a fixed position, such as the first token: that has to be one then."""


class Unfused(_Record):
    """A place where a fusion was expected or looked for and did not fire."""

    rule: str
    node: str
    reason: str


class Place(_Record):
    """A node that a fusion made, or that one was expected at."""

    part: str
    """Of the model: "embeddings", "layer 3" or "head"; "elsewhere" where another fusion took the node."""
    op: str
    node: str
    reason: str | None = None
    """Why it did not fire; None: it did."""


class QuantizedPart(_Record):
    """What became of one part of the encoder, most often a GEMM, in an INT8 engine."""

    part: str
    """Such as "layer 3 ffn up"."""
    is_int8: bool
    """False for one that was put back into float to keep the accuracy."""
    cost: float | None = None
    """Error of the model's outputs with this part alone in INT8: mean |difference|^2 / |output|^2; None where it was not measured."""
    tensor: str | None = None
    """Of a GEMM: its input in the graph, just before it is quantised as round((x - shift) / scale)."""
    threshold: float | None = None
    maximum: float | None = None
    """Largest |x| on the calibration texts; above the threshold it is clipped."""
    scale: float | None = None
    shift: float | None = None


class CalibrationTrial(_Record):
    """A way to calibrate that was tried, and the error that it gave on texts held back from calibration."""

    method: str
    is_smoothed: bool
    error: float


class Interval(_Record):
    """Where a figure lies with a confidence of 95 %, as far as the choice of the examples goes."""

    low: float
    high: float
    method: Literal["wilson", "tango", "bootstrap"]


class Budget(_Record):
    """The accuracy budget that was asked for, and how it was met; in percent points."""

    metric: str
    max_drop: float
    num_examples: int
    examples_sha256: str | None = None
    """Tells whether two packages were scored on the same examples; None for a package of before it was recorded."""
    float_score: float
    int8_score: float
    int8_interval: Interval | None = None
    """None for a metric that is no mean over the examples, and where nearly all examples have the same score."""
    drop_interval: Interval | None = None
    """Of float_score - int8_score, on the same examples; None likewise."""


DYNAMIC = "dynamic"
"""In place of a method: an LSTM quantises its inputs as they come, and needs no thresholds."""


class Quantization(_Record):
    """How an INT8 engine was calibrated."""

    preset: Quantize | None
    """None for a model of LSTMs."""
    method: str
    """Of the thresholds, or DYNAMIC."""
    is_smoothed: bool
    error: float
    """Of the outputs on the texts held back, as the parts are; measured as in the trials."""
    texts: str
    """The file of the calibration texts, or "built-in"."""
    num_texts: int
    """That thresholds were found on."""
    num_held_back: int
    trials: tuple[CalibrationTrial, ...]
    parts: tuple[QuantizedPart, ...]
    budget: Budget | None = None


class TensorHistogram(_Record):
    """How many |x| of a tensor lie in each of its bins of equal width, the first of which starts at 0."""

    bin_width: FiniteFloat
    counts: tuple[int, ...]


class Histograms(_Record):
    """What the calibrated tensors held on the calibration texts, by the names that the quantised parts have for them."""

    calibration_sha256: str
    """Of the calibration.cache that the thresholds are in."""
    tensors: dict[str, TensorHistogram]


class SourceFacts(_Record):
    """What the package was compiled from, so that `trtbert verify` can repeat the comparison."""

    path: str
    """The folder or .onnx file on the machine that compiled it."""
    sha256: str
    """Of the weight files."""
    tokenizer: str | None = None
    """The folder given with --tokenizer."""
    pooling: Pooling | Literal["auto"] = "auto"


class Manifest(_Record):
    format_version: Literal[1] = FORMAT_VERSION
    trtbert_version: str
    model: ModelFacts
    target: Target
    runtime: Runtime
    precision: Precision
    engine: str | None
    """File name of the engine, model.onnx or model.plan; None in a build kit, which has no engine yet."""
    onnx: str | None = None
    """In a build kit: the ONNX file that the engine is to be built from."""
    versions: dict[str, str]
    """Of everything that had a part in the build: onnxruntime, tensorrt, torch..."""
    compute_capability: str | None = None
    profiles: tuple[Profile, ...] = ()
    fusions: dict[str, int]
    unfused: tuple[Unfused, ...] = ()
    places: tuple[Place, ...] = ()
    """Every fusion that fired or was missed, in the order of the graph. Older packages have none, and no nodes and no options."""
    nodes: dict[str, dict[str, int]] = Field(default_factory=dict)
    """Nodes by type of the graph that each stage gave, and of an ONNX engine ("build")."""
    lowerings: tuple[Lowering, ...] = ()
    plugins: PluginLibrary | None = None
    """None where no node is a plugin, and in a build kit that holds the library's sources instead."""
    packing: Packing | None = None
    raced: dict[str, dict[str, float]] = Field(default_factory=dict)
    """Milliseconds of the runtimes that were timed for `--runtime auto`, by the shape of the batch; empty where there was no choice."""
    quantization: Quantization | None = None
    """Of an INT8 engine."""
    verification: Verification
    notes: tuple[str, ...] = ()
    """What the user should know: weights that flush to zero in FP16, GEMMs that were scaled..."""
    source: SourceFacts
    options: dict[str, Any] = Field(default_factory=dict)
    """The options of the compilation that are not the defaults, by the names of CompileConfig."""
    files: dict[str, str]
    """sha256 of every file of the package but this one."""


@dataclass(frozen=True)
class Package:
    """A package folder whose manifest was read and whose files were checked."""

    path: Path
    manifest: Manifest

    @property
    def engine_path(self) -> Path:
        """Raises MissingRuntimeError for a build kit, whose engine is yet to be built."""
        if self.manifest.engine is None:
            raise MissingRuntimeError(
                f"{self.path} is a build kit for {self.manifest.target}, with no engine yet. "
                f"On a machine with that GPU and {self.manifest.runtime}: trtbert build {self.path} -o PKG"
            )
        return self.path / self.manifest.engine

    @property
    def tokenizer_path(self) -> Path:
        return self.path / self.manifest.model.tokenizer.file

    @property
    def runtime(self) -> str:
        return self.manifest.runtime

    @property
    def target(self) -> str:
        return self.manifest.target

    @property
    def plugins(self) -> PluginLibrary | None:
        return self.manifest.plugins

    @property
    def versions(self) -> dict[str, str]:
        return self.manifest.versions

    @property
    def compute_capability(self) -> str | None:
        return self.manifest.compute_capability


def open_package(path: Path | str, *, check_hashes: bool = True) -> Package:
    """Read the manifest of the folder `path` and check every file it lists; nothing else in the folder is read.

    `check_hashes=False` skips reading the files through. Raises PackageError for whatever is not as the manifest says.
    """
    path = Path(path)
    if not os.path.isdir(path):  # noqa: PTH112  # Path.is_dir raises for a name that is too long.
        found = "it is a file" if os.path.isfile(path) else "there is no such folder"  # noqa: PTH113
        raise PackageError(f"{path} is no package: {found}. Give a folder that `trtbert compile` wrote.")
    manifest = _read_manifest(path)
    for name, sha256 in manifest.files.items():
        file = _listed_file(path, name)
        if check_hashes and _sha256(file) != sha256:
            raise PackageError(f"{name!r} in {path} was altered: its sha256 is not the one in {MANIFEST}. Compile the package again.")
    used = (manifest.engine, manifest.onnx, manifest.model.tokenizer.file)
    for used_name in used:
        if used_name is not None and used_name not in manifest.files:
            raise PackageError(f"{path / MANIFEST} does not list {used_name!r} among its files {sorted(manifest.files)}. Compile again.")
    return Package(path, manifest)


def write_package(folder: Path, manifest: Manifest) -> Manifest:
    """Write manifest.json, as the last file, with the sha256 of every file in `folder`; gives the manifest that was written."""
    files = {file.relative_to(folder).as_posix(): _sha256(file) for file in _files(folder)}
    manifest = manifest.model_copy(update={"files": dict(sorted(files.items()))})
    temporary = folder / f".{MANIFEST}"
    temporary.write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    temporary.rename(folder / MANIFEST)
    return manifest


def read_histograms(package: Package) -> Histograms | None:
    """None for a package that holds none: of floats, of LSTMs, or of before they were kept. Raises PackageError for a broken file."""
    if HISTOGRAMS not in package.manifest.files:
        return None
    try:
        return Histograms.model_validate_json((package.path / HISTOGRAMS).read_bytes())
    except (OSError, ValidationError) as error:
        raise PackageError(f"{package.path / HISTOGRAMS} does not hold histograms ({error}). Compile the package again.") from error


def check_outside(outputs: Sequence[Path]) -> None:
    """Raise InputError for an output that is a file of a package: even --force replaces none of these."""
    for output in outputs:
        for folder in filter(_is_package, output.resolve().parents):
            if output.resolve().relative_to(folder).as_posix() in (MANIFEST, *_read_manifest(folder).files):
                raise InputError(f"{output} is a file of the package {folder}, which needs it as it is. Choose another output.")


def staged(output: Path | str, force: bool = False) -> AbstractContextManager[Path]:
    """A folder to write a package in, renamed to `output` on success only; see `trtbert.staging.staged`."""
    return staging.staged(Path(output), force=force, is_replaceable=_is_package)


def check_package_output(output: Path, force: bool) -> None:
    """Raise InputError where `staged` would."""
    staging.check_output(output.resolve(), force, _is_package)


def _is_package(path: Path) -> bool:
    try:
        _read_manifest(path)
    except PackageError:
        return False
    return True


def _read_manifest(path: Path) -> Manifest:
    fields = _manifest_fields(path)
    if (version := fields.get("format_version")) != FORMAT_VERSION:
        raise PackageError(
            f"{path / MANIFEST} has format version {version!r}; this trtbert reads version {FORMAT_VERSION}. "
            "Compile the package again, or install the trtbert that wrote it."
        )
    try:
        return Manifest.model_validate(fields)
    except ValidationError as error:
        problems = "\n".join(f"  {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise PackageError(f"{path / MANIFEST} is not a manifest:\n{problems}\nCompile the package again.") from error


def _manifest_fields(path: Path) -> dict[str, Any]:
    file = path / MANIFEST
    if not _is_file(file):
        raise PackageError(f"{path} is no package: it holds no {MANIFEST}. Give a folder that `trtbert compile` wrote.")
    try:
        fields = pydantic_core.from_json(file.read_bytes())
        json.dumps(fields, allow_nan=False)  # JSON has no infinity and no NaN, in numbers such as 1e999 either
    except (OSError, ValueError) as error:
        raise PackageError(f"{file} cannot be read as JSON: {error}. Compile the package again.") from error
    if not isinstance(fields, dict):
        raise PackageError(f"{file} holds a JSON {type(fields).__name__}, not an object. Compile the package again.")
    return fields


def _listed_file(path: Path, name: str) -> Path:
    """The file `name` of the package; PackageError when the name leads out of the folder or there is no such file."""
    is_unsafe = not name or "\\" in name or "\0" in name or name.startswith("/") or not {".", ".."}.isdisjoint(name.split("/"))
    if is_unsafe:
        raise PackageError(f"{MANIFEST} of {path} names the file {name!r}; only plain relative names inside the folder are allowed.")
    file = path / name
    if not _is_file(file):
        raise PackageError(f"{path} is incomplete: the file {name!r} is missing. Copy the whole folder, or compile again.")
    if not file.resolve().is_relative_to(path.resolve()):
        raise PackageError(f"{name!r} in {path} is a link that leads out of the folder. Copy the file itself into the package.")
    return file


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113  # As above.


def _files(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        yield from (Path(parent, name) for name in names if Path(parent, name) != folder / MANIFEST)


def _sha256(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise PackageError(f"{file} cannot be read: {error.strerror}.") from error
