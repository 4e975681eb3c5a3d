"""The order of the stages: a model folder or .onnx file -> a verified package folder."""

import gc
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from trtbert.builders import plugin_library, targets
from trtbert.builders.packing import check_packable
from trtbert.builders.plugins import PLUGIN
from trtbert.calibrate import plan_lstms
from trtbert.config import CompileConfig, LoweringName, Precision, Runtime
from trtbert.data import read_texts
from trtbert.engines import HALF, Prepared, build_engine, finish_kit
from trtbert.errors import InputError
from trtbert.export import find_source, load_source
from trtbert.ops import DOMAIN, FUSED_BIAS_GELU, FUSED_QKV_ATTENTION, FUSED_SKIP_LAYER_NORM
from trtbert.package import (
    DYNAMIC,
    Manifest,
    ModelFacts,
    Package,
    Place,
    Quantization,
    SourceFacts,
    Unfused,
    Verification,
    open_package,
    staged,
    write_package,
)
from trtbert.precision import convert
from trtbert.quantization import Progress, Quantized, quantize
from trtbert.rewrite import Rewritten, rewrite
from trtbert.runtime import open_runtime
from trtbert.verification import fits, verification_batches
from trtbert.verifier import Verifier
from trtbert.verify import Feeds
from trtbert.version import __version__

CALIBRATION_CACHE = "calibration.cache"
_IN_A_LAYER = {FUSED_QKV_ATTENTION.name: 1, FUSED_SKIP_LAYER_NORM.name: 2, FUSED_BIAS_GELU.name: 1}
_LIBRARIES = ("onnx", "onnxruntime", "onnxscript", "torch", "transformers")


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What is compiled, for what, and where: `folder` becomes the package, `scratch` is emptied on the way."""

    model: Path
    config: CompileConfig
    runtime: Runtime
    precision: Precision
    lowering: LoweringName
    folder: Path
    scratch: Path
    dump: Path | None
    on_stage: Callable[[str], None]
    on_progress: Progress


def _ignore(*_: object) -> None:
    """The default of `on_stage` and `on_progress`."""


def compile(
    model: Path | str,
    output: Path | str,
    config: CompileConfig | None = None,
    *,
    dump: Path | None = None,
    force: bool = False,
    on_stage: Callable[[str], None] = _ignore,
    on_progress: Progress = _ignore,
) -> Package:
    """Compile the folder or .onnx file `model` into the new package folder `output`, verified stage by stage.

    `dump` is a folder for the graph of each stage (01-export.onnx ...); `force` replaces a package that is there.
    `on_stage` is called with the name of each stage as it begins, `on_progress` with the steps of a long one. Raises a TrtbertError,
    and leaves no package, when the model cannot be read, is not supported, or a stage changes its answers. Where only the GPU of the
    target is missing, the MissingRuntimeError names the build kit that was written beside `output`.
    """
    config, output = config or CompileConfig(), Path(output)
    runtime, precision, lowering = resolve(config)
    if dump is not None:
        _make_dump_folder(dump, output)
    with staged(output, force) as folder:
        with tempfile.TemporaryDirectory(prefix=".scratch-", dir=folder) as scratch:
            job = _Job(
                model=Path(model),
                config=config,
                runtime=runtime,
                precision=precision,
                lowering=lowering,
                folder=folder,
                scratch=Path(scratch),
                dump=dump,
                on_stage=on_stage,
                on_progress=on_progress,
            )
            prepared = _prepare(job)
            on_stage("build")
            manifest = build_engine(prepared, folder, output, is_raced=_is_raced(config, prepared.manifest.quantization))
            if manifest.runtime == "onnxruntime":
                built = ir.load(folder / str(manifest.engine))
                manifest = manifest.model_copy(update={"nodes": manifest.nodes | {"build": _node_counts(built)}})
        write_package(folder, manifest)
    return open_package(output, check_hashes=False)


def resolve(config: CompileConfig) -> tuple[Runtime, Precision, LoweringName]:
    """What `auto` means on this machine; raises what can be told of the options before any work."""
    runtime, precision, lowering = targets.resolve(
        config.target, config.runtime, config.precision, config.lowering, is_packed=config.packed
    )
    if runtime != "tensorrt":  # which needs its GPU only for the last step; without it the rest becomes a build kit
        targets.check_available(config.target, runtime)
    if lowering == PLUGIN:
        plugin_library.check_obtainable(config.target)
    if config.calibration_data is not None:
        read_texts(config.calibration_data, column=config.text_column)
    if config.eval_data is not None:
        _check_examples(config.eval_data, config.text_column)
    return runtime, precision, lowering


def _check_examples(path: Path, column: str | None) -> None:
    """InputError for a file that cannot be used. Tagged sentences and questions have columns of their own, whatever the texts' is."""
    try:
        read_texts(path)
    except InputError:
        if column is None:
            raise
        read_texts(path, column=column)


def _is_raced(config: CompileConfig, quantization: Quantization | None) -> bool:
    """Whether OpenVINO may be faster: in INT8, and where it has the ops."""
    is_open = config.target == "cpu" and config.runtime == "auto"
    return is_open and quantization is not None and quantization.method != DYNAMIC


def _make_dump_folder(dump: Path, output: Path) -> None:
    if dump.resolve().is_relative_to(output.resolve()):
        raise InputError(f"--dump {dump} lies in the package {output}, which holds nothing but what is deployed; choose another folder.")
    try:
        dump.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--dump {dump} cannot be made a folder: {error.strerror}. Choose another one.") from error


def build(kit: Path | str, output: Path | str, *, force: bool = False) -> Package:
    """Build the engine of a build kit on this machine, into the new package folder `output`."""
    opened = open_package(kit)
    if opened.manifest.onnx is None:
        raise InputError(
            f"{kit} is no build kit: its engine {opened.manifest.engine!r} is built already, and runs: trtbert predict {kit} TEXT. Give a "
            "kit, which `trtbert compile` writes where the GPU of its target is missing."
        )
    with staged(output, force) as folder:
        for name in opened.manifest.files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(opened.path / name, folder / name)
        write_package(folder, finish_kit(opened.manifest, folder))
    return open_package(output, check_hashes=False)


def _prepare(job: _Job) -> Prepared:
    """The stages that are the same for every engine."""
    job.on_stage("export")
    config, path = job.config, find_source(job.model)
    source = load_source(path, config, job.folder)
    facts, fingerprint, model = source.facts, source.fingerprint, source.model
    profiles = targets.resolve_profiles(config.profiles, facts.max_length)
    batches = verification_batches(job.folder / facts.tokenizer.file, facts)
    verifier = Verifier(source, batches, job.scratch, job.dump)
    del source  # and with it the torch model
    gc.collect()
    verifier.check("export", model)
    job.on_stage("rewrite")
    rewritten = rewrite(model, architecture=facts.architecture, num_layers=facts.num_layers, allow_unfused=config.allow_unfused)
    verifier.check("rewrite", rewritten.model)
    nodes = {"export": _node_counts(model), "rewrite": _node_counts(rewritten.model)}
    if config.packed:
        check_packable(rewritten.model, config.target, facts.tokenizer)
    model, notes, quantization = _lower_precision(job, rewritten.model, facts, fingerprint["sha256"], batches, verifier)
    if model is not rewritten.model:
        nodes[verifier.stages[-1].stage] = _node_counts(model)
    manifest = Manifest(
        trtbert_version=__version__,
        model=facts,
        target=config.target,
        runtime=job.runtime,
        precision=job.precision,
        engine=None,
        versions={name: version for name, version in fingerprint.items() if name in _LIBRARIES},
        profiles=profiles,
        fusions=rewritten.fusions,
        unfused=rewritten.unfused,
        places=tuple(_places(rewritten)),
        nodes=nodes,
        quantization=quantization,
        verification=verifier.verification(),
        notes=notes,
        source=_source_facts(path, config, fingerprint["sha256"]),
        options=_options(config),
        files={},
    )
    return Prepared(model=model, manifest=manifest, lowering=job.lowering, is_packed=config.packed, verifier=verifier)


def _lower_precision(
    job: _Job, model: ir.Model, facts: ModelFacts, source_sha256: str, batches: Sequence[Feeds], verifier: Verifier
) -> tuple[ir.Model, tuple[str, ...], Quantization | None]:
    """The graph in INT8 and in half precision, as far as they were asked for, with the notes and what the manifest says of INT8."""
    notes, quantization, precision = tuple[str, ...](), None, job.precision
    if precision == "int8":
        if plan_lstms(model.graph):
            targets.check_int8_lstms(job.config.target, job.runtime)
        job.on_stage("calibrate")
        quantized = _quantize(job, model, facts, source_sha256)
        model, notes, quantization = quantized.model, quantized.notes, quantized.facts
        verifier.check("calibrate", model, precision=precision)
    half = HALF[precision] if job.config.target != "cpu" else None
    if half is not None:
        job.on_stage("precision")
        converted = convert(model, half, batches)
        model, notes = converted.model, notes + converted.notes
        verifier.check("precision", model, precision=precision, is_half=True)
    return model, notes, quantization


def _node_counts(model: ir.Model) -> dict[str, int]:
    """By type, the most frequent first; a fused node counts as one."""
    counts = Counter(f"{node.domain}::{node.op_type}" if node.domain else node.op_type for node in model.graph.all_nodes())
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _places(rewritten: Rewritten) -> Iterator[Place]:
    """Fused nodes and misses in the order of the graph; each layer begins with its attention, and no layer has more than _IN_A_LAYER."""
    misses: dict[str, list[Unfused]] = {}
    for miss in rewritten.unfused:
        misses.setdefault(miss.node, []).append(miss)
    layer, seen = -1, Counter[str]()
    for node in rewritten.model.graph:
        found = [(miss.rule, miss.reason) for miss in misses.pop(str(node.name), [])]
        for op, reason in [(node.op_type, None), *found] if node.domain == DOMAIN else found:
            if op == FUSED_QKV_ATTENTION.name:
                layer, seen = layer + 1, Counter()
            seen[op] += 1
            is_head = layer >= 0 and seen[op] > _IN_A_LAYER.get(op, 0)
            part = "embeddings" if layer < 0 else "head" if is_head else f"layer {layer}"
            yield Place(part=part, op=op, node=str(node.name), reason=reason)
    for miss in (miss for missed in misses.values() for miss in missed):  # of nodes that another fusion took
        yield Place(part="elsewhere", op=miss.rule, node=miss.node, reason=miss.reason)


def _options(config: CompileConfig) -> dict[str, Any]:
    """As JSON, with paths that hold wherever the command is repeated."""
    given = config.model_dump(mode="json", exclude_defaults=True)
    paths = {name: value for name in given if isinstance(value := getattr(config, name), Path)}
    return given | {name: str(path.resolve()) for name, path in paths.items()}


def _source_facts(path: Path, config: CompileConfig, sha256: str) -> SourceFacts:
    tokenizer = None if config.tokenizer is None else str(config.tokenizer.resolve())
    return SourceFacts(path=str(path.resolve()), sha256=sha256, tokenizer=tokenizer, pooling=config.pooling)


def _quantize(job: _Job, model: ir.Model, facts: ModelFacts, source_sha256: str) -> Quantized:
    return quantize(
        model,
        facts,
        job.folder / facts.tokenizer.file,
        job.config,
        source_sha256=source_sha256,
        cache=job.folder / CALIBRATION_CACHE,
        on_progress=job.on_progress,
    )


def verify_package(
    path: Path | str, model: Path | str | None = None, *, tokenizer: Path | None = None, on_stage: Callable[[str], None] = _ignore
) -> Verification:
    """Compare the package's engine on this machine with its source model, on the batches of the compilation.

    `model` and `tokenizer` are where the source lies now; by default where it was compiled from.
    Raises VerificationError where the answers differ, InputError where `model` is not what the package was compiled from.
    """
    opened = open_package(path)
    manifest = opened.manifest
    on_stage("engine")
    runtime = open_runtime(opened)  # first: where the GPU is missing, no work is lost
    on_stage("source model")
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(model or manifest.source.path)
        if not model.exists():
            raise InputError(f"The source model {model} is not there (any more); say where it is: trtbert verify {path} MODEL")
        if tokenizer is None and manifest.source.tokenizer is not None:
            tokenizer = Path(manifest.source.tokenizer)
        config = CompileConfig(task=manifest.model.task, tokenizer=tokenizer, pooling=manifest.source.pooling)
        source = load_source(model, config, Path(scratch))
        if source.fingerprint["sha256"] != manifest.source.sha256:
            raise InputError(f"{path} was not compiled from {model}: the weights there have another sha256. Give the model it came from.")
        batches = [feeds for feeds in verification_batches(opened.tokenizer_path, manifest.model) if fits(feeds, manifest)]
        verifier = Verifier(source, batches, Path(scratch), None)
        on_stage("comparison")
        verifier.check_runner("engine", runtime.run, precision=manifest.precision)
    return verifier.verification()
