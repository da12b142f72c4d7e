"""Operators: start exports."""
