"""Lower bounds on epsilon by attack: what a fit, or one query of it, gives away to those who try."""

from __future__ import annotations

from skdp.audit.bound import epsilon_lower_bound, mu_lower_bound
from skdp.audit.one_run import OneRunAudit, audit_one_run
from skdp.audit.pipeline import PipelineCheck, check_pipeline
from skdp.audit.query import QueryAudit, audit_query

__all__ = [
    "OneRunAudit",
    "PipelineCheck",
    "QueryAudit",
    "audit_one_run",
    "audit_query",
    "check_pipeline",
    "epsilon_lower_bound",
    "mu_lower_bound",
]
