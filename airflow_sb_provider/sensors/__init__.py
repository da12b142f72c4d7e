"""Sensors: wait for exports."""
