"""Simulated sessions of drift: what happens in them, and how the alerts did."""
