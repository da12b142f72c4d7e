"""What "exported once" means: validate, decide, when to ask again. Facts in, decisions out; no I/O, no Airflow."""
