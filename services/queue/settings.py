"""Every knob of the queue."""

from typing import Self

from pydantic import Field, field_validator, model_validator

from libs.common.config import ServiceSettings, milliseconds
from libs.common.contract.queue import CAPACITY_MAX
from libs.common.errors import ConfigError
from libs.common.tickets import ROOM_MAX
from services.queue.domain.line import LineRules

ROOMS_COUNT_MAX = 256


class QueueSettings(ServiceSettings):
    port: int = Field(8091, ge=1, le=65535, description="TCP port to listen on")
    ticket_keys: str = Field("", repr=False, description="id:hex,id:hex…: keys that tickets verify with")
    ticket_signing_key: int = Field(1, ge=0, le=15, description="id of the key that new tickets are signed with")
    rooms: str = Field("1", description="ids of the waiting rooms, separated by commas; missing ones are made at start")
    room_capacity: int = Field(500, ge=0, le=CAPACITY_MAX, description="people inside at a time, for a room made now")
    tick_s: float = Field(1.0, ge=0.05, le=10, description="seconds between two ticks of a room")
    leader_lease_s: float = Field(
        3.0, ge=0.1, le=60, description="seconds without a tick until another leader may step in"
    )
    session_s: float = Field(600.0, ge=1, le=86_400, description="length of a visit, seconds")
    claim_window_s: float = Field(60.0, ge=1, le=3_600, description="seconds an offer waits to be claimed")
    session_keep_s: float = Field(86_400.0, ge=1, le=31 * 86_400, description="seconds an ended session is remembered")
    sweep_s: float = Field(0.5, ge=0.05, le=10, description="seconds between two searches for visits that ran out")
    purge_s: float = Field(60.0, ge=1, le=3_600, description="seconds by which purging sessions trails the floor")

    @field_validator("rooms")
    @classmethod
    def _are_rooms(cls, value: str) -> str:
        ids = value.replace(" ", "").split(",")
        if not all(text.isascii() and text.isdigit() and 1 <= int(text) <= ROOM_MAX for text in ids):
            raise ValueError(f"expected ids from 1 to {ROOM_MAX}, separated by commas")
        if len(ids) > ROOMS_COUNT_MAX:
            raise ValueError(f"at most {ROOMS_COUNT_MAX} rooms")
        return value

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.leader_lease_s < 2 * self.tick_s:
            raise ConfigError("LEADER_LEASE_S: must be at least twice TICK_S, or every late tick changes the leader")
        if self.purge_s < 2 * self.request_deadline_s:
            raise ConfigError("PURGE_S: must be at least twice REQUEST_DEADLINE_S, or a late claim finds nothing left")
        return self

    @property
    def room_ids(self) -> tuple[int, ...]:
        return tuple(sorted({int(text) for text in self.rooms.split(",")}))

    @property
    def rules(self) -> LineRules:
        """The times that decisions depend on."""
        return LineRules(
            claim_window_ms=milliseconds(self.claim_window_s),
            session_ms=milliseconds(self.session_s),
            session_keep_ms=milliseconds(self.session_keep_s),
            leader_lease_ms=milliseconds(self.leader_lease_s),
            clock_skew_ms=self.clock_skew_ms,
        )
