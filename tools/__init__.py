"""Programs for those who work on Pylon, which the scripts in `scripts/` start. They are not installed with it."""
