"""What an operation of the public or the internal contract is.

The modules beside this file, one per room, hold the models and the operations of that room's HTTP interface. The room
binds each operation to a handler, the gateway routes the public ones, and the OpenAPI document is written from them:
one description, three uses.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from libs.common.ids import INTEGER_MAX

PositiveInt = Annotated[int, Field(ge=1, le=INTEGER_MAX)]
Amount = Annotated[int, Field(ge=0, le=INTEGER_MAX)]
IsoTime = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


class Model(BaseModel):
    """Base of everything in a body: camelCase outside, snake_case inside, exact types, unknown fields ignored."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="ignore",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
    )


class Priority(IntEnum):
    """What goes first when there is too much of everything: the lowest is shed first."""

    READ = 0
    POLL = 1
    HOLD = 2
    PAYMENT = 3


@dataclass(frozen=True, slots=True)
class Operation:
    """One route. Paths are templates (`/users/{userId}/wallet`); `problems` are the codes it may answer with besides
    those every route may give. `ticket`: none is asked for, any that verifies, one that is inside, or one that at least
    was. `answers_later`: the answer may be 202 with a `Location` to ask at."""

    id: str
    room: str
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    summary: str
    success: int = 200
    body: type[Model] | None = None
    body_required: bool = True
    query: type[Model] | None = None
    answer: type[Model] | None = None
    problems: tuple[str, ...] = ()
    ticket: Literal["none", "any", "inside", "inside-or-ended"] = "none"
    priority: Priority = Priority.READ
    answers_later: bool = False

    @property
    def is_write(self) -> bool:
        """Writes take an Idempotency-Key."""
        return self.method != "GET"

    @property
    def is_public(self) -> bool:
        return self.path.startswith("/api/")
