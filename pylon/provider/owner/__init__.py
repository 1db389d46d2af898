"""When the owner of this machine wants no work for others done on it."""
