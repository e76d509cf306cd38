"""House rules that a machine can check. Each failure names the place and what to do instead."""

import ast
import importlib
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
import yaml

from libs.common import events
from libs.common.contract import catalog, queue, reservation, wallet
from libs.common.events.catalogue import EVENT_TYPES
from libs.common.events.topics import TOPICS

ROOT = Path(__file__).parents[1]
ROOMS = ("catalog", "gateway", "queue", "reservation", "wallet")
CARD_HEADINGS = ["Owns", "Invariant", "Routes", "Topics", "Stored", "Knobs", "Metrics"]
LINES_MAX, FUNCTION_LINES_MAX, POSITIONAL_MAX = 400, 60, 5

BANNED_CALLS = {
    "time.time": "Clock.now_ms()",
    "time.monotonic": "Clock.monotonic_s()",
    "time.sleep": "await Clock.sleep()",
    "asyncio.sleep": "await Clock.sleep()",
    "asyncio.wait_for": "async with asyncio.timeout()",
    "datetime.now": "Clock.now_ms()",
    "datetime.utcnow": "Clock.now_ms()",
    "random.random": "a random.Random that was passed in",
    "uuid.uuid4": "libs.common.ids.derived_id()",
    "json.loads": "orjson.loads()",
    "json.dumps": "orjson.dumps()",
    "os.environ.get": "a field of the room's settings",
    "os.getenv": "a field of the room's settings",
}
MAY_CALL = {
    "libs/common/system.py": "it is the machine's clock",
    "libs/common/storage/memory.py": "its sleeps of 0 give the loop a turn",
    "libs/common/messaging/memory.py": "its sleeps of 0 give the loop a turn",
    "libs/common/web/serving.py": "the process itself, before and after any app",
    "libs/common/messaging/dlq.py": "a command line",
    "libs/common/messaging/retell.py": "a command line",
}

for room in ("catalog", "queue", "reservation", "wallet"):
    importlib.import_module(f"{events.__name__}.{room}")  # enters its events into the catalogue

OPERATIONS = (*queue.OPERATIONS, *catalog.OPERATIONS, *reservation.OPERATIONS, *wallet.OPERATIONS)


def sources(*folders: str, tests: bool = False) -> Iterator[Path]:
    for path in sorted(chain.from_iterable((ROOT / folder).rglob("*.py") for folder in folders)):
        if tests or not {"tests", "testing"} & set(path.relative_to(ROOT).parts):
            yield path


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_has_its_card_with_the_same_headings(room: str) -> None:
    card = (ROOT / "services" / room / "README.md").read_text()
    assert card.startswith(f"# {room}\n")
    assert re.findall(r"^## (.+)$", card, re.MULTILINE) == CARD_HEADINGS


@pytest.mark.parametrize("room", ROOMS)
def test_every_knob_of_a_room_is_on_its_card_and_has_a_description(room: str) -> None:
    card = (ROOT / "services" / room / "README.md").read_text()
    settings = (ROOT / "services" / room / "settings.py").read_text()
    knobs = re.findall(r"^    ([a-z_]+): [^=\n]+= Field\(", settings, re.MULTILINE)
    assert [knob for knob in knobs if knob.upper() not in card] == []
    assert settings.count("Field(") == settings.count("description=")


def test_no_file_is_longer_than_a_reader_keeps_in_mind() -> None:
    files = sources("libs", "services", "infra", "tests", tests=True)
    long = {name_of(path): count for path in files if (count := len(path.read_text().splitlines())) > LINES_MAX}
    assert long == {}, "make it a package of the same name"


def test_no_function_is_longer_than_a_screen_or_takes_more_than_five_positional_parameters() -> None:
    wrong = []
    for path in sources("libs", "services", "infra"):
        for function in functions(path):
            lines = (function.end_lineno or function.lineno) - function.lineno + 1
            taken = [arg.arg for arg in function.args.args if arg.arg not in ("self", "cls")]
            if path.name == "metrics.py":  # a catalogue, one series after the other
                continue
            if lines > FUNCTION_LINES_MAX or len(taken) - len(function.args.defaults) > POSITIONAL_MAX:
                wrong.append(
                    f"{name_of(path)}:{function.lineno} {function.name}: {lines} lines, {len(taken)} parameters"
                )
    assert wrong == []


def test_no_module_is_called_after_nothing_or_after_the_standard_library() -> None:
    names = {path.stem for path in sources("libs", "services", "infra", "tests", tests=True)}
    assert names & {"utils", "helpers", "misc", "util", "helper", "types", "logging", "json"} == set()


def test_time_chance_and_the_environment_are_passed_in() -> None:
    found = []
    for path in sources("libs", "services"):
        if name_of(path) in MAY_CALL:
            continue
        found += [
            f"{name_of(path)}:{node.lineno} {call}(): use {BANNED_CALLS[call]}"
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call) and (call := ast.unparse(node.func)) in BANNED_CALLS
        ]
    assert found == []


def test_series_are_declared_in_metrics_modules_and_named_alike() -> None:
    made = re.compile(r"\b(?:Counter|Gauge|Histogram)\(\s*\"")
    elsewhere = [name_of(path) for path in sources("libs", "services") if made.search(path.read_text())]
    assert [name for name in elsewhere if not name.endswith("metrics.py")] == []
    for room in ROOMS:
        names = re.findall(r"(?:Counter|Gauge|Histogram)\(\s*\"([^\"]+)\"", (_metrics(room)).read_text())
        assert [name for name in names if not name.startswith(f"stagedoor_{room}_")] == []


def test_every_operation_is_bound_by_the_room_that_owns_it() -> None:
    for operation in OPERATIONS:
        room = "gateway" if operation.room == "queue" and operation.is_public else operation.room
        routes = "\n".join(path.read_text() for path in sources(f"services/{room}"))
        constant = next(
            name
            for module in (queue, catalog, reservation, wallet)
            for name, value in vars(module).items()
            if value is operation
        )
        assert re.search(rf"\b{constant}\b", routes), f"{room} does not bind {constant} ({operation.path})"


def test_every_topic_carries_an_event_and_every_event_has_a_topic() -> None:
    assert {entry.topic for entry in EVENT_TYPES.values()} == set(TOPICS)


def test_the_readme_lists_every_public_route_and_every_topic() -> None:
    for readme in ("README.md", "README.ko.md"):
        text = (ROOT / readme).read_text()
        for operation in OPERATIONS:
            if operation.is_public:
                assert f"`{operation.method} {operation.path}`" in text, f"{readme}: {operation.id}"
        for topic in TOPICS:
            assert f"`{topic}`" in text, f"{readme}: {topic}"


def test_both_readmes_have_the_same_structure() -> None:
    english, korean = ((ROOT / name).read_text() for name in ("README.md", "README.ko.md"))
    for pattern in (r"^(#+) ", r"^```(\w*)$", r"^(\|)"):
        assert re.findall(pattern, english, re.MULTILINE) == re.findall(pattern, korean, re.MULTILINE)


def test_compose_runs_every_room_from_an_image_of_its_own() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    built = {name: service["build"]["args"]["SERVICE"] for name, service in services.items() if "build" in service}
    assert {room: built.get(room) for room in ROOMS} == {room: room for room in ROOMS}
    pinned = {path.stem for path in (ROOT / "requirements").glob("*.txt")} - {"dev", "run"}
    listed = re.search(r"^IMAGES = (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert listed, "the Makefile has no IMAGES"
    assert set(built.values()) == pinned == set(listed[1].split())


def test_every_decision_record_has_the_five_headings() -> None:
    for record in sorted((ROOT / "docs/adr").glob("*.md")):
        headings = re.findall(r"^## (.+)$", record.read_text(), re.MULTILINE)
        assert headings == ["Context", "Decision", "Consequences", "Alternatives", "References"], record.name


def test_links_and_paths_in_the_pages_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "services").rglob("*.md")]
    broken = []
    for page in pages:
        text = page.read_text()
        links = re.findall(r"\]\((?!https?://|#)([^)#]+)", text)
        paths = re.findall(r"`((?:services|libs|infra|tests|docs)/[\w./-]+\.\w+)`", text)
        broken += [f"{name_of(page)} → {link}" for link in links if not (page.parent / link).exists()]
        broken += [f"{name_of(page)} → {path}" for path in paths if not (ROOT / path).exists()]
    assert broken == []


def _metrics(room: str) -> Path:
    return ROOT / "services" / room / "metrics.py"
