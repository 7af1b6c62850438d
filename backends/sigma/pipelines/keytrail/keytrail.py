"""The pipeline for CloudTrail records as they are, in Keytrail's own index."""

from sigma.processing.pipeline import ProcessingPipeline

from keytrail.backend import pipeline
from keytrail.schemas import get_schema


def keytrail_keytrail() -> ProcessingPipeline:
    """Check a rule's fields for ``keytrail-cloudtrail-*``, which names them as CloudTrail does."""
    return pipeline(get_schema("keytrail"))


__all__ = ["keytrail_keytrail"]
