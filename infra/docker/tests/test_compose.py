"""docker-compose.yml and what it mounts: valid, closed, pinned, and in step with the services."""

import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.docker.compose import COMPOSE_FILE, ROOT, Compose
from infra.docker.image import DOCKERFILE
from infra.docker.recipe import Recipe
from infra.local.settings import ROOMS
from libs.common.config import ServiceSettings

COMPOSE = Compose()
PROMETHEUS = yaml.safe_load((ROOT / "infra/prometheus/prometheus.yml").read_text())
ONCE = {"topics", "replica-set", "tools"}
LASTING = sorted(COMPOSE.services.keys() - ONCE)


def settings_of(room: str) -> type[ServiceSettings]:
    found: type[ServiceSettings] = getattr(
        importlib.import_module(f"services.{room}.settings"), f"{room.title()}Settings"
    )
    return found


def default(room: str, knob: str) -> Any:
    return settings_of(room).model_fields[knob].default


def run(*command: str | Path) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_it_follows_the_compose_specification() -> None:
    checker = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    assert run(*checker, COMPOSE_FILE) == ""


def test_the_dockerfile_has_nothing_to_lint() -> None:
    assert run(Path(sys.executable).with_name("hadolint"), DOCKERFILE) == ""


@pytest.mark.parametrize("service", COMPOSE.services)
def test_every_part_is_read_only_without_rights_and_bounded(service: str) -> None:
    part = COMPOSE.services[service]
    assert part["read_only"] is True
    assert part["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in part["security_opt"]
    assert part["deploy"]["resources"]["limits"].keys() >= {"cpus", "memory"}
    assert part["logging"]["options"].keys() >= {"max-size", "max-file"}
    assert "container_name" not in part


def test_only_the_gateway_and_grafana_are_reachable_or_can_reach_out() -> None:
    assert [name for name, part in COMPOSE.services.items() if "ports" in part] == ["gateway", "grafana"]
    assert [name for name, part in COMPOSE.services.items() if part["networks"] != ["inside"]] == ["gateway", "grafana"]
    assert COMPOSE.document["networks"]["inside"]["internal"] is True
    assert COMPOSE.services["gateway"]["ports"] == ["8080:8080"]


@pytest.mark.parametrize("service", LASTING)
def test_everything_that_stays_says_how_it_is_and_starts_again(service: str) -> None:
    part = COMPOSE.services[service]
    assert part["restart"] == "unless-stopped"
    if "build" in part:
        assert Recipe.read(DOCKERFILE).stage(part["build"]["target"], part["build"]["args"]).health
    else:
        assert part["healthcheck"].keys() >= {"test", "interval", "timeout", "retries", "start_period"}


def test_nothing_starts_before_what_it_stands_on_is_healthy_or_done() -> None:
    for name, part in COMPOSE.services.items():
        for other, need in part.get("depends_on", {}).items():
            expected = "service_completed_successfully" if other in ONCE else "service_healthy"
            assert need["condition"] == expected, f"{name} → {other}"


@pytest.mark.parametrize("room", ROOMS)
def test_services_start_after_the_topics_and_the_replica_set(room: str) -> None:
    needs = COMPOSE.services[room]["depends_on"].keys()
    assert "topics" in needs
    assert "replica-set" in needs or room == "gateway"


def test_every_image_from_elsewhere_is_pinned_to_one_version() -> None:
    images = {name: COMPOSE.image(name) for name, part in COMPOSE.services.items() if "build" not in part}
    assert [image for image in images.values() if not re.search(r":v?\d+\.\d+\.\d+$", image)] == []
    assert images["mongo"] == images["replica-set"]


@pytest.mark.parametrize("room", ROOMS)
def test_what_a_service_is_told_are_knobs_it_has(room: str) -> None:
    told = COMPOSE.environment(room).keys()
    assert {name for name in told if name.lower() not in settings_of(room).model_fields} == set()


@pytest.mark.parametrize("room", ROOMS)
def test_ports_and_addresses_are_those_the_services_have(room: str) -> None:
    assert COMPOSE.services[room]["build"]["args"]["PORT"] == str(default(room, "port"))
    for other in set(ROOMS) - {"gateway"}:
        told = COMPOSE.environment(room).get(f"{other.upper()}_URL")
        assert told in (None, f"http://{other}:{default(other, 'port')}")
        assert (told is not None) == (f"{other}_url" in settings_of(room).model_fields)


@pytest.mark.parametrize("room", ROOMS)
def test_ticket_keys_come_from_a_file_and_only_where_they_are_read(room: str) -> None:
    assert "TICKET_KEYS" not in COMPOSE.environment(room)
    reads = "ticket_keys" in settings_of(room).model_fields
    assert COMPOSE.services[room].get("secrets", []) == (["ticket_keys"] if reads else [])
    assert ("SECRETS_DIR" in COMPOSE.environment(room)) == reads


def test_prometheus_finds_every_copy_of_every_service_where_its_metrics_are() -> None:
    scraped = {
        job["job_name"]: job["dns_sd_configs"] for job in PROMETHEUS["scrape_configs"] if "dns_sd_configs" in job
    }
    inner = {room: default(room, "admin_port" if room == "gateway" else "port") for room in ROOMS}
    assert {room: (found["names"], found["type"], found["port"]) for room, (found,) in scraped.items()} == {
        room: ([room], "A", port) for room, port in inner.items()
    }


def test_grafana_finds_prometheus_and_its_dashboards_where_they_are_mounted() -> None:
    folder = ROOT / "infra/grafana/provisioning"
    (source,) = yaml.safe_load((folder / "datasources/prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((folder / "dashboards/stagedoor.yml").read_text())["providers"]
    assert source["url"] == "http://prometheus:9090"
    mounted = "/etc/stagedoor/grafana"
    assert f"./infra/grafana:{mounted}:ro" in COMPOSE.services["grafana"]["volumes"]
    assert COMPOSE.environment("grafana")["GF_PATHS_PROVISIONING"] == f"{mounted}/provisioning"
    assert provider["options"]["path"] == f"{mounted}/dashboards"


@pytest.mark.parametrize("image", [*ROOMS, "tools", "run"])
def test_what_ships_is_what_the_tests_ran_with(image: str) -> None:
    tested = (ROOT / "requirements/dev.txt").read_text().splitlines()
    assert set((ROOT / f"requirements/{image}.txt").read_text().splitlines()) <= set(tested)


@pytest.mark.parametrize("room", ROOMS)
def test_an_image_has_no_driver_that_its_service_does_not_use(room: str) -> None:
    packages = {line.split("==")[0] for line in (ROOT / f"requirements/{room}.txt").read_text().splitlines()}
    assert "aiokafka" in packages
    assert ("motor" in packages) == ("STORE_URL" in COMPOSE.environment(room))
    assert ("redis" in packages) == ("REDIS_URL" in COMPOSE.environment(room))
    assert "apsw" not in packages
