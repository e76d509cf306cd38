"""The experiments as files: Chaos Toolkit takes each, each says all that a run needs, and can be skipped by name."""

import re
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from chaoslib import substitute
from chaoslib.configuration import load_configuration
from chaoslib.experiment import ensure_experiment_is_valid

from libs.common.errors import ConfigError
from libs.common.events.topics import TOPICS
from loadtest.chaos import probes, target
from loadtest.chaos.actions import disk, place
from loadtest.chaos.files import FOLDER, STEADY_STATE, Experiment, all_experiments, chosen, read

PATHS = sorted(FOLDER.glob("*.yaml"))
NAMES = [path.stem for path in PATHS]
SEEDS = range(24)


@pytest.fixture(params=PATHS, ids=NAMES)
def experiment(request: pytest.FixtureRequest) -> Experiment:
    return read(request.param)


def edited(folder: Path, **changes: Any) -> Path:
    """A copy of one experiment whose terms are changed."""
    content = a_kill()
    content["extensions"][0].update(changes)
    return written(folder, content)


def a_kill() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((FOLDER / "F04-redis-killed.yaml").read_text())
    return content


def written(folder: Path, content: dict[str, Any]) -> Path:
    path = folder / "edited.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_every_row_of_the_matrix_has_an_experiment() -> None:
    assert {experiment.terms.fault for experiment in all_experiments()} == {f"F{row}" for row in range(1, 21)}


def test_a_file_is_called_after_its_row(experiment: Experiment) -> None:
    assert experiment.name.startswith(f"F{int(experiment.terms.fault[1:]):02d}-")
    assert experiment.terms.fault in experiment.content["tags"]


def test_chaos_toolkit_takes_it_with_every_variant(experiment: Experiment) -> None:
    for seed in range(len(experiment.terms.variants)):
        ensure_experiment_is_valid(experiment.prepared(experiment.draw(seed)))


def test_it_asks_for_readiness_a_purchase_and_the_auditor_before_and_after(experiment: Experiment) -> None:
    probes = experiment.content[STEADY_STATE]["probes"]
    tolerated = {probe["provider"].get("func"): probe["tolerance"] for probe in probes}
    assert tolerated.items() >= {"is_ready": True, "purchase_works": True, "audit_is_clean": True}.items()


def test_it_does_something_and_can_take_it_back(experiment: Experiment) -> None:
    assert [activity for activity in experiment.content["method"] if activity["type"] == "action"]
    assert experiment.content["rollbacks"]


def test_everything_it_refers_to_is_drawn_and_everything_drawn_is_used(experiment: Experiment) -> None:
    used = set(re.findall(r"\$\{(\w+)\}", experiment.path.read_text()))
    for seed in SEEDS:
        drawn = set(experiment.draw(seed))
        assert used <= drawn | {"untrue"}, f"seed {seed} draws no {used - drawn}"
        assert drawn - {"seed"} - used <= {f"experiment_{place}" for place in range(3, 20)}


def test_what_it_recovers_after_is_among_what_it_does(experiment: Experiment) -> None:
    names = {activity["name"] for activity in experiment.content["method"]}
    assert set(experiment.terms.recovers_after) <= names
    assert len(names) == len(experiment.content["method"]), "two steps of one name cannot be told apart"


def test_claims_that_are_called_untrue_are_excused_in_the_probe_as_well(experiment: Experiment) -> None:
    (audit,) = [each for each in experiment.activities if each["provider"].get("func") == "audit_is_clean"]
    values = load_configuration(experiment.prepared(experiment.draw(0))["configuration"])
    given = substitute(audit["provider"]["arguments"], values, {})
    assert given["untrue"] == experiment.terms.untrue


def test_topics_and_groups_are_those_of_the_product(experiment: Experiment) -> None:
    for activity in experiment.content["method"]:
        given = activity["provider"].get("arguments", {})
        if activity["provider"]["type"] == "python" and "topic" in given:
            assert given["topic"] in TOPICS
            assert "group" not in given or given["group"] in TOPICS[given["topic"]].groups


def test_the_same_seed_draws_the_same_and_variants_come_in_turn() -> None:
    (services,) = chosen("F01-services-killed")
    assert services.draw(7) == services.draw(7)
    assert len({str(services.draw(seed)) for seed in SEEDS}) == len(SEEDS)
    (frozen,) = chosen("F03-frozen")
    count = len(frozen.terms.variants)
    firsts = [frozen.draw(seed)["service"] for seed in range(count)]
    assert firsts == [frozen.draw(seed + count)["service"] for seed in range(count)]
    assert set(firsts) == {"reservation", "wallet", "queue"}


def test_pairs_are_of_experiments_that_exist_and_run_where_the_pairs_do() -> None:
    for pairs in chosen("F20"):
        for name in pairs.terms.shuffled["experiment"]:
            (each,) = chosen(name)
            assert int(each.terms.fault[1:]) <= 14
            assert set(each.terms.backends) >= set(pairs.terms.backends)


def test_without_a_steady_state_an_experiment_has_the_usual_one_and_with_one_it_has_its_own(tmp_path: Path) -> None:
    usual = read(edited(tmp_path)).content[STEADY_STATE]
    assert [probe["name"] for probe in usual["probes"]][1:] == ["a purchase works", "the auditor finds nothing"]
    own = {"title": "the front page is there", "probes": [{**usual["probes"][0], "name": "of its own"}]}
    assert read(written(tmp_path, {**a_kill(), STEADY_STATE: own})).content[STEADY_STATE] == own
    assert read(written(tmp_path, {**a_kill(), STEADY_STATE: None})).content[STEADY_STATE] == usual


def test_an_experiment_may_run_programs_and_ask_urls_and_then_needs_no_more_than_addresses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = {"type": "http", "url": "http://127.0.0.1:8080/docs", "timeout": 3}
    runs = {"type": "process", "path": "kubectl", "arguments": "delete pod wallet-0", "timeout": 30}
    steady = {"title": "up", "probes": [{"type": "probe", "name": "page", "tolerance": 200, "provider": page}]}
    deed = {"type": "action", "name": "delete a pod", "provider": runs}
    content = {**a_kill(), STEADY_STATE: steady, "method": [deed], "rollbacks": [deed]}
    found = read(written(tmp_path, content))
    assert found.modules == []
    monkeypatch.setenv("TARGET", "http://127.0.0.1:1")
    monkeypatch.delenv("STATE_DIR", raising=False)
    assert target.skipped(found, "embedded") == ""


def test_what_chaos_toolkit_does_not_take_is_told_before_anything_is_started(tmp_path: Path) -> None:
    content = a_kill()
    content["method"][0]["provider"]["func"] = "kil"
    with pytest.raises(ConfigError, match=r"^edited\.yaml: .*'kil'"):
        read(written(tmp_path, content))
    with pytest.raises(ConfigError, match=r"^edited\.yaml: an experiment requires a method"):
        read(written(tmp_path, {name: part for name, part in a_kill().items() if name != "method"}))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rollbacks": []}, "rollbacks: there has to be at least one action"),
        ({"method": a_kill()["method"] * 2}, "method: two steps are called 'kill redis'"),
        ({"extensions": []}, "extensions: none is called stagedoor"),
        ({"method": [{**a_kill()["method"][0], "pauses": {"afer": 12}}]}, "kill redis: Chaos Toolkit knows no 'afer'"),
        ({"method": [{**a_kill()["method"][0], "pause": {"after": 1}}]}, "kill redis: Chaos Toolkit knows no 'pause'"),
    ],
)
def test_what_a_run_would_stumble_over_is_told_before_anything_is_started(
    changes: dict[str, Any], told: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=rf"^edited\.yaml: {told}"):
        read(written(tmp_path, {**a_kill(), **changes}))


def test_a_step_to_recover_after_that_is_not_there_is_told_and_not_taken_for_the_last_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="recovers_after: no action of the method is called 'kil redis'"):
        read(edited(tmp_path, recovers_after=["kil redis"]))


def test_a_name_without_a_value_in_one_of_the_variants_is_told(tmp_path: Path) -> None:
    content = a_kill()
    content["method"][0]["provider"]["arguments"]["service"] = "${who}"
    content["extensions"][0]["variants"] = [{"who": "redis"}, {"whom": "redis"}]
    with pytest.raises(ConfigError, match=r"\$\{who\}: variant 2 of 2 gives it no value"):
        read(written(tmp_path, content))
    content["configuration"] = {"who": {"type": "env", "key": "WHO", "default": "redis"}}
    assert read(written(tmp_path, content)).terms.variants


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"title: a\n  b: [\n", r"^given\.yaml: not YAML: .* line 2, column 4"),
        (b"\xff\xfe\x00", r"^given\.yaml: not YAML: 'utf-8' codec"),
        (b"- a list\n", r"^given\.yaml: not an experiment"),
        (None, r"^EXPERIMENT: .*given\.yaml cannot be read: No such file"),
    ],
)
def test_a_file_that_is_no_yaml_or_not_there_is_one_sentence_that_says_so(
    text: bytes | None, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "given.yaml"
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(ConfigError, match=told):
        read(path)


def test_a_system_is_acted_on_beside_a_target_only_where_state_dir_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, "rows", dict)  # one runs in the usual place, whosever it is
    monkeypatch.setenv("TARGET", "http://127.0.0.1:1")
    monkeypatch.delenv("STATE_DIR", raising=False)
    (killed,) = chosen("F04-redis-killed")
    assert target.skipped(killed, "embedded").startswith("it acts on processes, and STATE_DIR names no system")
    monkeypatch.setenv("STATE_DIR", str(tmp_path))
    assert target.skipped(killed, "embedded") == ""


def test_a_wrong_word_in_the_terms_is_one_sentence_that_names_the_file_and_the_word(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^edited\.yaml: recovers_within_s: Extra inputs"):
        read(edited(tmp_path, recovers_within_s=3))
    with pytest.raises(ConfigError, match=r"^edited\.yaml: fault: String should match"):
        read(edited(tmp_path, fault="redis"))
    (tmp_path / "empty.yaml").write_text("title: nothing\n")
    with pytest.raises(ConfigError, match=r"^empty\.yaml: extensions: none is called stagedoor"):
        read(tmp_path / "empty.yaml")


def test_experiments_are_chosen_by_row_name_or_path(tmp_path: Path) -> None:
    assert [each.name for each in chosen("F4, F18")] == ["F04-redis-killed", "F18-tickets"]
    assert chosen("F04") == chosen("F4")
    assert [each.name for each in chosen(str(edited(tmp_path)))] == ["edited"]
    assert chosen("F04-redis-killed.yaml") == chosen("F4"), "the name of a file here, as a folder lists it"
    assert len(chosen("")) == len(PATHS)
    with pytest.raises(ConfigError, match="EXPERIMENT: there is no F99"):
        chosen("F99")


def test_what_this_backend_machine_or_environment_cannot_do_is_skipped_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIR", str(tmp_path))
    monkeypatch.delenv("TARGET", raising=False)
    monkeypatch.delenv("CHAOS_CONTROL", raising=False)
    (store, full, killed, slow, tickets) = (
        chosen(name)[0]
        for name in ("F14-store-killed", "F12-disk-full", "F04-redis-killed", "F07-slow-wires", "F18-tickets")
    )
    assert target.skipped(store, "embedded") == "it is about BACKENDS=native"
    with monkeypatch.context() as not_root:
        not_root.setattr(disk, "needs", lambda: {"root": "only root may mount file systems"})
        assert target.skipped(full, "embedded") == "root: only root may mount file systems"
    with monkeypatch.context() as no_java:
        no_java.setenv("PATH", str(tmp_path))
        no_java.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert "java: BACKENDS: native needs java on PATH" in target.skipped(store, "native")
        assert "kafka, mongo stand-in: run python -m infra.native fetch" in target.skipped(store, "native")
        assert target.skipped(killed, "embedded") == ""
    monkeypatch.setenv("TARGET", "http://127.0.0.1:1")
    assert target.skipped(killed, "embedded").startswith("it acts on processes, and STATE_DIR names no system")
    assert target.skipped(slow, "embedded").startswith("CHAOS_CONTROL does not say")
    monkeypatch.setenv("CHAOS_CONTROL", "127.0.0.1:1")
    assert target.skipped(slow, "embedded") == ""
    assert target.skipped(tickets, "embedded") == ""


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("BACKENDS", "natve", "BACKENDS: expected embedded or native"),
        ("TARGET", "tickets.example", "TARGET: expected base URLs .*'tickets.example'"),
        ("TARGET", "http://tickets.example,", "TARGET: expected base URLs .*''"),
        ("DEMO_USERS", "many", "DEMO_USERS: expected a whole number"),
        ("DEMO_USERS", "0", "DEMO_USERS: the crowd needs 1 at least"),
        ("DEMO_SEATS", "1", "DEMO_SEATS: the crowd needs 2 at least"),
        ("DEMO_SCHEDULES", "5", "DEMO_SCHEDULES: the crowd needs 6 at least"),
        ("PAY_DEADLINE_S", "soon", "PAY_DEADLINE_S: expected a number"),
    ],
)
def test_a_wrong_setting_of_a_series_is_told_before_its_first_run(
    setting: str, value: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("BACKENDS", "DEMO_USERS", "DEMO_SEATS", "DEMO_SCHEDULES", "PAY_DEADLINE_S"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TARGET", "http://tickets.example")
    target.check_settings()
    monkeypatch.setenv(setting, value)
    with pytest.raises(ConfigError, match=told):
        target.check_settings()


class Elsewhere(ThreadingHTTPServer):
    """A gateway that knows one ticket and six schedules of three seats, of which the first seats are sold; the second
    is sold out."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Shows)
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Shows(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        known = self.headers["X-Waiting-Token"] == "good"
        free = [] if "/2/" in self.path else [{"id": 2}, {"id": 3}]
        told = {"concertSeatInfo": {"concertSeat": free} if free else None} if known else {"code": "TOKEN_INVALID"}
        body = orjson.dumps(told)
        self.send_response(200 if known else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class calls it that)
        """Say nothing."""


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[Elsewhere]:
    for name, value in {"DEMO_SCHEDULES": "6", "DEMO_SEATS": "3", "TOKEN": "good"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("STATE_DIR", raising=False)
    monkeypatch.setattr(probes, "ON_SALE_S", 0.3)
    with Elsewhere() as server:
        monkeypatch.setenv("TARGET", server.url)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_the_crowd_goes_past_what_others_have_bought_in_an_environment_that_lives_on(elsewhere: Elsewhere) -> None:
    with target.named() as found:
        assert found.urls == (elsewhere.url,)
        assert found.scene.taken == {(1, 1), (2, 1), (2, 2), (2, 3), (3, 1), (4, 1), (5, 1), (6, 1)}


def test_an_environment_that_is_down_or_does_not_know_the_ticket_is_told_at_once_with_its_last_answer(
    elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "bad")
    with pytest.raises(ConfigError, match=r"^TARGET: .*the last answer was 401 TOKEN_INVALID"), target.named():
        pass
    with pytest.raises(probes.NotSteady, match=r"a purchase: not within 0\.3 s; the last answer was 501"):
        probes.purchase_works(0.3)
    monkeypatch.setenv("TARGET", "http://127.0.0.1:1")
    with pytest.raises(ConfigError, match=r"^TARGET: .*the last answer was .*refused"), target.named():
        pass


def test_the_auditor_is_given_the_ticket_of_the_environment_and_no_broker_that_nobody_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: dict[str, str] = {}

    def audited(*_: Any, env: dict[str, str], **__: Any) -> "subprocess.CompletedProcess[str]":
        given.update(env)
        return subprocess.CompletedProcess([], 0, "{}", "")

    monkeypatch.setattr(subprocess, "run", audited)
    monkeypatch.setenv("BACKENDS", "native")
    monkeypatch.setenv("TOKEN", "theirs")
    probes.audit(settle_s=0.0)
    assert (given["BACKENDS"], given["STATIC_TOKENS"]) == ("", "theirs")


def test_an_auditor_that_ends_by_a_fault_of_its_own_is_told_with_its_last_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended = subprocess.CompletedProcess([], 1, "", "Traceback …\nTypeError: twice")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: ended)
    with pytest.raises(probes.NotSteady, match=r"(?s)the audit could not be made: .*TypeError: twice"):
        probes.audit(settle_s=0.0)
