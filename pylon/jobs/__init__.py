"""The job language of NIP-90 (schema `pylon/1`): pure values, events in and out."""
