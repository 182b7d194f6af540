"""Where messages go: Slack, e-mail, webhooks."""
