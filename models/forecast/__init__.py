"""Forecasters and the choice between them."""
