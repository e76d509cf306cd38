"""Reads that cannot stampede: whether the cache still shields the store, and whether the view is true."""

from infra.grafana.boards.common import parts, processes, requests, store
from infra.grafana.panels import Board, Row, graph
from infra.grafana.queries import level, quantile, rate, ratio

_C = "stagedoor_catalog"
_READS = rate(f"{_C}_cache_reads_total", "kind")

BOARD = Board(
    "catalog",
    "Catalog",
    "Does the cache shield the store, and do people see the seats that are free?",
    (
        Row(
            "The cache",
            (
                graph("Reads", "reqps", ("{{outcome}}", rate(f"{_C}_cache_reads_total", "outcome"))),
                graph(
                    "Reads that missed or were stale",
                    "percentunit",
                    ("{{kind}}", ratio(rate(f"{_C}_cache_reads_total", "kind", outcome="~miss|stale"), _READS)),
                    says="Share of reads that memory could not answer, or not freshly. A surge is a stampede held "
                    "back by single flight.",
                    red_from=0.1,
                ),
                graph(
                    "Store loads for each read",
                    "percentunit",
                    ("{{kind}}", ratio(rate(f"{_C}_cache_store_loads_total", "kind"), _READS)),
                    says="What the store feels of the readers. Near 0, and the nearer the more readers there are.",
                    red_from=0.02,
                ),
                graph("Store loads", "ops", ("{{kind}}", rate(f"{_C}_cache_store_loads_total", "kind"))),
                graph(
                    "Lowest time left",
                    "s",
                    ("{{kind}}", level(f"{_C}_cache_ttl_left_seconds", "min", "kind")),
                    red_until=2,
                ),
                graph("Oldest thing in memory", "s", ("{{kind}}", level(f"{_C}_cache_age_seconds", by="kind"))),
            ),
        ),
        Row(
            "How it is kept fresh",
            (
                graph(
                    "Time of a load",
                    "s",
                    ("{{kind}}", quantile(0.95, f"{_C}_cache_load_seconds", "kind")),
                    says="95 of 100 loads, from Redis or the store, took at most this long.",
                ),
                graph("Loads that failed", "ops", ("{{kind}}", rate(f"{_C}_cache_loads_failed_total", "kind"))),
                graph("Early refreshes", "ops", ("{{kind}}", rate(f"{_C}_cache_early_refreshes_total", "kind"))),
                graph(
                    "Calls of Redis",
                    "ops",
                    ("{{outcome}}", rate(f"{_C}_shared_cache_calls_total", "outcome")),
                    says="`error`: Redis is slow or gone, which costs a load up to 50 ms more.",
                ),
            ),
        ),
        Row(
            "The view of seats",
            (
                graph(
                    "Seats left",
                    "short",
                    ("{{instance}}", level(f"{_C}_available_seats", by="instance")),
                    says="Free seats of all schedules, as each copy sees them. Copies that differ for long have "
                    "missed events.",
                ),
                graph(
                    "Age of the last snapshot",
                    "s",
                    ("{{instance}}", level(f"{_C}_snapshot_age_seconds", by="instance")),
                    red_from=60,
                ),
                graph("Time of a snapshot", "s", ("95 of 100", quantile(0.95, f"{_C}_snapshot_seconds"))),
                graph(
                    "News merged",
                    "cps",
                    ("{{source}}", rate(f"{_C}_marks_merged_total", "source")),
                    says="Seat marks that were new. From `snapshot`: events this copy had missed.",
                ),
                graph("Answers encoded", "ops", ("{{answer}}", rate(f"{_C}_encodings_total", "answer"))),
            ),
        ),
        requests("catalog"),
        store("catalog"),
        parts("catalog"),
        processes("catalog"),
    ),
)
