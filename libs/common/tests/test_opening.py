"""A URL that cannot work is one sentence that names its setting, whatever the reason."""

import sys

import pytest

from libs.common.errors import ConfigError
from libs.common.messaging.opening import open_bus
from libs.common.metrics import CommonMetrics
from libs.common.storage.opening import open_store
from libs.common.system import SystemClock


@pytest.mark.parametrize("url", ["postgres://h/x", "sqlite://", "sqlite:///", "memory", ""])
def test_a_store_that_no_adapter_is_written_for_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"STORE_URL: .* is not understood; use "):
        open_store(url, "wallet", SystemClock())


@pytest.mark.parametrize(
    ("url", "adapter", "client"),
    [
        ("sqlite:///x", "libs.common.storage.sqlite", "apsw"),
        ("mongodb://h", "libs.common.storage.mongo.store", "pymongo"),
    ],
)
def test_a_store_whose_client_an_image_lacks_is_refused_by_its_name(
    url: str, adapter: str, client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith(adapter.removesuffix(".store"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, client, None)
    with pytest.raises(ConfigError, match=f"STORE_URL: .* needs {client}, which is not installed here"):
        open_store(url, "wallet", SystemClock())


@pytest.mark.parametrize(("url", "client"), [("kafka://h:1", "aiokafka"), ("redis://h", "hiredis")])
def test_a_broker_whose_client_an_image_lacks_is_refused_by_its_name(
    url: str, client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapters = ("libs.common.messaging.kafka", "libs.common.messaging.redis_streams", "libs.common.redis_client")
    for name in [name for name in sys.modules if name.startswith(adapters)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, client, None)
    with pytest.raises(ConfigError, match=f"BROKER_URL: .* needs {client}, which is not installed here"):
        open_bus(url, "one", SystemClock(), CommonMetrics("test"))
