"""The rules for exports: validate, decide, what to report. Facts in, decisions out; no I/O, no Airflow."""
