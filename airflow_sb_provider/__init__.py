"""Apache Airflow provider for the Seven Bridges Platform."""

__version__ = "0.1.0"
