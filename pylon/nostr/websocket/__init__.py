"""Websockets: dialled, secured, and read and written in the turn of the event loop."""
