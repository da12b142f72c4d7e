from __future__ import annotations

from hypothesis import HealthCheck, settings

# A loaded machine is slow. The time-out of pytest ends a test that hangs.
settings.register_profile("loaded", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("loaded")
