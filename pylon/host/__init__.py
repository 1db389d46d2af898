"""The machine Pylon runs on."""
