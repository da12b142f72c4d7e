"""Lineage: what landed where, told to Airflow's assets, hook lineage and OpenLineage."""
