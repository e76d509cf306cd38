"""Every knob of the catalog."""

from pydantic import Field

from libs.common.config import ServiceSettings


class CatalogSettings(ServiceSettings):
    port: int = Field(8092, ge=1, le=65535, description="TCP port to listen on")
    reservation_url: str = Field("http://127.0.0.1:8093", description="the reservation service, for its snapshots")
    redis_url: str = Field("", description="cache that all copies share: redis://… or unix://…; empty: none")
    request_deadline_s: float = Field(
        30.0, gt=0, le=60, description="longest time of a request: a large venue's, seconds"
    )
    concert_ttl_s: float = Field(60.0, ge=1, le=86_400, description="how long concerts count as fresh, seconds")
    schedule_ttl_s: float = Field(600.0, ge=1, le=86_400, description="how long seat maps count as fresh, seconds")
    stale_s: float = Field(60.0, ge=0, le=86_400, description="how long past its time a copy may be served, seconds")
    absent_ttl_s: float = Field(1.0, ge=0, le=60, description="how long `not found` is remembered, seconds")
    cached_seats_max: int = Field(
        1_000_000, ge=1, description="seats whose maps are kept in memory, about 350 bytes each"
    )
    answer_every_s: float = Field(
        0.1, ge=0, le=1, description="shortest time between two encodings of an answer, seconds"
    )
    snapshot_every_s: float = Field(
        30.0, gt=0, le=3600, description="time between two full snapshots of seats, seconds"
    )
