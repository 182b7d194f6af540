"""Redis and SQL: the log, the chunks, the registry, the head, the tables."""
