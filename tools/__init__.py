"""Programs for the developers of Pylon, which the scripts in `scripts/` start. They are not installed with it."""
