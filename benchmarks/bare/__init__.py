"""The smallest program that does the exchange of `pylon bench fanout`: how near to its floor a program can come."""
