"""A package -> how it was calibrated: what each part costs, its threshold against the histogram of its input, and what stays in float."""

from typing import Any

from trtbert.package import Budget, Histograms, Package, Quantization, QuantizedPart, TensorHistogram, read_histograms


def int8_facts(package: Package) -> dict[str, Any] | None:
    """None for a package of floats."""
    facts = package.manifest.quantization
    if facts is None:
        return None
    histograms = read_histograms(package)
    return {
        "preset": facts.preset,
        "method": facts.method,
        "is_smoothed": facts.is_smoothed,
        "error": facts.error,
        "texts": facts.texts,
        "num_texts": facts.num_texts,
        "num_held_back": facts.num_held_back,
        "trials": [trial.model_dump() for trial in facts.trials],
        "parts": [part.model_dump() for part in facts.parts],
        "reverted": [part.part for part in facts.parts if not part.is_int8],
        "tensors": _tensors(facts, histograms) if histograms is not None else None,
    }


def accuracy_facts(budget: Budget | None) -> dict[str, Any] | None:
    return None if budget is None else budget.model_dump() | {"drop": budget.float_score - budget.int8_score}


def _tensors(facts: Quantization, histograms: Histograms) -> list[dict[str, Any]]:
    """Each calibrated tensor with the parts that read it; parts of one input have one threshold."""
    readers: dict[str, list[QuantizedPart]] = {}
    for part in facts.parts:
        if part.tensor in histograms.tensors and part.threshold is not None and part.maximum is not None:
            readers.setdefault(part.tensor, []).append(part)
    return [_tensor(name, parts, histograms.tensors[name]) for name, parts in readers.items()]


def _tensor(name: str, parts: list[QuantizedPart], histogram: TensorHistogram) -> dict[str, Any]:
    return {
        "tensor": name,
        "parts": [part.part for part in parts],
        "threshold": parts[0].threshold,
        "maximum": parts[0].maximum,
        "bin_width": histogram.bin_width,
        "counts": list(histogram.counts),
    }
