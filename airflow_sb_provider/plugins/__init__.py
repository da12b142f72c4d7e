"""The tab on a task instance's page. Airflow imports this in each of its processes: keep it light."""
