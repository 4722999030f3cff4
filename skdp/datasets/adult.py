"""UCI Adult: census records of 1994, and whether a person earned more than 50,000 dollars."""

from __future__ import annotations

from importlib import resources

import pandas as pd

from skdp.datasets.dataset import Dataset
from skdp.preprocessing import Column, Schema

__all__ = ["load_adult"]

# Categories are those that adult.names lists. It gives no bounds of numbers, so theirs come from how the data
# were made: the extraction rule in adult.names (AAGE > 16, HRSWK > 0) and the fields of the Current
# Population Survey.
SCHEMA = Schema(
    (
        Column("age", low=17, high=90, source="extraction rule AAGE > 16; the survey top-codes age at 90"),
        Column(
            "workclass",
            categories=(
                *("Private", "Self-emp-not-inc", "Self-emp-inc", "Federal-gov", "Local-gov", "State-gov"),
                *("Without-pay", "Never-worked"),
            ),
            missing=True,
            source="adult.names; the repository's page lists missing values for this column",
        ),
        Column(
            "fnlwgt",
            low=0,
            high=1_000_000,
            source="chosen: a weight counts hundredths of a person, and 10,000 persons are several times the "
            "mean that population over sample size implies; larger weights are clipped",
        ),
        Column(
            "education",
            categories=(
                *(
                    "Bachelors",
                    "Some-college",
                    "11th",
                    "HS-grad",
                    "Prof-school",
                    "Assoc-acdm",
                    "Assoc-voc",
                    "9th",
                ),
                *("7th-8th", "12th", "Masters", "1st-4th", "10th", "Doctorate", "5th-6th", "Preschool"),
            ),
            source="adult.names",
        ),
        Column("education-num", low=1, high=16, source="rank among the 16 levels of education"),
        Column(
            "marital-status",
            categories=(
                *("Married-civ-spouse", "Divorced", "Never-married", "Separated", "Widowed"),
                *("Married-spouse-absent", "Married-AF-spouse"),
            ),
            source="adult.names",
        ),
        Column(
            "occupation",
            categories=(
                *(
                    "Tech-support",
                    "Craft-repair",
                    "Other-service",
                    "Sales",
                    "Exec-managerial",
                    "Prof-specialty",
                ),
                *(
                    "Handlers-cleaners",
                    "Machine-op-inspct",
                    "Adm-clerical",
                    "Farming-fishing",
                    "Transport-moving",
                ),
                *("Priv-house-serv", "Protective-serv", "Armed-Forces"),
            ),
            missing=True,
            source="adult.names; the repository's page lists missing values for this column",
        ),
        Column(
            "relationship",
            categories=("Wife", "Own-child", "Husband", "Not-in-family", "Other-relative", "Unmarried"),
            source="adult.names",
        ),
        Column(
            "race",
            categories=("White", "Asian-Pac-Islander", "Amer-Indian-Eskimo", "Other", "Black"),
            source="adult.names",
        ),
        Column("sex", categories=("Female", "Male"), source="adult.names"),
        Column(
            "capital-gain",
            low=0,
            high=99_999,
            transform="log1p",
            source="the survey's five-digit field, in dollars",
        ),
        Column(
            "capital-loss",
            low=0,
            high=99_999,
            transform="log1p",
            source="chosen: the same range as capital-gain",
        ),
        Column("hours-per-week", low=1, high=99, source="extraction rule HRSWK > 0; a two-digit field"),
        Column(
            "native-country",
            categories=(
                *("United-States", "Cambodia", "England", "Puerto-Rico", "Canada", "Germany"),
                *("Outlying-US(Guam-USVI-etc)", "India", "Japan", "Greece", "South", "China", "Cuba", "Iran"),
                *(
                    "Honduras",
                    "Philippines",
                    "Italy",
                    "Poland",
                    "Jamaica",
                    "Vietnam",
                    "Mexico",
                    "Portugal",
                    "Ireland",
                ),
                *(
                    "France",
                    "Dominican-Republic",
                    "Laos",
                    "Ecuador",
                    "Taiwan",
                    "Haiti",
                    "Columbia",
                    "Hungary",
                ),
                *(
                    "Guatemala",
                    "Nicaragua",
                    "Scotland",
                    "Thailand",
                    "Yugoslavia",
                    "El-Salvador",
                    "Trinadad&Tobago",
                ),
                *("Peru", "Hong", "Holand-Netherlands"),
            ),
            missing=True,
            source="adult.names; the repository's page lists missing values for this column",
        ),
    )
)
TARGET = "income"
CLASSES = ("<=50K", ">50K")


def load_adult(*, return_X_y=False):
    """Load the UCI Adult census data with its public schema; nothing is downloaded.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return the training rows and labels alone.

    Returns
    -------
    Dataset or (pandas.DataFrame, pandas.Series)
        32,561 training and 16,281 test rows (the original split, which is public) of 14 columns; labels are
        ``"<=50K"`` and ``">50K"``. ``fnlwgt`` is the survey's weight, not a property of a person: leave it
        out of models with ``schema.without("fnlwgt")``.

    Notes
    -----
    Becker and Kohavi, "Adult", UCI Machine Learning Repository, 1996, doi:10.24432/C5XW20, licensed under CC
    BY 4.0. The schema is taken from the documentation of the data and not from the rows;
    ``schema[name].source`` says where each entry comes from.

    Examples
    --------
    >>> from skdp.datasets import load_adult
    >>> from skdp.preprocessing import SchemaEncoder
    >>> adult = load_adult()
    >>> adult.X_train.shape
    (32561, 14)
    >>> SchemaEncoder(adult.schema).fit_transform(adult.X_train).shape
    (32561, 108)
    """
    folder = resources.files("skdp.datasets") / "data"
    with resources.as_file(folder / "adult.csv.xz") as path:
        # Only an empty field is missing; pandas would read more spellings as NaN.
        frame = pd.read_csv(path, keep_default_na=False, na_values=[""])
    train = frame.pop("split") == "train"
    y = frame.pop(TARGET)
    X_train, y_train = frame[train].reset_index(drop=True), y[train].reset_index(drop=True)
    if return_X_y:
        return X_train, y_train
    return Dataset(
        name="adult",
        X_train=X_train,
        X_test=frame[~train].reset_index(drop=True),
        y_train=y_train,
        y_test=y[~train].reset_index(drop=True),
        schema=SCHEMA,
        classes=CLASSES,
        DESCR=(folder / "ADULT_ATTRIBUTION.txt").read_text(encoding="utf-8"),
    )
