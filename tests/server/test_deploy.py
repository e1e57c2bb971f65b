"""The files in deploy/: valid by their schemas, and with commands that crossatnet takes."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from crossatnet.cli import main as cli
from crossatnet.server import run
from crossatnet.server.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE, KUBERNETES = ROOT / "deploy" / "compose.yaml", ROOT / "deploy" / "kubernetes.yaml"


def objects() -> dict[str, Any]:
    return {f"{each['kind']} {each['metadata']['name']}": each for each in yaml.safe_load_all(KUBERNETES.read_text())}


def test_the_compose_file_meets_the_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_the_objects_of_kubernetes_meet_its_schemas_strictly() -> None:
    for each in objects().values():
        kubernetes_validate.validate(each, kubernetes_validate.latest_version(), strict=True)


def test_the_objects_belong_together() -> None:
    found = objects()
    pod = found["Deployment crossatnet"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    service = found["Service crossatnet"]["spec"]
    assert service["selector"].items() <= pod["metadata"]["labels"].items()
    assert {port["targetPort"] for port in service["ports"]} == {port["name"] for port in container["ports"]}
    (rule,) = found["Ingress crossatnet"]["spec"]["rules"]
    assert {path["backend"]["service"]["port"]["name"] for path in rule["http"]["paths"]} == {"http"}
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert volumes.keys() == {mount["name"] for mount in container["volumeMounts"]}
    claims = [each["persistentVolumeClaim"]["claimName"] for each in volumes.values() if "emptyDir" not in each]
    assert {f"PersistentVolumeClaim {claim}" for claim in claims} <= found.keys()


def test_the_services_of_compose_belong_together() -> None:
    made = yaml.safe_load(COMPOSE.read_text())
    for service in made["services"].values():
        assert {*service.get("depends_on", ())} <= made["services"].keys()
        assert {*service["networks"]} <= made["networks"].keys()
        assert {each["source"] for each in service.get("configs", ())} <= made["configs"].keys()
    assert [name for name, service in made["services"].items() if "ports" in service] == ["proxy"]
    assert "inside" in made["services"]["milvus"]["networks"]
    assert made["networks"]["inside"]["internal"]
    argument = made["x-crossatnet"]["build"]["args"].keys()
    assert all(f"ARG {name}" in (ROOT / "Dockerfile").read_text() for name in argument)


def test_the_servers_are_started_as_crossatnet_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("0123456789abcdef")
    monkeypatch.setenv("CROSSATNET_TOKEN", "0123456789abcdef")
    started: list[Settings] = []
    monkeypatch.setattr(run, "serve", lambda settings, announce, open_browser: started.append(settings))
    (container,) = objects()["Deployment crossatnet"]["spec"]["template"]["spec"]["containers"]
    servers = yaml.safe_load(COMPOSE.read_text())["services"]["servers"]
    for command in (container["args"], servers["command"]):
        given = [argument.replace("/run/secrets/token", str(tmp_path / "token")) for argument in command]
        monkeypatch.setattr(sys, "argv", ["crossatnet", *given])
        with pytest.raises(SystemExit, match=r"^0$"):
            cli.main()
    assert [each.places[0].place.rpartition("/")[2] for each in started] == ["pictures", "pictures"]
    assert all(each.token and each.uploads == Path("/uploads") and each.host == "0.0.0.0" for each in started)
