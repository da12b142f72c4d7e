"""The rules for any kind of job: submission records, decisions, waits and polls. No I/O, no Airflow."""
