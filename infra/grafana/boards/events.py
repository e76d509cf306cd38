"""What travels between the services, from the outbox to the handler."""

from infra.grafana.panels import Board, Row, graph
from infra.grafana.queries import level, quantile, rate

_HANDLED = "stagedoor_event_handling_seconds"
_GROUP = "{{topic}} → {{group}}"

BOARD = Board(
    "events",
    "Events",
    "Do events arrive: is anything stuck before the broker, in it, or behind it?",
    (
        Row(
            "Before the broker",
            (
                graph("Published", "mps", ("{{topic}}", rate("stagedoor_events_published_total", "topic"))),
                graph(
                    "Stored and not confirmed",
                    "short",
                    ("{{job}}", level("stagedoor_outbox_pending_events", by="job")),
                ),
                graph(
                    "Oldest not confirmed",
                    "s",
                    ("{{job}}", level("stagedoor_outbox_oldest_seconds", by="job")),
                    red_from=30,
                ),
                graph(
                    "Broker answers",
                    "short",
                    ("{{job}}", level("stagedoor_dependency_up", "min", "job", dependency="broker")),
                    red_until=1,
                    says="1 while the broker answers every copy's pings.",
                ),
            ),
        ),
        Row(
            "Groups",
            (
                graph(
                    "Not finished",
                    "short",
                    (_GROUP, level("stagedoor_consumer_lag_events", by="topic group")),
                    red_from=500,
                ),
                graph(
                    "Handled",
                    "mps",
                    (f"{_GROUP} {{{{outcome}}}}", rate(_HANDLED, "topic group outcome")),
                    says="Events by what became of them: done, poison (put aside), transient (again later), failed "
                    "(the consumer stops).",
                ),
                graph(
                    "Time of one event",
                    "s",
                    (_GROUP, quantile(0.95, _HANDLED, "topic group")),
                    says="95 of 100 events were handled within this time.",
                ),
                graph(
                    "Consumers at work",
                    "short",
                    (_GROUP, level("stagedoor_consumer_running", "min", "topic group")),
                    says="1 while every copy's consumer takes events.",
                    red_until=1,
                ),
                graph(
                    "Dead letters", "mps", (_GROUP, rate("stagedoor_dead_letters_total", "topic group")), red_from=1e-9
                ),
            ),
        ),
        Row(
            "Listeners",
            (
                graph(
                    "Gaps",
                    "ops",
                    ("{{job}} {{topic}}", rate("stagedoor_listen_gaps_total", "job topic")),
                    says="Times a listener may have missed events; it then reads the whole state again.",
                ),
                graph(
                    "News only snapshots brought",
                    "cps",
                    ("seat marks", rate("stagedoor_catalog_marks_merged_total", source="snapshot")),
                    says="Seat events that never reached a catalog by themselves.",
                ),
            ),
        ),
    ),
)
