"""Models that ship with Pylon: their weights as package data, and how they are asked."""
