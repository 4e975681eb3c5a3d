"""The manifests are what Kubernetes takes, and say what the server's flags, the commands and the application say."""

import shlex
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import ray
import yaml
from ray.serve.schema import ServeDeploySchema

from trtbert import cli
from trtbert.serve.config import ServeConfig, read_config
from trtbert.serve.endpoints import ENDPOINTS

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
Manifest = dict[str, Any]


def manifests(name: str) -> dict[str, Manifest]:
    """By their kind."""
    return {manifest["kind"]: manifest for manifest in yaml.safe_load_all((FOLDER / name).read_text())}


def pod_templates() -> dict[str, Manifest]:
    """Every pod that is described, by file and container."""
    found = [("serve.yaml", manifests("serve.yaml")["Deployment"]["spec"]["template"])]
    job, service = manifests("ray-job.yaml")["RayJob"]["spec"], manifests("ray-service.yaml")["RayService"]["spec"]
    for name, cluster in (("ray-job.yaml", job["rayClusterSpec"]), ("ray-service.yaml", service["rayClusterConfig"])):
        found += [(name, group["template"]) for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]
    return {f"{name} {template['spec']['containers'][0]['name']}": template for name, template in found}


PODS = pod_templates()
KINDS = ("Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget")


@pytest.mark.parametrize("kind", KINDS)
def test_schemas(kind: str) -> None:
    kubernetes_validate.validate(manifests("serve.yaml")[kind], kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("name", PODS)
def test_pods(name: str) -> None:
    pod = PODS[name]["spec"]
    as_pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod}
    kubernetes_validate.validate(as_pod, kubernetes_validate.latest_version(), strict=True)
    container = pod["containers"][0]
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 10001
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["requests"]["memory"] and container["resources"]["limits"]["memory"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert any(mount["mountPath"] == "/tmp" for mount in container["volumeMounts"])


def test_the_server_is_asked_as_it_answers() -> None:
    found = manifests("serve.yaml")
    pod = found["Deployment"]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    parsed = cli._parse(container["args"])
    config = read_config({name: getattr(parsed, name) for name in ServeConfig.model_fields if getattr(parsed, name, None) is not None}, {})
    assert container["ports"] == [{"name": "http", "containerPort": config.port}] and config.host == "0.0.0.0"
    assert found["Service"]["spec"]["ports"][0]["targetPort"] == "http"
    public = {endpoint.path for endpoint in ENDPOINTS if endpoint.is_public}
    probes = {kind: container[kind]["httpGet"] for kind in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {probe["path"] for probe in probes.values()} == public
    assert probes["readinessProbe"]["path"].endswith("ready") and all(probe["port"] == "http" for probe in probes.values())
    assert (
        str(config.workers * (config.threads or 0)) == container["resources"]["requests"]["cpu"] == container["resources"]["limits"]["cpu"]
    )
    drain = container["lifecycle"]["preStop"]["sleep"]["seconds"] + config.drain_timeout + 2 + 10  # serve/worker.py, serve/supervisor.py
    assert drain < pod["terminationGracePeriodSeconds"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert config.api_key_file is not None and config.api_key_file.is_relative_to(mounts["api-keys"])
    assert all(path.is_relative_to(mounts["packages"]) for path in parsed.packages)


def test_the_parts_belong_together() -> None:
    found = manifests("serve.yaml")
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert found["Deployment"]["spec"]["selector"]["matchLabels"] == labels == found["Service"]["spec"]["selector"]
    assert found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert found["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == found["Deployment"]["metadata"]["name"]
    assert "replicas" not in found["Deployment"]["spec"]


def test_the_job_runs_embed() -> None:
    spec = manifests("ray-job.yaml")["RayJob"]["spec"]
    parsed = cli._parse(shlex.split(spec["entrypoint"])[1:])
    assert parsed.address == "auto" and spec["backoffLimit"] > 0
    cluster = spec["rayClusterSpec"]
    assert cluster["rayVersion"] == ray.__version__ and cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    group = cluster["workerGroupSpecs"][0]
    cpus = int(group["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"])
    assert parsed.workers * parsed.threads == group["maxReplicas"] * cpus
    for pod in (pod for name, pod in PODS.items() if name.startswith("ray-job")):
        mounts = {mount["name"]: mount["mountPath"] for mount in pod["spec"]["containers"][0]["volumeMounts"]}
        assert parsed.package.is_relative_to(mounts["packages"])
        assert all(Path(path).is_relative_to(mounts["data"]) for path in (*parsed.inputs, parsed.output))


def test_the_service_runs_the_application() -> None:
    spec = manifests("ray-service.yaml")["RayService"]["spec"]
    config = ServeDeploySchema.model_validate(yaml.safe_load(spec["serveConfigV2"]))
    (application,) = config.applications
    module, _, name = application.import_path.partition(":")
    built = getattr(__import__(module, fromlist=[name]), name)(application.args)
    (deployment,) = application.deployments
    assert deployment.name == built._bound_deployment.name
    workers = spec["rayClusterConfig"]["workerGroupSpecs"][0]
    environment = {item["name"]: item["value"] for item in workers["template"]["spec"]["containers"][0]["env"]}
    options = read_config({}, environment)
    assert options.threads == deployment.ray_actor_options.num_cpus
    assert options.api_key_file is not None
    assert deployment.autoscaling_config["max_replicas"] == workers["maxReplicas"]
    assert deployment.graceful_shutdown_timeout_s > options.timeout
