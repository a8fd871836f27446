"""Carries games over from tables that a Prisma client made and wrote: see docs/prisma.md."""

from .importing import Import, Options
from .names import Names
from .report import Report

__all__ = ["Import", "Names", "Options", "Report"]
