"""Run the catalog: `python -m services.catalog`."""

from libs.common.web.serving import Listening, main
from services.catalog.app import create_app
from services.catalog.settings import CatalogSettings

if __name__ == "__main__":
    main("catalog", CatalogSettings, lambda settings: [Listening(create_app(settings), settings.port)])
