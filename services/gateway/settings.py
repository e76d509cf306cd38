"""Every knob of the gateway."""

from pydantic import Field

from libs.common.config import ServiceSettings, milliseconds
from services.gateway.domain import Pace


class GatewaySettings(ServiceSettings):
    port: int = Field(8080, ge=1, le=65535, description="public TCP port")
    admin_port: int = Field(8090, ge=1, le=65535, description="inner TCP port: metrics and health")
    queue_url: str = Field("http://127.0.0.1:8091", description="base URL of the queue")
    catalog_url: str = Field("http://127.0.0.1:8092", description="base URL of the catalog")
    reservation_url: str = Field("http://127.0.0.1:8093", description="base URL of the reservation service")
    wallet_url: str = Field("http://127.0.0.1:8094", description="base URL of the wallet")
    request_deadline_s: float = Field(
        10.0,
        gt=0,
        le=60,
        description="longest time a request may take, its body included, in seconds; more than PAY_WAIT_S + 3",
    )
    ticket_keys: str = Field("", repr=False, description="id:hex pairs separated by commas; the same as the queue's")
    ticket_signing_key: int = Field(1, ge=0, le=15, description="id of the key that signs; the gateway only verifies")
    static_tokens: str = Field(
        "", repr=False, description="tokens that are always inside, separated by commas; for load tests only"
    )
    claim_window_s: float = Field(
        60.0, gt=0, le=3600, description="seconds an offered place waits; people ask again three times in it"
    )
    poll_min_s: float = Field(
        1.0, gt=0, le=60, description="shortest pause between two polls of one person, in seconds"
    )
    pay_wait_s: float = Field(
        2.0, gt=0, le=30, description="seconds the reservation service waits for a payment's outcome"
    )
    sessions_max: int = Field(1_000_000, ge=1_000, le=10**8, description="visits remembered; the oldest goes first")
    in_flight_max: int = Field(
        4_000,
        ge=10,
        le=100_000,
        description="requests worked on at a time, each class has its share; what one process answers in 2 s",
    )
    rate_per_client_per_s: float = Field(
        0.0, ge=0, le=10_000, description="requests per second of one ticket, or of one address without; 0 is no limit"
    )
    rate_burst: int = Field(50, ge=1, le=100_000, description="requests a client may send at once")
    joins_per_address_per_s: float = Field(
        0.0, ge=0, le=10_000, description="joins per second from one address; 0 is no limit"
    )
    joins_burst: int = Field(20, ge=1, le=100_000, description="joins an address may send at once")

    @property
    def pace(self) -> Pace:
        """A person whose turn has come asks at least three times before the offer lapses."""
        return Pace(milliseconds(self.poll_min_s), milliseconds(self.claim_window_s / 3))
