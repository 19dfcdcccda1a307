"""The hook that every hook of ViCE starts from."""

from __future__ import annotations

from classy_vision.hooks import ClassyHook


class SilentHook(ClassyHook):
    """Does nothing anywhere."""

    on_start = ClassyHook._noop
    on_phase_start = ClassyHook._noop
    on_forward = ClassyHook._noop
    on_loss_and_meter = ClassyHook._noop
    on_backward = ClassyHook._noop
    on_update = ClassyHook._noop
    on_step = ClassyHook._noop
    on_phase_end = ClassyHook._noop
    on_end = ClassyHook._noop
