"""Hooks for the Seven Bridges Platform, and its connection."""
