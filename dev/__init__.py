"""Tools for developing the provider; not part of the installed package."""
