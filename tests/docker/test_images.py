"""What the images promise, read from their files; docker/check-cpu-image builds one and runs it."""

import itertools
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
IMAGES = ("compile", "serve", "serve-gpu")
SERVERS = ("serve", "serve-gpu")


def instructions(name: str) -> list[tuple[str, str]]:
    """(word, rest) of each instruction, comments left out and lines joined."""
    text = re.sub(r"^\s*#.*\n", "", (DOCKER / f"{name}.Dockerfile").read_text(), flags=re.MULTILINE)
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def last_stage(name: str) -> list[tuple[str, str]]:
    steps = instructions(name)
    return steps[max(index for index, (word, _) in enumerate(steps) if word == "FROM") :]


@pytest.mark.parametrize("name", IMAGES)
def test_the_base_is_an_argument(name: str) -> None:
    steps = instructions(name)
    assert steps[0][0] == "ARG" and re.fullmatch(r"BASE_IMAGE=[a-z.]+/[\w/.-]+:[\w.-]+", steps[0][1])
    stages = [rest.split()[0] for word, rest in steps if word == "FROM"]
    assert len(stages) > 1 and set(stages) == {"${BASE_IMAGE}"}
    hosts = re.findall(r"https?://([\w.-]+)", (DOCKER / f"{name}.Dockerfile").read_text())
    assert set(hosts) <= {"127.0.0.1"}


@pytest.mark.parametrize("name", IMAGES)
def test_runs_as_nobody_in_particular(name: str) -> None:
    stage = last_stage(name)
    users = [rest for word, rest in stage if word == "USER"]
    assert users == ["10001:10001"]
    words = [word for word, _ in stage]
    assert not {"RUN", "COPY", "ADD"} & set(words[words.index("USER") :])  # Nothing it could write to is its own.
    environment = " ".join(rest for word, rest in stage if word == "ENV")
    assert "PYTHONDONTWRITEBYTECODE=1" in environment and "ORT_DISABLE_TELEMETRY=1" in environment


@pytest.mark.parametrize("name", IMAGES)
def test_versions_are_pinned_and_secrets_are_not_kept(name: str) -> None:
    installs = [rest for word, rest in instructions(name) if word == "RUN" and "pip install" in rest]
    assert len(installs) == 1 and "--constraint constraints.txt" in installs[0] and "--no-cache-dir" in installs[0]
    assert "--mount=type=secret,id=pip-conf,target=/etc/pip.conf" in installs[0]
    assert not any("index" in rest or "PIP_" in rest for word, rest in instructions(name) if word in ("ENV", "ARG"))


@pytest.mark.parametrize("name", IMAGES)
def test_what_is_copied_exists(name: str) -> None:
    copies = [shlex.split(rest)[:-1] for word, rest in instructions(name) if word == "COPY" and "--from" not in rest]
    sources = [source for copy in copies for source in copy]
    assert "constraints.txt" in sources and [source for source in sources if not (ROOT / source).exists()] == []
    stages = {rest.split()[-1] for word, rest in instructions(name) if word == "FROM" and " AS " in rest}
    froms = re.findall(r"COPY --from=(\S+)", (DOCKER / f"{name}.Dockerfile").read_text())
    assert froms and set(froms) <= stages


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_has_a_health_check(name: str) -> None:
    [check] = [rest for word, rest in last_stage(name) if word == "HEALTHCHECK"]
    assert "/v2/health/ready" in check and "--start-period" in check
    assert ("HEALTHCHECK", "NONE") in last_stage("compile")


@pytest.mark.parametrize("name", SERVERS)
def test_compose_hardens_the_servers(name: str) -> None:
    composed: Any = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    service = composed["services"][name]
    assert service["read_only"] is True and service["tmpfs"][0].startswith("/tmp:") and service["user"] == "10001:10001"
    assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"]
    assert "/v2/health/ready" in service["healthcheck"]["test"][-1]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert [volume["read_only"] for volume in service["volumes"]] == [True]
    assert (ROOT / "docker" / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    assert int(service["stop_grace_period"].removesuffix("s")) > 30  # --drain-timeout


@pytest.mark.parametrize("script", ["build.sh", "check-cpu-image"])
def test_scripts(script: str) -> None:
    assert subprocess.run(["bash", "-n", str(DOCKER / script)], check=False).returncode == 0
    if shutil.which("shellcheck"):
        done = subprocess.run(["shellcheck", str(DOCKER / script)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_build_names_what_it_builds() -> None:
    done = subprocess.run([str(DOCKER / "build.sh"), "nothing"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.startswith("usage: docker/build.sh serve|serve-gpu|compile")


@pytest.mark.parametrize(("options", "tags"), [([], ["trtbert:serve"]), (["--tag", "a:b"], ["a:b"]), (["-t", "a:b"], ["a:b"])])
def test_the_image_has_one_name(options: list[str], tags: list[str]) -> None:
    environment = {"PATH": os.environ["PATH"], "BUILDAH": "echo"}
    done = subprocess.run([str(DOCKER / "build.sh"), "serve", *options], capture_output=True, text=True, env=environment, check=True)
    words = done.stdout.split()
    assert [name for flag, name in itertools.pairwise(words) if flag in {"--tag", "-t"}] == tags


@pytest.mark.parametrize("file", sorted(path.name for path in DOCKER.iterdir()))
def test_nothing_of_a_machine(file: str) -> None:
    text = (DOCKER / file).read_text()
    assert not re.search(r"/(home|root|work)/|pypi\.|deb\.debian\.", text)
