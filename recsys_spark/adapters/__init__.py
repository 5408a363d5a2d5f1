"""Spark around a kernel: Arrow in, Arrow out; module names mirror `kernels`."""
