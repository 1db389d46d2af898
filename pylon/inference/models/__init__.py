"""Models on this machine: their files, how they are fetched, which suit it, and those that ship with Pylon."""
