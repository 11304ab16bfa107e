"""Policies over a network: openpi's websocket interface, as server and as client."""
