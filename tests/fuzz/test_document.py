"""Every operation does what `/openapi.json` says, for requests that fit the document and for those that do not."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import strategies as st
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.generation.modes import GenerationMode

from libs.common.contract.operation import Operation
from libs.common.web.openapi import document
from services.gateway.service.route_table import PUBLIC_OPERATIONS
from tests.e2e.system import RunningSystem
from tests.fuzz.effort import OVERLOADED, search
from tests.fuzz.wire import CLIENT_ERROR, UNAVAILABLE, Wire, check_envelope, request

pytestmark = pytest.mark.e2e

SUITE = "documented requests"
SHARE, EXAMPLES = 0.28, 4
COME_IN_S = 10.0
DOCUMENT = document("Stagedoor", "1", PUBLIC_OPERATIONS)

# Left out: the checks that follow a resource through several calls, which the machine of test_model.py does with a
# model, and `ignored_auth`, which takes every made-up ticket for a wrong one, the real ones put in here included.
CLAIMS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "positive_data_acceptance",
    "missing_required_header",
    "unsupported_method",
)

TRIALS = [
    pytest.param(operation, mode, id=f"{operation.id}-{mode}")
    for operation in PUBLIC_OPERATIONS
    for mode in GenerationMode
    # A read without parameters has nothing that could be wrong.
    if mode.is_positive or operation.is_write or operation.query or "{" in operation.path
]


@pytest.fixture(scope="module")
def tickets(system: RunningSystem) -> list[str]:
    """The static one, one that is inside, and one that has left."""

    async def come_in(wire: Wire) -> str:
        joined = await wire.ask(request("POST", "/api/v1/token/create"))
        ticket = str(joined.json["uuid"])
        give_up_s = time.monotonic() + COME_IN_S
        while time.monotonic() < give_up_s:
            told = await wire.ask(request("GET", "/api/v1/token", [("X-Waiting-Token", ticket.encode())]))
            if told.json["waitingQueueWithPositionResult"]["state"] == "INSIDE":
                return ticket
            await asyncio.sleep(0.1)
        raise AssertionError("the ticket did not come in")

    async def three() -> list[str]:
        wire = Wire(system.port)
        left = str((await wire.ask(request("POST", "/api/v1/token/create"))).json["uuid"])
        await wire.ask(request("DELETE", "/api/v1/token", [("X-Waiting-Token", left.encode())]))
        inside = await come_in(wire)
        await wire.close()
        return ["test-token", inside, left]

    return asyncio.run(three())


@pytest.fixture(scope="module")
def http() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


@pytest.fixture(scope="module")
def schema(system: RunningSystem) -> Any:
    load_all_checks()
    loaded = schemathesis.openapi.from_dict(DOCUMENT)
    loaded.config.update(base_url=system.url)
    loaded.config.output.sanitization.update(enabled=False)  # a failing request is printed with the ticket it needs
    return loaded


def test_what_is_served_is_the_document_that_the_others_here_go_by(
    system: RunningSystem, http: requests.Session
) -> None:
    assert http.get(f"{system.url}/openapi.json", timeout=10).json() == DOCUMENT


@pytest.mark.parametrize(("operation", "mode"), TRIALS)
def test_an_operation_answers_as_documented(
    schema: Any, http: requests.Session, tickets: list[str], operation: Operation, mode: GenerationMode
) -> None:
    described = schema[operation.path][operation.method]
    checks = CHECKS.get_by_names(list(CLAIMS))

    def claim(value: tuple[Any, str]) -> None:
        case, ticket = value
        if operation.ticket != "none":
            case.headers["X-Waiting-Token"] = ticket
        _make_exact(case)
        answered = case.call(session=http, timeout=15)
        if answered.status_code == UNAVAILABLE and "retry-after" in answered.headers:
            OVERLOADED[SUITE] += 1
            return
        case.validate_response(answered, checks=checks)
        if answered.status_code >= CLIENT_ERROR:
            content_type = answered.headers["content-type"][0]
            check_envelope(answered.status_code, content_type, answered.content, case.as_curl_command())

    cases = st.tuples(described.as_strategy(generation_mode=mode), st.sampled_from(tickets))
    search(SUITE, claim, cases, share=SHARE / len(TRIALS), examples=EXAMPLES)


def _make_exact(case: Any) -> None:
    """Whole numbers are written as such: to a JSON Schema 7.0 is an integer, to us it is refused, and meant to be."""
    if isinstance(case.body, dict):
        case.body = {name: _exact(value) for name, value in case.body.items()}


def _exact(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return [_exact(inner) for inner in value] if isinstance(value, list) else value
