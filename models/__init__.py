"""Detectors and forecasters: arrays in, arrays out; no service, no I/O but artifacts."""
