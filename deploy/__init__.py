"""The services around sweeps: what docker-compose.yml and scripts/stack have in common, and the stack without Docker.

Files that both read: mlflow.env, mlflow-users.ini, ray.env, databases.sql, dashboard.py.
"""
