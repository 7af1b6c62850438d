"""The pipeline for CloudTrail as Elastic's AWS integration keeps it, with Keytrail's own keywords."""

from sigma.processing.pipeline import ProcessingPipeline

from keytrail.backend import pipeline
from keytrail.schemas import get_schema


def keytrail_ecs_custom() -> ProcessingPipeline:
    """Rename a rule's fields for ``logs-aws.cloudtrail-*`` with the pipeline ``logs-aws.cloudtrail@custom``."""
    return pipeline(get_schema("ecs-custom"))


__all__ = ["keytrail_ecs_custom"]
