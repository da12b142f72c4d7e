"""Triggers: wait for exports without a worker, and watch a volume."""
