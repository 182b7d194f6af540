import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer
from ruamel.yaml import YAML

from service.cli import app
from service.settings import Settings, load_settings, variable

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "k8s"
FILES = sorted(path for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml")
KUSTOMIZATION: dict[str, Any] = YAML(typ="safe").load(FOLDER / "kustomization.yaml")
ROLES = ("api", "worker", "scheduler")
KNOWN = {variable(name) for name in Settings.model_fields}

Resource = dict[str, Any]


def documents(path: Path) -> list[Resource]:
    return list(YAML(typ="safe").load_all(path))


RESOURCES = [resource for path in FILES for resource in documents(path)]


def of(kind: str) -> dict[str, Resource]:
    return {r["metadata"]["name"]: r for r in RESOURCES if r["kind"] == kind}


def pods() -> Iterator[tuple[str, Resource]]:
    """Every pod template, by the name of what makes it."""
    for kind in ("Deployment", "Job"):
        for name, resource in of(kind).items():
            yield name, resource["spec"]["template"]


PODS = dict(pods())


def container(name: str) -> Resource:
    found = PODS[name]["spec"]["containers"]
    assert len(found) == 1
    return dict(found[0])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_schema_accepts_it(path: Path) -> None:
    for resource in documents(path):
        kubernetes_validate.validate(
            json.loads(json.dumps(resource)), kubernetes_validate.latest_version(), strict=True
        )


def test_everything_but_the_examples_is_applied() -> None:
    listed = set(KUSTOMIZATION["resources"])
    assert listed == {path.name for path in FILES if ".example." not in path.name}


def test_everything_lives_in_one_namespace() -> None:
    namespaces = of("Namespace")
    assert list(namespaces) == [KUSTOMIZATION["namespace"]]
    for resource in RESOURCES:
        if resource["kind"] != "Namespace":
            assert resource["metadata"]["namespace"] in namespaces, resource["metadata"]["name"]


def test_each_role_has_a_deployment_and_the_api_three_replicas() -> None:
    deployments = of("Deployment")
    assert set(deployments) == {f"offbeat-{role}" for role in ROLES}
    replicas = {name: d["spec"]["replicas"] for name, d in deployments.items()}
    assert replicas == {"offbeat-api": 3, "offbeat-worker": 2, "offbeat-scheduler": 2}


@pytest.mark.parametrize("name", PODS)
def test_its_command_is_one_of_the_program(name: str) -> None:
    args = container(name)["args"]
    assert name == f"offbeat-{args[0]}"
    assert args[0] in typer.main.get_command(app).commands


@pytest.mark.parametrize("name", PODS)
def test_it_is_confined(name: str) -> None:
    pod, box = PODS[name]["spec"], container(name)
    assert pod["automountServiceAccountToken"] is False
    assert pod["serviceAccountName"] in of("ServiceAccount")
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert box["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert set(box["resources"]) == {"requests", "limits"}
    assert {"cpu", "memory"} <= set(box["resources"]["requests"])
    assert "memory" in box["resources"]["limits"]


@pytest.mark.parametrize("name", PODS)
def test_it_can_write_where_the_program_writes(name: str) -> None:
    volumes = {v["name"]: v for v in PODS[name]["spec"]["volumes"]}
    mounts = {m["mountPath"]: m for m in container(name)["volumeMounts"]}
    assert {m["name"] for m in mounts.values()} == set(volumes)
    for path in ("/data", "/tmp"):
        assert "emptyDir" in volumes[mounts[path]["name"]]


@pytest.mark.parametrize("name", PODS)
def test_its_image_is_pinned(name: str) -> None:
    image, _, tag = container(name)["image"].partition(":")
    assert (image, tag) == ("offbeat", KUSTOMIZATION["images"][0]["newTag"])
    assert tag != "latest"


@pytest.mark.parametrize("role", ROLES)
def test_it_is_probed_on_its_own_port(role: str) -> None:
    box = container(f"offbeat-{role}")
    port = of("ConfigMap")["offbeat-settings"]["data"][
        "OFFBEAT_PORT" if role == "api" else "OFFBEAT_HEALTH_PORT"
    ]
    ports = {p["name"]: p["containerPort"] for p in box["ports"]}
    for probe, path in (
        ("startup", "/healthz"),
        ("liveness", "/healthz"),
        ("readiness", "/readyz"),
    ):
        get = box[f"{probe}Probe"]["httpGet"]
        assert get["path"] == path
        assert ports[get["port"]] == int(port)
    annotations = PODS[f"offbeat-{role}"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == port
    assert annotations["prometheus.io/path"] == "/metrics"


@pytest.mark.parametrize("name", PODS)
def test_every_reference_leads_somewhere(name: str) -> None:
    maps, secrets = of("ConfigMap"), of("Secret")
    box = container(name)
    for source in box.get("envFrom", []):
        if "configMapRef" in source:
            assert source["configMapRef"]["name"] in maps
        else:
            assert source["secretRef"]["name"] in secrets
    for item in box.get("env", []):
        if "valueFrom" in item:
            ref = item["valueFrom"]["secretKeyRef"]
            assert ref["key"] in secrets[ref["name"]]["stringData"]
    for volume in PODS[name]["spec"]["volumes"]:
        if "configMap" in volume:
            data = maps[volume["configMap"]["name"]]["data"]
            assert {item["key"] for item in volume["configMap"]["items"]} <= set(data)
        if "persistentVolumeClaim" in volume:
            assert volume["persistentVolumeClaim"]["claimName"] in of("PersistentVolumeClaim")


def test_every_variable_is_known_to_the_settings() -> None:
    names = set(of("ConfigMap")["offbeat-settings"]["data"])
    names |= set(of("Secret")["offbeat-secrets"]["stringData"])
    for name in PODS:
        names |= {item["name"] for item in container(name).get("env", [])}
    assert names <= KNOWN, names - KNOWN


def test_the_values_are_valid_and_the_secret_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in of("ConfigMap")["offbeat-settings"]["data"].items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert settings.public_url == "https://offbeat.example.com"
    for name, value in of("Secret")["offbeat-secrets"]["stringData"].items():
        assert value == "" or "replace-me" in value, f"{name} looks like a real secret"


def test_selectors_match_the_labels_of_pods() -> None:
    labels = [pod["metadata"]["labels"] for pod in PODS.values()]

    def chosen(wanted: dict[str, str]) -> int:
        return sum(wanted.items() <= have.items() for have in labels)

    for deployment in of("Deployment").values():
        own = deployment["spec"]["template"]["metadata"]["labels"]
        wanted = deployment["spec"]["selector"]["matchLabels"]
        assert wanted.items() <= own.items()
        assert chosen(wanted) == 1, "a deployment must not choose another's pods"
        for spread in deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]:
            assert spread["labelSelector"]["matchLabels"] == wanted
    for service in of("Service").values():
        assert chosen(service["spec"]["selector"]) == 1
    for budget in of("PodDisruptionBudget").values():
        assert chosen(budget["spec"]["selector"]["matchLabels"]) == 1
    for policy in of("NetworkPolicy").values():
        assert chosen(policy["spec"]["podSelector"].get("matchLabels", {}))


def test_every_deployment_has_a_disruption_budget_that_lets_nodes_drain() -> None:
    budgets = of("PodDisruptionBudget")
    for name, deployment in of("Deployment").items():
        budget = budgets[name]["spec"]
        assert budget["selector"] == deployment["spec"]["selector"]
        assert budget.get("minAvailable", 0) < deployment["spec"]["replicas"]


def test_the_service_the_ingress_and_the_autoscaler_reach_the_api() -> None:
    service = of("Service")["offbeat-api"]
    named = {p["name"] for p in container("offbeat-api")["ports"]}
    assert service["spec"]["ports"][0]["targetPort"] in named
    backend = of("Ingress")["offbeat"]["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
    assert backend["name"] == "offbeat-api"
    assert backend["port"]["name"] in {p["name"] for p in service["spec"]["ports"]}
    scaler = of("HorizontalPodAutoscaler")["offbeat-api"]["spec"]
    assert scaler["scaleTargetRef"]["name"] == "offbeat-api"
    assert scaler["minReplicas"] == of("Deployment")["offbeat-api"]["spec"]["replicas"]


def test_models_are_shared_by_those_that_write_and_read_them() -> None:
    where = of("ConfigMap")["offbeat-settings"]["data"]["MODEL_STORE"]
    assert of("PersistentVolumeClaim")["offbeat-models"]["spec"]["accessModes"] == ["ReadWriteMany"]
    for role in ("worker", "scheduler"):
        mounts = {m["mountPath"]: m["name"] for m in container(f"offbeat-{role}")["volumeMounts"]}
        volumes = {v["name"]: v for v in PODS[f"offbeat-{role}"]["spec"]["volumes"]}
        claim = volumes[mounts[where]]["persistentVolumeClaim"]["claimName"]
        assert claim == "offbeat-models"


def test_the_network_is_closed_but_for_what_the_service_needs() -> None:
    policies = {name: p["spec"] for name, p in of("NetworkPolicy").items()}
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    ports = {
        name: {port["port"] for rule in spec.get("egress", []) for port in rule["ports"]}
        for name, spec in policies.items()
    }
    assert ports["allow-dns"] == {53}
    assert ports["allow-stores"] == {6379, 5432}
    assert ports["allow-notifications"] == {443, 25, 465, 587}
    assert "offbeat-scheduler" in PODS
    sender = policies["allow-notifications"]["podSelector"]["matchLabels"]
    assert sender["app.kubernetes.io/component"] == "scheduler"
    for rule in policies["allow-notifications"]["egress"]:
        for peer in rule["to"]:
            if peer["ipBlock"]["cidr"] == "0.0.0.0/0":
                assert "169.254.0.0/16" in peer["ipBlock"]["except"]


def test_the_shipped_rules_are_good_rules(tmp_path: Path) -> None:
    from service.rules.loader import RulesFile

    path = tmp_path / "alert_rules.yaml"
    path.write_text(of("ConfigMap")["offbeat-rules"]["data"]["alert_rules.yaml"])
    assert RulesFile(path, 900.0).load().rules


def test_documentation_names_only_files_that_exist() -> None:
    text = (ROOT / "docs" / "deployment.md").read_text()
    for name in set(re.findall(r"`k8s/([\w.-]+\.yaml)`", text)):
        assert (FOLDER / name).exists() or name == "ingress.yaml", name
