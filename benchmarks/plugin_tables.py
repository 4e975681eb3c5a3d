"""Times of engines and kernels -> Markdown tables."""

from collections.abc import Iterable, Mapping

from contenders import Timing
from engine_times import LOWERINGS, NATIVE, Batch, Times
from kernel_times import Case
from roofline import Card, judge
from tables import markdown

ENGINE_HEADINGS = ("batch x tokens", "rows", "engine", "GPU ms", "p10-p90", "wall ms", "p10-p90", "GPU of native")
KERNEL_HEADINGS = (
    "kernel",
    "type",
    "shape",
    "µs",
    "p10-p90",
    "GB/s",
    "of the copy",
    "TFLOP/s",
    "of the peak",
    "bound by",
    "of the roof",
    "PyTorch µs",
    "of PyTorch",
)
DASH = "-"


def engine_table(times: Mapping[Batch, Mapping[str, Times]]) -> str:
    """A row for each batch and engine; the last column is the median over the rounds of its GPU time divided by the native one's."""
    rows = []
    for batch, row in times.items():
        for name in LOWERINGS:
            gpu, wall = row[name].gpu, row[name].wall
            shape, kind = f"{batch.num_rows} x {batch.length}", "mixed lengths" if batch.is_mixed else "full"
            share = f"{gpu.share_of(row[NATIVE].gpu):.2f}"
            rows.append((shape, kind, name, *_median_and_span(gpu, 1, 3), *_median_and_span(wall, 1, 3), share))
    return markdown(ENGINE_HEADINGS, rows)


def kernel_table(timings: Iterable[tuple[Case, Timing, Timing | None]], card: Card) -> str:
    """A row for each kernel, type and shape, PyTorch's time beside it; shares: of the copy, the peak, the shortest time."""
    rows = []
    for case, timing, baseline in timings:
        verdict = judge(case.work, card, timing.percentile(50) / 1e3)
        peak = card.ops_per_second(case.work.dtype) if case.work.num_ops else None
        speed = f"{verdict.ops_per_second / 1e12:.1f}" if case.work.num_ops else DASH
        of_peak = f"{verdict.ops_per_second / peak:.0%}" if peak else DASH
        bandwidth, of_copy = f"{verdict.bytes_per_second / 1e9:.0f}", f"{verdict.bytes_per_second / card.bytes_per_second:.0%}"
        numbers = (*_median_and_span(timing, 1e3, 1), bandwidth, of_copy, speed, of_peak, verdict.bound, f"{verdict.share:.0%}")
        median = timing.percentile(50)
        beside = (DASH, DASH) if baseline is None else (f"{baseline.percentile(50) * 1e3:.1f}", f"{median / baseline.percentile(50):.2f}")
        rows.append((case.kernel, case.dtype, case.shape, *numbers, *beside))
    return markdown(KERNEL_HEADINGS, rows)


def card_line(card: Card) -> str:
    return (
        f"{card.name}, sm{card.compute_capability}, {card.num_multiprocessors} SMs, {card.clock_hz / 1e9:.2f} GHz; "
        f"copy in its memory {card.bytes_per_second / 1e9:.0f} GB/s (measured, read and written)"
    )


def _median_and_span(timing: Timing, factor: float, digits: int) -> tuple[str, str]:
    low, median, high = (f"{timing.percentile(percent) * factor:.{digits}f}" for percent in (10, 50, 90))
    return median, f"{low}-{high}"
