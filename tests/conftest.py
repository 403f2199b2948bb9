"""What all tests share. Takes CI from the environment, gives hypothesis its profile; touches nothing."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile("tklb", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("tklb"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "tklb")
