"""Clients that stand around a deployment: they send, and read what comes out."""
