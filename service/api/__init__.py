"""HTTP in JSON: one router a topic."""
