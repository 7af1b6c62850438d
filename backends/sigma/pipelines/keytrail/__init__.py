"""Keytrail's pipelines for sigma-cli: one for each schema, and one for backends without ``|cased``."""

from sigma.pipelines.keytrail.case_sensitive import keytrail_case_sensitive
from sigma.pipelines.keytrail.ecs import keytrail_ecs
from sigma.pipelines.keytrail.ecs_custom import keytrail_ecs_custom
from sigma.pipelines.keytrail.keytrail import keytrail_keytrail
from sigma.pipelines.keytrail.raw import keytrail_raw

__all__ = ["keytrail_case_sensitive", "keytrail_ecs", "keytrail_ecs_custom", "keytrail_keytrail", "keytrail_raw"]
