"""The Platform's API v2 as values: calls, models, errors, environments. No I/O and no Airflow in here."""
