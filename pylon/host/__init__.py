"""The machine that Pylon runs on: its readings, its service manager, and what this process may use of it."""
