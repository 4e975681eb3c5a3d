"""The TensorRT plugins in NVIDIA's own registries, against ops.py; and the package that `cmake --install` makes of them."""

import json
from pathlib import Path

import pytest

from tests.machine import BUILD, need, run
from tests.plugins.conftest import SCRIPTS
from trtbert.ops import PLUGIN_OPS

OTHER_FIELD_TYPES = {"num_heads": "INT32", "head_size": "INT32", "num_kv_heads": "INT32", "approximate": "CHAR"}


def test_the_fields_are_those_of_ops(plugin_host: Path, emulated_plugins: Path, registry: Path) -> None:
    printed = run(plugin_host, "--fields", emulated_plugins, registry)
    assert printed.returncode == 0, printed.stderr
    creators = {creator["name"]: creator for creator in json.loads(printed.stdout)}
    assert set(creators) == set(PLUGIN_OPS)
    for name, op in PLUGIN_OPS.items():
        attributes = [*op.attributes, *op.grouped_attributes, *op.int8_attributes, *op.io_scales]
        assert creators[name]["fields"] == {attribute: OTHER_FIELD_TYPES.get(attribute, "FLOAT32") for attribute in attributes}
        assert list(creators[name]["fields"]) == attributes
        assert (creators[name]["version"], creators[name]["namespace"]) == ("1", "")


def test_every_plugin_lives_its_whole_life(plugin_host: Path, emulated_plugins: Path, registry: Path) -> None:
    lived = run(plugin_host, emulated_plugins, registry)
    assert lived.returncode == 0, lived.stdout + lived.stderr
    for name in PLUGIN_OPS:
        assert f"ok  {name}," in lived.stdout
    assert "kernels ran on the CPU" in lived.stdout


def test_the_host_names_the_check_that_fails(plugin_host: Path, emulated_kernels: Path, registry: Path) -> None:
    failed = run(plugin_host, emulated_kernels, registry)
    assert failed.returncode == 1
    assert "FAILED  the registry has no creator for FusedEmbedLayerNorm" in failed.stderr or "does not load" in failed.stderr


def test_only_the_entry_points_are_exported_and_tensorrt_is_not_linked(emulated_plugins: Path) -> None:
    need("nm")
    exported = {line.split()[-1] for line in run("nm", "-D", "--defined-only", emulated_plugins).stdout.splitlines()}
    assert {"getCreators", "setLoggerFinder"} < exported
    assert [name for name in exported - {"getCreators", "setLoggerFinder"} if not name.startswith(("trtbert_", "emulation_"))] == []
    assert "nvinfer" not in run("nm", "-D", "--undefined-only", emulated_plugins).stdout


def test_a_project_finds_and_links_the_installed_package(emulated: Path, emulated_plugins: Path, tmp_path: Path) -> None:
    installed = run("cmake", "--install", emulated, "--prefix", tmp_path / "installed")
    assert installed.returncode == 0, installed.stderr
    assert (tmp_path / "installed/lib/libtrtbert_plugins.so").is_file()
    assert (tmp_path / "installed/include/trtbert/capi.h").is_file()

    configured = run("cmake", "-S", "tests/plugins/consumer", "-B", tmp_path / "consumer", f"-DCMAKE_PREFIX_PATH={tmp_path / 'installed'}")
    if "Could NOT find CUDAToolkit" in configured.stderr:
        pytest.skip("a CUDA toolkit, which a program that calls the library needs, is not installed")
    assert configured.returncode == 0, configured.stderr
    built = run("cmake", "--build", tmp_path / "consumer")
    assert built.returncode == 0, built.stdout + built.stderr
    ran = run(tmp_path / "consumer" / "consumer")
    assert (ran.returncode, ran.stdout.split()[-1]) == (0, "0")


def test_missing_headers_are_said_with_the_script_that_fetches_them(tmp_path: Path) -> None:
    need("cmake", "c++", "make")
    refused = run("cmake", "--preset", "emulated", "-B", tmp_path)
    if "CUDA's headers were not found" in refused.stderr:
        pytest.skip("CUDA's headers are not installed")
    if refused.returncode == 0:
        pytest.skip("TensorRT's headers are installed on this machine")
    message = " ".join(refused.stderr.split())
    assert "TensorRT's headers were not found" in message and "Fetch them: plugins/scripts/fetch-tensorrt-headers" in message
    nowhere = run("cmake", "--preset", "emulated", "-B", tmp_path, f"-DTENSORRT_INCLUDE_DIR={tmp_path / 'nowhere'}")
    assert nowhere.returncode != 0 and f"TENSORRT_INCLUDE_DIRis'{tmp_path / 'nowhere'}'" in "".join(nowhere.stderr.split())


def test_a_fetched_folder_is_kept_and_another_folder_is_not_touched(emulated_plugins: Path, tmp_path: Path) -> None:
    headers = BUILD / "tensorrt-headers"
    before = (headers / "NvInfer.h").stat().st_ino
    assert run(SCRIPTS / "fetch-tensorrt-headers", headers).returncode == 0
    assert (headers / "NvInfer.h").stat().st_ino == before

    (tmp_path / "mine.txt").write_text("mine")
    refused = run(SCRIPTS / "fetch-tensorrt-headers", tmp_path)
    assert refused.returncode == 1
    assert (
        refused.stderr.strip() == f"{tmp_path} holds something else than what fetch-tensorrt-headers makes; give an empty or a new folder"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_lean_runtime_without_a_hash_is_refused(tmp_path: Path) -> None:
    refused = run(SCRIPTS / "fetch-tensorrt-lean", "9.0.0", tmp_path / "lean")
    assert refused.returncode == 2
    assert refused.stderr.strip() == "there is no hash for version 9.0.0; allowed are 10.16.1.11 and 11.4.0.106"
    assert not (tmp_path / "lean").exists()
