"""Training, scoring and forecasting of every series of every tenant."""
