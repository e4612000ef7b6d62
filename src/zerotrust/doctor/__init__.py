"""Checks of a set-up: probes gather facts, and plain functions judge them."""
