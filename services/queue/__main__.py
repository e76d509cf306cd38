"""Run the queue: `python -m services.queue`."""

from libs.common.web.serving import Listening, main
from services.queue.app import create_app
from services.queue.settings import QueueSettings

if __name__ == "__main__":
    main("queue", QueueSettings, lambda settings: [Listening(create_app(settings), settings.port)])
