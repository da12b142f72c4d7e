"""The rules for tasks: validate inputs, decide, what to report. Facts in, decisions out; no I/O, no Airflow."""
