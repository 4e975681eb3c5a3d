"""A manifest -> the stages of its compilation: what each did, and how far its answers are from the source model's."""

from collections import Counter
from typing import Any

from trtbert.package import DYNAMIC, Manifest, Quantization

_STAGES = ("export", "rewrite", "calibrate", "precision", "build")


def stage_facts(manifest: Manifest) -> list[dict[str, Any]]:
    """Every stage in its order; `figures` is None for one that had nothing to do."""
    figures = {stage.stage: stage for stage in manifest.verification.stages}
    told = {
        "export": f"{manifest.model.architecture} for {manifest.model.task}, read as one float32 ONNX graph with the whole task in it",
        "rewrite": _rewrite(manifest),
        "calibrate": "nothing: no INT8 was asked for" if manifest.quantization is None else _calibrate(manifest.quantization),
        "precision": _precision(manifest),
        "build": _build(manifest),
    }
    return [
        {"stage": stage, "what": told[stage], "figures": None if stage not in figures else figures[stage].model_dump(exclude={"stage"})}
        for stage in _STAGES
    ]


def _rewrite(manifest: Manifest) -> str:
    fused = ", ".join(f"{count} {op}" for op, count in manifest.fusions.items() if count) or "nothing"
    return f"fused {fused}" + (f"; {len(manifest.unfused)} fusions did not fire" if manifest.unfused else "")


def _calibrate(facts: Quantization) -> str:
    num_int8 = sum(part.is_int8 for part in facts.parts)
    if facts.method == DYNAMIC:
        return f"{num_int8} of {len(facts.parts)} parts in INT8, whose inputs are quantised as they come"
    return (
        f"{num_int8} of {len(facts.parts)} parts in INT8 (preset {facts.preset}), thresholds by {facts.method}"
        f"{', smoothed' if facts.is_smoothed else ''}, from {facts.num_texts} texts"
    )


def _precision(manifest: Manifest) -> str:
    if manifest.target == "cpu":
        return "nothing: what is not INT8 stays in float32 on a CPU"
    if manifest.precision == "fp32":
        return "nothing: float32 was asked for"
    return f"a strongly typed {'fp16' if manifest.precision == 'int8' else manifest.precision} graph that cannot overflow"


def _build(manifest: Manifest) -> str:
    if manifest.engine is None:
        return f"a build kit: its engine for {manifest.target} is yet to be built by {manifest.runtime}"
    version = manifest.versions.get(manifest.runtime)
    lowered = Counter(item.lowering for item in manifest.lowerings)
    nodes = ", ".join(f"{count} {name}" for name, count in lowered.items())
    raced = "; the faster of " + " and ".join(manifest.raced) if manifest.raced else ""
    return f"{manifest.engine} for {manifest.runtime}{f' {version}' if version else ''}{raced}" + (
        f"; fused nodes became {nodes}" if nodes else ""
    )
