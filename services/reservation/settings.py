"""Every knob of the reservation."""

from pydantic import Field

from libs.common.config import ServiceSettings, milliseconds


class ReservationSettings(ServiceSettings):
    port: int = Field(8093, ge=1, le=65535, description="TCP port to listen on")
    catalog_url: str = Field("http://127.0.0.1:8092", description="the catalog: seats and prices of a schedule")
    hold_s: float = Field(300.0, gt=0, le=86_400, description="seconds a hold lasts unless it is paid")
    max_seats_per_user: int = Field(8, ge=1, le=50, description="seats of a schedule one user may hold or own")
    pay_deadline_s: float = Field(
        30.0, gt=0, le=3_600, description="seconds after which a silent payment is called off"
    )
    pay_wait_s: float = Field(2.0, ge=0, le=4, description="seconds a payment call waits for its outcome before 202")
    sweep_s: float = Field(0.5, gt=0, le=60, description="seconds between two rounds of each sweeper")

    @property
    def hold_ms(self) -> int:
        return milliseconds(self.hold_s)

    @property
    def pay_deadline_ms(self) -> int:
        return milliseconds(self.pay_deadline_s)
