"""What the reservation refuses, in the words of the public contract."""

from collections.abc import Collection, Sequence

from libs.common.errors import FieldError, Problem


class ScheduleNotFound(Problem):
    status, code, title = 404, "SCHEDULE_NOT_FOUND", "There is no such schedule"


class SeatNotFound(Problem):
    status, code, title = 404, "SEAT_NOT_FOUND", "This schedule has no such seat"


class ReservationNotFound(Problem):
    status, code, title = 404, "RESERVATION_NOT_FOUND", "There is no such reservation"


class SeatTaken(Problem):
    status, code, title = 409, "SEAT_TAKEN", "Someone else has this seat"

    def __init__(self, asked: Sequence[int], taken: Collection[int]) -> None:
        self.taken = tuple(taken)
        named = ", ".join(str(seat) for seat in asked if seat in taken)
        super().__init__(
            f"Taken: {named}. Choose other seats; nothing was held.", errors=pointed(asked, taken, "this seat is taken")
        )


class TooManySeats(Problem):
    status, code, title = 422, "TOO_MANY_SEATS", "Too many seats for one person"

    def __init__(self, seats_max: int) -> None:
        super().__init__(f"One person holds or owns at most {seats_max} seats of a schedule; give some back first.")


class HoldExpired(Problem):
    status, code, title = 409, "HOLD_EXPIRED", "The hold is over"

    def __init__(self) -> None:
        super().__init__("These seats are not held for you any more; hold them again. Nothing stays charged.")


class AlreadyPaid(Problem):
    status, code, title = 409, "ALREADY_PAID", "This reservation is paid"


class NotPaid(Problem):
    status, code, title = 409, "NOT_PAID", "This reservation is not paid"


class NotEnoughPoints(Problem):
    status, code, title = 402, "NOT_ENOUGH_POINTS", "The wallet does not hold enough points"

    def __init__(self, amount: int) -> None:
        super().__init__(f"{amount} points are needed. The hold stays until it expires: charge, then pay again.")


def pointed(asked: Sequence[int], wrong: Collection[int], detail: str) -> list[FieldError]:
    """An error for each wrong seat, at its place in `seatIds`."""
    return [FieldError(f"/seatIds/{index}", f"{seat}: {detail}") for index, seat in enumerate(asked) if seat in wrong]
