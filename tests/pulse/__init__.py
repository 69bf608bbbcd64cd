"""A small client of the hub, written from the wire protocol alone, and the tools to start a hub for a test."""
