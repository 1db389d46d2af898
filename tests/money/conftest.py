from hypothesis import HealthCheck, settings

# How long an example takes, and is made in, says nothing on a machine that has other work.
settings.register_profile("no-deadline", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no-deadline")
