"""Shared by all tests."""

from __future__ import annotations

import os

# Importing albumentations asks the network for updates unless told not to.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
