"""The commands of `pylon`: one file for each command, or group of commands."""
