"""Tables and texts into numbers by public knowledge alone."""

from __future__ import annotations

from skdp.preprocessing.encoder import SchemaEncoder
from skdp.preprocessing.hashing_tokenizer import HashingTokenizer
from skdp.preprocessing.local_check import LocalCheck
from skdp.preprocessing.schema import Column, Schema

__all__ = ["Column", "HashingTokenizer", "LocalCheck", "Schema", "SchemaEncoder"]
