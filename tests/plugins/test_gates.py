"""Each gate lets a good kernel pass, and says of a bad one what was found and what is allowed."""

import dataclasses
from typing import Any

import pytest

from plugins.tools.kernel_report import gates
from plugins.tools.kernel_report.kernel import Kernel, short_name

GOOD = Kernel(
    source="fused_qkv_attention",
    architecture=75,
    name="attention_half_kernel<fp16, 64>",
    registers=64,
    stack=0,
    spill_stores=0,
    spill_loads=0,
    shared=16384,
    threads=128,
    instructions={"HMMA.1688.F32": 32, "LDG.E.128.SYS": 8, "LDS.U.128": 4},
    conflicts={"LDS.U.128 1 a.cuh:1": 4},
)


def test_a_good_kernel_passes() -> None:
    assert gates.breaches([GOOD]) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"spill_stores": 8, "spill_loads": 16}, "spills 8 bytes and reads 16 back; allowed is none"),
        ({"stack": 32}, "has 32 bytes of stack and 0 accesses to local memory; allowed is none"),
        ({"instructions": {**GOOD.instructions, "LDL.64": 3}}, "has 0 bytes of stack and 3 accesses to local memory"),
        ({"instructions": {**GOOD.instructions, "LD.E": 36}}, "has 36 generic loads and stores (LD, ST); allowed is none"),
        ({"threads": 0}, "has no __launch_bounds__"),
        ({"shared": 40000}, "occupancy of 12% with 128 threads of 64 registers and 40000 bytes of shared memory; allowed is 25% or more"),
        ({"source": "fused_bias_gelu", "registers": 160}, "allowed is 50% or more"),
        ({"name": "kernel<fp16, 64>"}, "does not tell its type by its name"),
        ({"source": "fused_bias_gelu", "name": "bias_gelu_kernel<8>"}, "does not tell its type by its name"),
        ({"instructions": {"LDG.E": 1, "IMMA.8816.S8.S8": 1}}, "has no HMMA; fp16 products must be on tensor cores since sm_70"),
        ({"name": "attention_int8_kernel<fp16, 64>"}, "has no IMMA; int8 products must be on tensor cores since sm_75"),
        ({"instructions": {"HMMA.1688.F32": 1, "EXIT": 1}}, "reads and writes nothing; allowed is that only below sm_70"),
        ({"source": "fused_bias_gelu", "name": "bias_gelu_kernel<fp16, fp16, fp16, 8, true>"}, "has no STG of 128 bits"),
        (
            {"conflicts": {"LDS 1 a.cuh:1": 9, "STS.64 4 a.cuh:7": 2}},
            "conflicts in shared memory: 2 x STS.64 4-way at a.cuh:7; allowed is",
        ),
        ({"untraced": {"LDS unmodeled F2I": 6}}, "has 40% of its accesses to shared memory traced; 50% or more are needed"),
    ],
)
def test_a_bad_kernel_is_told(change: dict[str, Any], sentence: str) -> None:
    found = gates.breaches([dataclasses.replace(GOOD, **change)])
    assert any(sentence in breach for breach in found), found
    assert all(breach.startswith(f"{change.get('source', GOOD.source)}: {change.get('name', GOOD.name)} on sm_75: ") for breach in found)


def test_a_kernel_for_newer_architectures_may_be_empty() -> None:
    empty = dataclasses.replace(GOOD, name="attention_half_kernel<bf16, 64>", instructions={"EXIT": 1}, conflicts={})
    assert gates.breaches([empty]) == []
    assert gates.breaches([dataclasses.replace(empty, architecture=80)]) != []


def test_short_name() -> None:
    demangled = "void trtbert::layer_norm_kernel<trtbert::(anonymous namespace)::EmbedInput<__half, 8>, signed char, 32, true>(long, long)"
    assert short_name(demangled) == "layer_norm_kernel<EmbedInput<fp16, 8>, int8, 32, true>"
