"""The barest program that does the exchange of `pylon bench fanout`: how near any program here comes to the floor."""
