"""What the log of a training says of its environment and settings: nothing that is a secret.

VISSL logs every variable of the environment and the whole configuration at the start of a run, into
a file that others may read. Its engines call the two functions below instead.
"""

from __future__ import annotations

import logging
import pprint
from collections.abc import Mapping
from typing import Any

import vissl.engines.extract_cluster
import vissl.engines.extract_features
import vissl.engines.train

from vice.redaction import LOGGED, redact, redact_text
from vice.runtime.log_streams import guard

_ENGINES = (
    vissl.engines.train,
    vissl.engines.extract_features,
    vissl.engines.extract_cluster,
)


def log_environment(environment: Mapping[str, str]) -> None:
    """Logs the variables of `vice.redaction.LOGGED`, and how many there are beside them.

    VISSL calls this as soon as its log is open.
    """
    guard(logging.root.handlers)
    shown = sorted(LOGGED & set(environment))
    for name in shown:
        logging.info("%s:\t%s", name, redact_text(environment[name], environment))
    logging.info("%d other variables are set and not logged", len(environment) - len(shown))


def log_settings(config: Any) -> None:
    """Logs the configuration without what is secret in it."""
    logging.info("Training with config:")
    logging.info(pprint.pformat(redact(config)))


def keep_secrets() -> None:
    """Lets VISSL's engines log through this module."""
    for engine in _ENGINES:
        engine.print_system_env_info = log_environment
        engine.print_cfg = log_settings
