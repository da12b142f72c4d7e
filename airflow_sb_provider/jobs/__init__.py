"""What holds for any job of the Platform: its record, its wait, its polls. No I/O, no Airflow."""
