"""Websocket connections: opening, TLS, and fast reading and writing on top of the websockets library."""
