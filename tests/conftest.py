from hypothesis import HealthCheck, settings

# What is generated is judged by what it does, not by how long a busy machine takes for it.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
