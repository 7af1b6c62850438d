"""The pipeline for CloudTrail as Elastic's AWS integration keeps it."""

from sigma.processing.pipeline import ProcessingPipeline

from keytrail.backend import pipeline
from keytrail.schemas import get_schema


def keytrail_ecs() -> ProcessingPipeline:
    """Rename a rule's fields for ``logs-aws.cloudtrail-*``."""
    return pipeline(get_schema("ecs"))


__all__ = ["keytrail_ecs"]
