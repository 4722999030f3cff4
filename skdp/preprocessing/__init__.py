"""Tables and texts into numbers by public knowledge alone, and features of rows released with noise."""

from __future__ import annotations

from skdp.preprocessing.encoder import SchemaEncoder
from skdp.preprocessing.feature_release import DPFeatureRelease
from skdp.preprocessing.hashing_tokenizer import HashingTokenizer
from skdp.preprocessing.local_check import LocalCheck
from skdp.preprocessing.schema import Column, Schema

__all__ = ["Column", "DPFeatureRelease", "HashingTokenizer", "LocalCheck", "Schema", "SchemaEncoder"]
