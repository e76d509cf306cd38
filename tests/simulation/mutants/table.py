"""All mutants: the rule each leaves out, and the invariant that should find it."""

from tests.simulation.mutants import library, line, saga, seats, wallet
from tests.simulation.mutants.trial import Mutant

MUTANTS: tuple[Mutant, ...] = (
    Mutant("release-unowned", "freeing tests the owner", seats.release_unowned, ("I2", "I7")),
    Mutant(
        "hold-any-held", "a held seat can be taken only once it has lapsed", seats.hold_without_lapse_check, ("I2",)
    ),
    Mutant("lapse-without-skew", "a hold lapses only when every clock says so", seats.lapse_without_skew, ("I2",)),
    Mutant("no-pin", "only pinned seats are charged for", seats.no_pin, ("I2",)),
    Mutant("own-seat-reset", "a seat one has already stays as it is", seats.own_seat_is_reset, ("I2",)),
    Mutant("until-differs", "one `until` for several blocks", seats.own_lapsing_seat_differs, ("I2", "I7")),
    Mutant("no-cap", "the cap within a block", seats.no_cap, ("I13",)),
    Mutant(
        "lapsed-can-be-pinned",
        "what lapsed and made room is given up",
        seats.lapsed_can_be_pinned,
        ("I13",),
        "the window is under a second and needs a user who does two things at once",
        test="services/reservation/tests/test_block.py::"
        "test_what_lapsed_and_made_room_under_the_cap_cannot_be_paid_for_any_more",
    ),
    Mutant("no-cap-over-blocks", "the place under the cap over several blocks", seats.no_place_under_the_cap, ("I13",)),
    Mutant("part-of-a-hold", "all seats of a hold or none", seats.part_of_a_hold, ("I7",)),
    Mutant(
        "completed-any-state",
        "the state in the compare-and-set of Completed",
        saga.completed_without_state,
        ("states",),
    ),
    Mutant("attempts-alike", "the attempt in outcomes and in the wallet's op", saga.attempts_are_alike, ("refusals",)),
    Mutant(
        "attempt-not-compared", "the attempt in the compare-and-set", saga.attempt_is_not_compared, ("I5", "states")
    ),
    Mutant("decline-unpins", "a decline leaves the pin", saga.decline_gives_the_pin_back, ("I2",)),
    Mutant("duty-forgotten", "a reservation owes its seats until it is done", saga.duty_is_forgotten, ("I8", "I13")),
    Mutant(
        "no-payment-deadline",
        "a silent payment is called off",
        saga.no_payment_deadline,
        ("I8",),
        "the wallet is asked again until it answers",
        both="no-deadline-nor-asking",
    ),
    Mutant("no-deadline-nor-asking", "both of that", saga.neither_deadline_nor_asking_again, ("I8",)),
    Mutant("anyone-may-see", "a reservation is shown to whoever made it", saga.anyone_may_see, ("I12",)),
    Mutant("new-id-each-time", "ids follow from the key", saga.new_id_at_every_sending, ("I9",)),
    Mutant("ops-not-unique", "one entry per cause", wallet.ops_are_not_unique, ("I4", "I5")),
    Mutant("no-balance-guard", "a payment needs the balance", wallet.no_balance_guard, ("I3",)),
    Mutant(
        "no-tombstone",
        "a void is remembered",
        wallet.no_tombstone,
        ("I5",),
        "a late Completed is called off",
        both="no-tombstone-nor-late",
    ),
    Mutant("no-tombstone-nor-late", "both of that", wallet.no_tombstone_and_late_completed_ignored, ("I5",)),
    Mutant("no-second-answer", "an answer is told again when asked again", wallet.no_second_answer, ("I8",)),
    Mutant(
        "no-late-refund",
        "a cancelled payment that was charged is refunded",
        wallet.no_refund_of_a_late_payment,
        ("I5",),
    ),
    Mutant("no-outbox", "events are stored with the change", library.no_outbox, ("I10",)),
    Mutant("blind-writes", "a write names the version it read", library.blind_writes, ("I2", "order", "states", "I4")),
    Mutant("no-relay-scan", "what a crash left unpublished is published", library.no_relay_scan, ("I8",)),
    Mutant(
        "kept-state-believed",
        "a refusal is checked against the store",
        library.kept_state_is_believed,
        ("refusals", "I8"),
    ),
    Mutant(
        "progress-before-effect",
        "progress is committed after the effect",
        library.progress_before_effect,
        ("I8",),
        "what is lost is asked for again, and a session ends by itself",
        test="libs/common/tests/test_bus_contract.py::TestMemory::test_progress_is_committed_after_the_effect",
    ),
    Mutant("no-fence", "a tick tests leader, fence and tick", line.no_fence, ("I11",)),
    Mutant("lapse-not-stored", "a lapse is an insert", line.lapse_is_not_stored, ("order",)),
    Mutant("sessions-before-offers", "offers are counted before sessions", line.sessions_before_offers, ("I11",)),
    Mutant("returning-by-arrival", "who returns keeps the order of the line", line.returning_by_arrival, ("I11",)),
    Mutant("newcomers-first", "who returns comes before who is new", line.newcomers_first, ("I11",)),
    Mutant("watermark-moves-back", "a gateway keeps the highest watermark", line.watermark_follows_the_news, ("I11",)),
    Mutant("claims-unchecked", "only who is at or under the watermark comes in", line.claims_are_not_checked, ("I11",)),
    Mutant(
        "ended-reopens",
        "nothing leads out of an ended visit",
        line.ended_visits_reopen,
        ("order",),
        "a claim looks before it decides, so only a leave within that moment gets there",
        test="services/queue/tests/test_domain.py::test_nothing_leads_out_of_an_ended_visit",
    ),
    Mutant("open-door", "a ticket has to be inside", line.the_door_is_open, ("I11",)),
    Mutant(
        "late-completed-ignored",
        "a Completed that comes late is called off",
        saga.late_completed_is_ignored,
        ("I5",),
        "whoever gave the attempt up has called it off",
        both="late-completed-nor-cancel",
    ),
    Mutant(
        "late-completed-nor-cancel", "both of that", saga.late_completed_ignored_and_not_cancelled, ("I5", "states")
    ),
    Mutant("nothing-sent-again", "a silent wallet is asked again", saga.nothing_is_sent_again, ("I8",)),
    Mutant("lapsed-seats-stay", "a sweeper frees lapsed seats", saga.lapsed_seats_stay, ("I8", "I13")),
)
