"""The life of alerts in SQL: what they are, whom they notify, when they escalate."""
