"""Takes every right but computing from a Linux process: Landlock, seccomp, resource limits, no capabilities."""
