"""Models on this machine: engines behind one protocol, in a child process."""
