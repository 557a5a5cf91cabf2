-- Roles and databases of the services, made where they are missing. psql reads the passwords from its environment.
-- A statement that fails would otherwise stand in the server's log, with its password.
SET log_min_error_statement = panic;
\getenv harness_password HARNESS_DATABASE_PASSWORD
\getenv mlflow_password MLFLOW_DATABASE_PASSWORD
SELECT format('CREATE ROLE %I LOGIN', name) FROM (VALUES ('harness'), ('mlflow')) AS wanted (name)
  WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
ALTER ROLE harness PASSWORD :'harness_password';
ALTER ROLE mlflow PASSWORD :'mlflow_password';
SELECT format('CREATE DATABASE %I OWNER %I', name, owner)
  FROM (VALUES ('optuna', 'harness'), ('mlflow', 'mlflow'), ('mlflow_users', 'mlflow')) AS wanted (name, owner)
  WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = name) \gexec
-- A role comes to its own databases only.
SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', datname)
  FROM pg_database WHERE datname IN ('optuna', 'mlflow', 'mlflow_users') \gexec
