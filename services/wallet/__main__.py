"""Run the wallet: `python -m services.wallet`."""

from libs.common.web.serving import Listening, main
from services.wallet.app import create_app
from services.wallet.settings import WalletSettings

if __name__ == "__main__":
    main("wallet", WalletSettings, lambda settings: [Listening(create_app(settings), settings.port)])
