"""Tables and texts into numbers, by public knowledge alone or by private statistics."""

from __future__ import annotations

from skdp.preprocessing.encoder import SchemaEncoder
from skdp.preprocessing.feature_release import DPFeatureRelease
from skdp.preprocessing.hashing_tokenizer import HashingTokenizer
from skdp.preprocessing.k_bins_discretizer import DPKBinsDiscretizer
from skdp.preprocessing.local_check import LocalCheck
from skdp.preprocessing.min_max_scaler import DPMinMaxScaler
from skdp.preprocessing.one_hot_encoder import DPOneHotEncoder
from skdp.preprocessing.pca import DPPCA
from skdp.preprocessing.quantile_transformer import DPQuantileTransformer
from skdp.preprocessing.schema import Column, Schema
from skdp.preprocessing.simple_imputer import DPSimpleImputer
from skdp.preprocessing.standard_scaler import DPStandardScaler
from skdp.preprocessing.table_vectorizer import DPTableVectorizer

__all__ = [
    "Column",
    "DPFeatureRelease",
    "DPKBinsDiscretizer",
    "DPMinMaxScaler",
    "DPOneHotEncoder",
    "DPPCA",
    "DPQuantileTransformer",
    "DPSimpleImputer",
    "DPStandardScaler",
    "DPTableVectorizer",
    "HashingTokenizer",
    "LocalCheck",
    "Schema",
    "SchemaEncoder",
]
