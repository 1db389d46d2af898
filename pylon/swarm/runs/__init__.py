"""Runs of jobs, from the call to the last place that is filled, and on disk between."""
