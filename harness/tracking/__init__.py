"""MLflow's only room: `store` says where, `client` talks, `project` copies trial folders, `model` exports.

Importing anything here does not import mlflow (2 s of one core); the functions that need it do.
"""
