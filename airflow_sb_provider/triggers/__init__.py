"""Triggers: wait for exports without a worker."""
