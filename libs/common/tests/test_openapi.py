"""The OpenAPI document of toy operations, and that of the real ones."""

from typing import Annotated, Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import Field

from libs.common.contract import catalog, queue, reservation, wallet
from libs.common.contract.operation import Model, Operation, PositiveInt
from libs.common.web.openapi import document


class Wish(Model):
    seat_ids: list[PositiveInt]
    note: str = ""


class Granted(Model):
    granted_at: str


class Page(Model):
    limit: Annotated[int, Field(ge=1, le=10)] = 3


WRITE = Operation(
    "wish", "toy", "POST", "/api/toy/{toyId}/wishes/{id}", "Wish", success=201, body=Wish, answer=Granted,
    problems=("SEAT_TAKEN",), ticket="inside", answers_later=True,
)  # fmt: skip
READ = Operation("read", "toy", "GET", "/api/toy/{toyId}", "Read", query=Page, answer=Granted)
LEAVE = Operation("leave", "toy", "DELETE", "/api/toy/{toyId}", "Leave", success=204, ticket="any")


@pytest.fixture
def described() -> dict[str, Any]:
    return document("Toy", "1", (WRITE, READ, LEAVE))


def test_the_document_is_valid_openapi(described: dict[str, Any]) -> None:
    assert described["openapi"] == "3.1.0"
    assert list(OpenAPIV31SpecValidator(described).iter_errors()) == []


def test_every_operation_of_every_room_can_be_described() -> None:
    operations = [operation for room in (queue, catalog, reservation, wallet) for operation in room.OPERATIONS]
    described = document("Stagedoor", "1", operations)
    assert list(OpenAPIV31SpecValidator(described).iter_errors()) == []
    ids = {told["operationId"] for methods in described["paths"].values() for told in methods.values()}
    assert ids == {operation.id for operation in operations}


def test_shapes_are_those_of_the_models_as_clients_see_them(described: dict[str, Any]) -> None:
    wish = described["components"]["schemas"]["Wish"]
    assert (set(wish["properties"]), wish["required"]) == ({"seatIds", "note"}, ["seatIds"])
    operation = described["paths"]["/api/toy/{toyId}/wishes/{id}"]["post"]
    body = operation["requestBody"]
    assert body == {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Wish"}}},
    }
    answered = operation["responses"]["201"]["content"]["application/json"]["schema"]
    assert answered == {"$ref": "#/components/schemas/Granted"}


def test_parameters_say_where_they_are_and_what_they_take(described: dict[str, Any]) -> None:
    def told(path: str, method: str) -> dict[str, tuple[str, bool, str]]:
        parameters = described["paths"][path][method]["parameters"]
        return {each["name"]: (each["in"], each["required"], each["schema"]["type"]) for each in parameters}

    assert told("/api/toy/{toyId}/wishes/{id}", "post") == {
        "toyId": ("path", True, "integer"),
        "id": ("path", True, "string"),
        "Idempotency-Key": ("header", False, "string"),
    }
    assert told("/api/toy/{toyId}", "get") == {
        "toyId": ("path", True, "integer"),
        "limit": ("query", False, "integer"),
    }


def test_a_ticket_is_asked_for_where_the_operation_asks_for_one(described: dict[str, Any]) -> None:
    one, other = described["paths"].values()
    assert one["post"]["security"] == other["delete"]["security"] == [{"waitingToken": []}]
    assert "security" not in other["get"]
    assert described["components"]["securitySchemes"]["waitingToken"]["name"] == "X-Waiting-Token"


def test_every_problem_is_under_its_status(described: dict[str, Any]) -> None:
    responses = described["paths"]["/api/toy/{toyId}/wishes/{id}"]["post"]["responses"]
    assert responses["409"]["description"] == "`SEAT_TAKEN`"
    assert responses["403"]["description"] == "`STILL_WAITING`, `SESSION_EXPIRED`"
    assert list(responses) == [
        "201",
        "202",
        "400",
        "401",
        "403",
        "408",
        "409",
        "413",
        "415",
        "422",
        "429",
        "500",
        "503",
    ]
    assert {"Retry-After"} == set(responses["503"]["headers"]) == set(responses["429"]["headers"])
    assert responses["202"]["headers"] == {
        "Location": {"description": "where to ask for the outcome", "schema": {"type": "string"}},
        "Retry-After": {"description": "seconds", "schema": {"type": "integer"}},
    }
    assert "403" not in described["paths"]["/api/toy/{toyId}"]["delete"]["responses"]


def test_a_code_that_nobody_defined_is_noticed() -> None:
    wrong = Operation("wrong", "toy", "GET", "/api/wrong", "Wrong", problems=("NO_SUCH_CODE",))
    with pytest.raises(KeyError, match="NO_SUCH_CODE"):
        document("Toy", "1", (wrong,))
