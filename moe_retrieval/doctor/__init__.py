"""Examine an installation and a store: every finding names its cure, and what is derived can be repaired."""

from __future__ import annotations

from moe_retrieval.doctor.examination import Examination as Examination
from moe_retrieval.doctor.examination import examine as examine
from moe_retrieval.doctor.findings import Finding as Finding
