"""Backtest, tune, doctor, package, metrics file, Airflow plan."""
