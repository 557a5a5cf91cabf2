# Three images of one project, by target:
#   services  the MLflow server with its login and optuna-dashboard, without torch
#   cpu       the harness with Ray
#   cuda      the same, told to ask for the NVIDIA driver. torch's wheels from the package index bring the CUDA libraries
#             and run without a GPU, too; a CPU-only torch does not go with the index's torchvision. So the two share
#             every file, and what differs is what the engine gives the container: the driver and the device.
# Versions are those of constraints.txt, as tested.

FROM python:3.11.14-slim-bookworm AS python
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

# Building and installing happens in stages of its own; the images get the result.
FROM python AS building
WORKDIR /source
RUN python -m venv /opt/harness
ENV PATH=/opt/harness/bin:$PATH
COPY constraints.txt ./

FROM building AS building-services
RUN pip install -c constraints.txt mlflow optuna-dashboard "psycopg[binary]" boto3 Flask-WTF
COPY pyproject.toml README.md LICENSE ./
COPY search_spaces search_spaces
COPY harness harness
# Of our own package the server's module alone is used, which needs nothing else.
RUN pip install --no-deps . && pip uninstall --yes pip

FROM building AS building-harness
# 6 GB that change seldom, in a layer of their own.
RUN pip install -c constraints.txt torch torchvision ray
COPY pyproject.toml README.md LICENSE ./
COPY search_spaces search_spaces
COPY harness harness
RUN pip install -c constraints.txt ".[ray,postgres]" && pip uninstall --yes pip

FROM python AS running
RUN groupadd --gid 10001 harness && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp harness
# Where another uid is chosen, it has no entry in /etc/passwd: libraries then ask these.
ENV PATH=/opt/harness/bin:$PATH HOME=/tmp USER=harness GIT_PYTHON_REFRESH=quiet
WORKDIR /sweeps

FROM running AS services
COPY --from=building-services /opt/harness /opt/harness
COPY deploy/dashboard.py /opt/harness/dashboard.py
USER 10001:10001

FROM running AS cpu
COPY --from=building-harness /opt/harness /opt/harness
COPY --chmod=0755 deploy/harness-on-ray /opt/harness/bin/harness-on-ray
ENV NO_ALBUMENTATIONS_UPDATE=1
USER 10001:10001
ENTRYPOINT ["harness-on-ray"]

FROM cpu AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
