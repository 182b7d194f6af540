"""Rules: read from YAML and the API, kept, and judged over the head."""
