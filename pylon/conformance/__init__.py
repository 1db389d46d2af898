"""Any provider against the schema `pylon/1`, clause by clause: a customer made of bare events."""
