"""Real backends without a container engine: a Kafka broker, and a stand-in that speaks MongoDB's wire protocol."""
