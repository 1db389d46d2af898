"""How a Linux process gives up everything but computing: Landlock, seccomp, resource limits, no capabilities."""
