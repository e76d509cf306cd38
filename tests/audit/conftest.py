"""A sale of each test's own, to damage."""

from pathlib import Path

import pytest

from loadtest.audit import looking
from tests.audit.scene import Ground, a_sale, copy_of, lay_down


@pytest.fixture(scope="session")
def laid_down(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sale")
    lay_down(a_sale(), folder)
    return folder


@pytest.fixture
def ground(laid_down: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ground:
    monkeypatch.setattr(looking, "BETWEEN_LOOKS_S", 0.0)
    return Ground(a_sale(), copy_of(laid_down, tmp_path / "store"))
