"""Alerts: limits over log, runs and endpoints; whom to tell when one is crossed; what went out and what came of it."""
