# SPDX-License-Identifier: MIT
"""Lets tools that still look for a setup.py install Pydra; pyproject.toml says everything."""

from setuptools import setup

setup()
