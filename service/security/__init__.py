"""API keys, roles, sessions, tenants, audit, encryption and checked outgoing calls."""
