"""This node as a service of the machine."""
