"""Settings that only the services themselves can judge, told by `make run` in one sentence."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.system import IS_NATIVE, ROOT, RunningSystem

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not IS_NATIVE, reason="E2E_BACKENDS is not native: make test-real runs this"),
]

TOLD_WITHIN_S = 60.0


def test_a_kafka_without_our_topics_is_named_and_ends_the_start(tmp_path: Path) -> None:
    on_a_bare_kafka = [sys.executable, "-m", "infra.native", "serve", "--", "/bin/sh", "-c"]
    refused = subprocess.run(
        [*on_a_bare_kafka, "BACKENDS=embedded BROKER_URL=$TEST_KAFKA_URL exec make run"],
        cwd=ROOT,
        env=RunningSystem(tmp_path).environment,
        capture_output=True,
        text=True,
        timeout=TOLD_WITHIN_S,
        check=False,
    )
    assert refused.returncode != 0
    told = [line for line in refused.stderr.splitlines() if "make" not in line.partition(" ")[0]]
    assert len(told) == 1, refused.stderr
    assert "BROKER_URL: there is no topic" in told[0]
