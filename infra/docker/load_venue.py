"""Put a venue on sale: `python -m infra.docker.load_venue FILE`, in the image of the tools.

What `make load-venue` does beside the supervisor, for the network of the containers, where CATALOG_URL says where the
catalog is and nothing else of `infra/local` is needed.
"""

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer

from infra.local.load import Loader
from infra.local.venue import read_venue
from libs.common.errors import ConfigError


def load(file: Annotated[Path, typer.Argument(help="a venue as JSON, like infra/local/sample_venue.json")]) -> None:
    """Check a venue file whole, then load it into the catalog; the same again changes nothing."""

    async def put() -> None:
        concert = read_venue(file)
        async with Loader() as loader:
            await loader.put_concert(os.environ.get("CATALOG_URL", "http://127.0.0.1:8092"), concert)
        print(f"concert {concert['id']} is on sale: {len(concert['schedules'])} schedules")

    try:
        asyncio.run(put())
    except ConfigError as wrong:
        raise SystemExit(str(wrong)) from None


if __name__ == "__main__":
    typer.run(load)
