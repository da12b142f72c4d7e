"""Lineage: report exported objects to Airflow's assets, hook lineage and OpenLineage."""
