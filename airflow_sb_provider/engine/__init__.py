"""The I/O that drives the pure parts: list, check, submit and poll. No Airflow."""
