"""Measurements that the README and the issues quote; ``python -m benchmarks NAME``."""
