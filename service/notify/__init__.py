"""The outbox's dispatcher, the channels, and what the messages say."""
