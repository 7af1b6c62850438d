"""Keytrail's pipelines for sigma-cli: one for each schema."""

from sigma.pipelines.keytrail.ecs import keytrail_ecs
from sigma.pipelines.keytrail.keytrail import keytrail_keytrail

__all__ = ["keytrail_ecs", "keytrail_keytrail"]
